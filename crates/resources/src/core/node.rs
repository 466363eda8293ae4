//! Nodes.

use jiff::Timestamp;
use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value, json};

use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name};
use crate::gostruct::{Field, Zero, show};
use crate::objectmeta::keep;
use crate::pod::{requirements, scheduling};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, ip, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Node",
    default,
    prepare_create: |node, _| {
        node.child("spec").unset("configSource");
        node.child("status").unset("config");
    },
    prepare_update,
    validate: |node, _| validate(node),
    validate_update,
    warnings,
    selectable: &["spec.unschedulable"],
    select: |node, _| node.at("spec").flag("unschedulable").unwrap_or(false).to_string(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Status", "string", "", 0, "The status of the node"),
    ("Roles", "string", "", 0, "The roles of the node"),
    ("Age", "string", "", 0, CREATED),
    ("Version", "string", "", 0, "Kubelet Version reported by the node."),
    (
        "Internal-IP",
        "string",
        "",
        1,
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).",
    ),
    (
        "External-IP",
        "string",
        "",
        1,
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).",
    ),
    (
        "OS-Image",
        "string",
        "",
        1,
        "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
    ),
    (
        "Kernel-Version",
        "string",
        "",
        1,
        "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
    ),
    (
        "Container-Runtime",
        "string",
        "",
        1,
        "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
    ),
];

fn default(node: &mut Value, _: &Context) {
    if let Some(status) = node.child_if("status")
        && status.has("capacity")
    {
        let capacity = status.at("capacity").clone();
        status.set_default("allocatable", capacity);
    }
    let spec = node.child("spec");
    let (one, many) = (spec.text("podCIDR").to_owned(), spec.list("podCIDRs"));
    let first = many.first().and_then(Value::as_str).unwrap_or("").to_owned();
    if !one.is_empty() && one != first {
        spec.set("podCIDRs", json!([one]));
    } else if one.is_empty() && !first.is_empty() {
        spec.set("podCIDR", first);
    }
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        keep(new, old, "spec");
        if !old.at("status").has("config") {
            new.child("status").unset("config");
        }
        return;
    }
    keep(new, old, "status");
    if !old.at("spec").has("configSource") {
        new.child("spec").unset("configSource");
    }
}

fn validate(node: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(node, false, names::subdomain_name);
    let (spec, status) = (node.at("spec"), node.at("status"));
    let meta_at = Path::new("metadata");
    // upstream says metadata of the taints, which are in spec
    taints(spec.list("taints"), &meta_at.child("taints"), &mut errors);
    resources(status, &mut errors);
    if let Some(swap) = status.at("nodeInfo").at("swap").int("capacity").filter(|c| *c <= 0) {
        let at = meta_at.child("nodeSwapStatus").child("capacity");
        errors.invalid(&at, swap, "must be greater than zero");
    }
    features(status.list("declaredFeatures"), &Path::new("status").child("declaredFeatures"), &mut errors);
    let at = Path::new("spec").child("podCIDRs");
    let cidrs = spec.list("podCIDRs");
    for (i, cidr) in cidrs.iter().filter_map(Value::as_str).enumerate() {
        ip::legacy_cidr(&at.index(i), cidr, &[], &mut errors);
    }
    let families = cidrs.iter().filter_map(Value::as_str).map(|c| !c.contains(':'));
    if cidrs.len() > 1 && (cidrs.len() > 2 || !ip::at_most_one_of_each(families)) {
        errors.invalid(&at, cidrs.to_vec(), "may specify no more than one CIDR for each IP family");
    }
    errors
}

fn taints(taints: &[Value], at: &Path, errors: &mut ErrorList) {
    const TAINT: &[Field] = &[
        ("Key", "key", Zero::Text),
        ("Value", "value", Zero::Text),
        ("Effect", "effect", Zero::Text),
        ("TimeAdded", "timeAdded", Zero::Null),
    ];
    for (i, taint) in taints.iter().enumerate() {
        let at = at.index(i);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        check::label_name(key, &at.child("key"), errors);
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&at.child("value"), value, messages.join(";"));
        }
        if effect.is_empty() {
            errors.required(&at.child("effect"), "");
        } else {
            scheduling::taint_effect(effect, &at.child("effect"), errors);
        }
        if taints[..i].iter().any(|t| t.text("key") == key && t.text("effect") == effect) {
            let mut error = Error::duplicate(&at, Value::Null);
            error.value = None;
            error.detail = format!("{}: taints must be unique by key and effect pair", show(taint, TAINT));
            errors.push(error);
        }
    }
}

