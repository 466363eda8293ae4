//! Fields of pods that belong to features which are off by default.

use machinery::{Get, Value};

use crate::Context;

/// Takes such fields out of a pod's spec, unless it had them before.
pub(crate) fn drop(spec: &mut Value, old: &Value, context: &Context) {
    if !context.enabled("ClusterTrustBundleProjection") && has_bundles(spec) && !has_bundles(old) {
        for volume in spec.list_mut("volumes") {
            let Some(projected) = volume.child_if("projected") else { continue };
            for source in projected.list_mut("sources") {
                source.unset("clusterTrustBundle");
            }
        }
    }
    if !context.enabled("ContainerStopSignals") && has_stop_signals(spec) && !has_stop_signals(old) {
        for list in CONTAINERS {
            for container in spec.list_mut(list) {
                if let Some(lifecycle) = container.child_if("lifecycle") {
                    lifecycle.unset("stopSignal");
                }
            }
        }
    }
}

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

fn has_bundles(spec: &Value) -> bool {
    let sources = spec.list("volumes").iter().flat_map(|v| v.at("projected").list("sources"));
    sources.into_iter().any(|source| source.has("clusterTrustBundle"))
}

fn has_stop_signals(spec: &Value) -> bool {
    let containers = CONTAINERS.iter().flat_map(|list| spec.list(list));
    containers.into_iter().any(|c| c.at("lifecycle").has("stopSignal"))
}
