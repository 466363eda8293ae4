//! The quality-of-service class of a pod (`pkg/apis/core/helper/qos`).

use machinery::{Get, Value};

use crate::quantity;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`, from the spec alone.
pub(crate) fn class(spec: &Value) -> &'static str {
    let pod_level = spec.at("resources");
    let mut requests = [0_i128; 2];
    let mut limits = [0_i128; 2];
    let mut guaranteed = true;
    let mut seen = (false, false);
    let mut add = |resources: &Value| {
        let mut limited = 0;
        for (i, name) in COUNTED.iter().enumerate() {
            let request = quantity::of(resources.at("requests").at(name));
            if request > 0 {
                requests[i] += request;
                seen.0 = true;
            }
            let limit = quantity::of(resources.at("limits").at(name));
            if limit > 0 {
                limits[i] += limit;
                limited += 1;
                seen.1 = true;
            }
        }
        guaranteed &= limited == 2;
    };
    if pod_level.map("requests").is_some_and(|m| !m.is_empty())
        || pod_level.map("limits").is_some_and(|m| !m.is_empty())
    {
        add(pod_level);
    } else {
        for list in ["containers", "initContainers"] {
            for container in spec.list(list) {
                add(container.at("resources"));
            }
        }
    }
    match seen {
        (false, false) => "BestEffort",
        _ if guaranteed && (0..2).all(|i| requests[i] == limits[i]) => "Guaranteed",
        _ => "Burstable",
    }
}