fn resources(status: &Value, errors: &mut ErrorList) {
    for list in ["capacity", "allocatable"] {
        for (name, value) in status.map(list).into_iter().flatten() {
            let at = Path::new("status").child(list).child(name);
            requirements::quantity_value(name, value, &at, errors);
        }
    }
}

fn features(features: &[Value], at: &Path, errors: &mut ErrorList) {
    let list: Vec<&str> = features.iter().filter_map(Value::as_str).collect();
    for (i, feature) in list.iter().enumerate() {
        let mut parts = feature.split('/');
        let word = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric());
        let camel = parts.next().is_some_and(|p| word(p) && p.as_bytes()[0].is_ascii_uppercase());
        if feature.len() > 253 {
            let detail = format!("invalid feature name {feature:?}: must be no more than 253 characters");
            errors.invalid(&at.index(i), *feature, detail);
        } else if !camel || !parts.all(word) {
            let detail = format!(
                "invalid feature name {feature:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.invalid(&at.index(i), *feature, detail);
        }
        if let Some(next) = list.get(i + 1) {
            if feature == next {
                errors.duplicate(&at.index(i + 1), *next);
            } else if feature > next {
                errors.invalid(&at.index(i + 1), *next, "list must be sorted alphabetically");
            }
        }
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = if context.subresource == "status" { ErrorList::new() } else { validate(new) };
    errors.extend(objectmeta::validate_update(new, old));
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let status = new.at("status");
    resources(status, &mut errors);
    features(status.list("declaredFeatures"), &Path::new("status").child("declaredFeatures"), &mut errors);
    const ADDRESS: &[Field] = &[("Type", "type", Zero::Text), ("Address", "address", Zero::Text)];
    let addresses = status.list("addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            let mut error = Error::duplicate(&Path::new("status").child("addresses").index(i), Value::Null);
            error.value = None;
            error.detail = show(address, ADDRESS);
            errors.push(error);
        }
    }
    let at = Path::new("spec");
    let was = before.list("podCIDRs");
    let now = spec.list("podCIDRs");
    let detail = "node updates may not change podCIDR except from \"\" to valid";
    let changed =
        if was.len() == now.len() { was.iter().zip(now).filter(|(a, b)| a != b).count() } else { 1 };
    if !was.is_empty() {
        for _ in 0..changed {
            errors.forbidden(&at.child("podCIDRs"), detail);
        }
    }
    let provider = before.text("providerID");
    if !provider.is_empty() && provider != spec.text("providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&at.child("providerID"), detail);
    }
    taints(spec.list("taints"), &Path::new("metadata").child("taints"), &mut errors);
    if spec.text("externalID") != before.text("externalID") {
        errors.forbidden(&at.child("externalID"), "may not be updated");
    }
    errors
}

fn warnings(node: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() && context.subresource == "status" {
        return out;
    }
    let spec = node.at("spec");
    if spec.has("configSource") {
        out.push("spec.configSource: the feature is no longer supported".into());
    }
    if !spec.text("externalID").is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    for (i, cidr) in spec.list("podCIDRs").iter().filter_map(Value::as_str).enumerate() {
        out.extend(ip::cidr_warnings(&Path::new("spec").child("podCIDRs").index(i), cidr));
    }
    out
}

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (node.at("spec"), node.at("status"));
    let ready = status.list("conditions").iter().rev().find(|c| c.text("type") == "Ready");
    let mut state = match ready.map(|c| c.text("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if spec.flag("unschedulable") == Some(true) {
        state.push_str(",SchedulingDisabled");
    }
    let info = status.at("nodeInfo");
    let known = |field: &str| {
        let text = info.text(field);
        if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() }
    };
    let mut kernel = known("kernelVersion");
    let architecture = info.text("architecture");
    if !architecture.is_empty() {
        kernel.push_str(&format!(" ({architecture})"));
    }
    let address = |kind: &str| {
        let found = status.list("addresses").iter().find(|a| a.text("type") == kind);
        found.map_or("<none>", |a| a.text("address")).to_owned()
    };
    vec![
        name(node),
        state.into(),
        roles(node).into(),
        age(node, now),
        info.text("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = node
        .at("metadata")
        .map("labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}
