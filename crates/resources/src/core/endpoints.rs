//! Endpoints, the older form of EndpointSlices.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::service::protocol;
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::pod::defaults::text;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, ip, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Endpoints",
    default: |obj, _| {
        for subset in obj.list_mut("subsets") {
            for port in subset.list_mut("ports") {
                text(port, "protocol", "TCP");
            }
        }
    },
    validate: |obj, _| validate(obj, None),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        errors.extend(validate(new, Some(old)));
        errors
    },
    warnings,
    create_on_update: true,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now: Timestamp| vec![name(obj), shown(obj).into(), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Endpoints",
        "string",
        "",
        0,
        "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    if !old.is_some_and(|old| same(old.at("subsets"), obj.at("subsets"))) {
        subsets(obj.list("subsets"), &Path::new("subsets"), &mut errors);
    }
    errors
}

fn subsets(subsets: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, subset) in subsets.iter().enumerate() {
        let at = at.index(i);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|l| subset.list(l).is_empty()) {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in lists {
            for (j, address) in subset.list(list).iter().enumerate() {
                endpoint(address, &at.child(list).index(j), errors);
            }
        }
        let ports = subset.list("ports");
        for (j, port) in ports.iter().enumerate() {
            let at = at.child("ports").index(j);
            let name = port.text("name");
            if !name.is_empty() {
                errors.each(&at.child("name"), name, names::dns1123_label(name));
            } else if ports.len() > 1 {
                errors.required(&at.child("name"), "");
            }
            let number = port.int("port").unwrap_or(0);
            errors.each(&at.child("port"), number, names::port_number(number));
            protocol(port, &at, errors);
            if let Some(name) = port.at("appProtocol").as_str() {
                errors.each(&at.child("appProtocol"), name, names::qualified_name(name));
            }
        }
    }
}

fn endpoint(address: &Value, at: &Path, errors: &mut ErrorList) {
    let text = address.text("ip");
    ip::legacy(&at.child("ip"), text, &[], errors);
    let host = address.text("hostname");
    if !host.is_empty() {
        errors.each(&at.child("hostname"), host, names::dns1123_label(host));
    }
    if let Some(node) = address.at("nodeName").as_str() {
        errors.each(&at.child("nodeName"), node, names::subdomain_name(node, false));
    }
    ip::endpoint(&at.child("ip"), text, errors);
}

fn warnings(obj: &Value, _: Option<&Value>, _: &Context) -> Vec<String> {
    let label = "endpoints.kubernetes.io/managed-by";
    if obj.at("metadata").at("labels").text(label) == "endpoint-controller" {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (i, subset) in obj.list("subsets").iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.list(list).iter().enumerate() {
                let at = Path::new("subsets").index(i).child(list).index(j).child("ip");
                out.extend(ip::warnings(&at, address.text("ip")));
            }
        }
    }
    out
}

/// The first three endpoints, and how many more there are.
fn shown(obj: &Value) -> String {
    let subsets = obj.list("subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all: Vec<String> = Vec::new();
    let mut count = 0;
    for subset in subsets {
        let (addresses, ports) = (subset.list("addresses"), subset.list("ports"));
        if ports.is_empty() {
            for address in addresses {
                if all.len() < 3 {
                    all.push(address.text("ip").to_owned());
                }
                count += 1;
            }
        }
        for port in ports {
            for address in addresses {
                if all.len() < 3 {
                    let (ip, port) = (address.text("ip"), port.int("port").unwrap_or(0));
                    all.push(if ip.contains(':') {
                        format!("[{ip}]:{port}")
                    } else {
                        format!("{ip}:{port}")
                    });
                }
                count += 1;
            }
        }
    }
    let list = all.join(",");
    if count > 3 { format!("{list} + {} more...", count - 3) } else { list }
}
