//! Pods.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use crate::objectmeta::{keep, next_generation, reset_for_status};
use crate::pod::spec::Options;
use crate::pod::{columns, defaults, disabled, qos, spec, status, update, warnings};
use crate::{Context, Strategy, check, ip};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Pod",
    default: |pod, _| {
        // pods only: a template keeps what it says
        if pod.at("spec").int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
            pod.child("spec").set("terminationGracePeriodSeconds", 1);
        }
        defaults::pod(pod);
        pod_ips(pod);
    },
    prepare_create,
    prepare_update,
    validate: |pod, context| spec::create(pod, Options::pod(context)),
    validate_update,
    warnings: self::warnings,
    selectable: &[
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    ],
    select,
    columns: Some(columns::COLUMNS),
    grace_period,
    resets: &[
        ("", &[&["status"]]),
        ("status", &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]),
    ],
    writes_only: &[
        ("ephemeralcontainers", &[&["spec", "ephemeralContainers"]]),
        (
            "resize",
            &[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
            ],
        ),
    ],
    ..Strategy::BASE
};

/// `podIP` is the first of `podIPs`; where they differ it wins, as for clients that know only it.
fn pod_ips(pod: &mut Value) {
    let Some(status) = pod.child_if("status") else { return };
    let first = status.list("podIPs").first().map_or("", |ip| ip.text("ip")).to_owned();
    let one = status.text("podIP").to_owned();
    if !one.is_empty() && one != first {
        status.set("podIPs", json!([{"ip": one}]));
    } else if one.is_empty() && !first.is_empty() {
        status.set("podIP", first);
    }
}

fn prepare_create(pod: &mut Value, context: &Context) {
    disabled::drop(pod.child("spec"), &Value::Null, context);
    pod.child("metadata").set("generation", 1);
    let class = qos::class(pod.at("spec"));
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !pod.at("spec").list("schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null,
            "lastTransitionTime": context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod.set("status", status);
    let labels = pod.at("metadata").at("labels").clone();
    let spec = pod.child("spec");
    affinity_by_label_keys(spec, &labels);
    for constraint in spec.list_mut("topologySpreadConstraints") {
        merge_label_keys(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn affinity_by_label_keys(spec: &mut Value, labels: &Value) {
    let Some(affinity) = spec.child_if("affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = affinity.child_if(kind) else { continue };
        for weighted in affinity.list_mut("preferredDuringSchedulingIgnoredDuringExecution") {
            affinity_term(weighted.child("podAffinityTerm"), labels);
        }
        for term in affinity.list_mut("requiredDuringSchedulingIgnoredDuringExecution") {
            affinity_term(term, labels);
        }
    }
}

fn affinity_term(term: &mut Value, labels: &Value) {
    merge_label_keys(term, "matchLabelKeys", "In", labels);
    merge_label_keys(term, "mismatchLabelKeys", "NotIn", labels);
}

/// The pod's own values of these labels become terms of the selector (KEP-3633, KEP-3243).
fn merge_label_keys(term: &mut Value, keys: &str, operator: &str, labels: &Value) {
    if !term.has("labelSelector") {
        return;
    }
    let found: Vec<Value> = term
        .list(keys)
        .iter()
        .filter_map(|key| Some((key, labels.get(key.as_str()?)?)))
        .map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]}))
        .collect();
    if found.is_empty() {
        return;
    }
    let selector = term.child("labelSelector");
    let mut all = selector.list("matchExpressions").to_vec();
    all.extend(found);
    selector.set("matchExpressions", all);
}

fn prepare_update(pod: &mut Value, old: &Value, context: &Context) {
    disabled::drop(pod.child("spec"), old.at("spec"), context);
    match context.subresource {
        // The server's own assignment to a node: nothing of it is the client's to change.
        "binding" => {}
        "status" => prepare_status(pod, old),
        "ephemeralcontainers" => {
            let containers = pod.at("spec").at("ephemeralContainers").clone();
            keep(pod, old, "spec");
            keep(pod, old, "status");
            reset_for_status(pod, old);
            if !containers.is_null() {
                pod.child("spec").set("ephemeralContainers", containers);
            }
            count(pod, old);
        }
        "resize" => {
            prepare_resize(pod, old);
            count(pod, old);
        }
        _ => {
            keep(pod, old, "status");
            count(pod, old);
        }
    }
}

fn count(pod: &mut Value, old: &Value) {
    if !check::same(pod.at("spec"), old.at("spec")) {
        next_generation(pod, old);
    }
}

fn prepare_status(pod: &mut Value, old: &Value) {
    keep(pod, old, "spec");
    let before = old.at("metadata");
    let meta = pod.child("metadata");
    // A status write neither begins nor takes back a deletion.
    keep(meta, before, "deletionTimestamp");
    keep(meta, before, "ownerReferences");
    let before = old.at("status");
    let status = pod.child("status");
    for field in ["qosClass", "observedGeneration"] {
        if status.text(field).is_empty() && status.int(field).unwrap_or(0) == 0 && before.has(field) {
            status.set(field, before.at(field).clone());
        }
    }
    let mut known: Vec<&Value> = before.list("conditions").iter().collect();
    for condition in status.list_mut("conditions") {
        let Some(at) = known.iter().position(|c| c.text("type") == condition.text("type")) else { continue };
        let old = known.remove(at);
        if condition.int("observedGeneration").unwrap_or(0) == 0 && old.has("observedGeneration") {
            condition.set("observedGeneration", old.at("observedGeneration").clone());
        }
    }
}

/// Only resources and resize policies may change; when containers were added, removed or renamed all is left as it is,
/// for validation to refuse.
fn prepare_resize(pod: &mut Value, old: &Value) {
    let lists = ["containers", "initContainers"];
    let (spec, before) = (pod.at("spec"), old.at("spec"));
    if lists.iter().any(|list| spec.list(list).len() != before.list(list).len()) {
        return;
    }
    let mut next = before.clone();
    for list in lists {
        let (new, old) = (spec.list(list), before.list(list));
        if new.iter().zip(old).any(|(a, b)| a.text("name") != b.text("name")) {
            next.set(list, new.to_vec());
            continue;
        }
        for (container, new) in next.list_mut(list).iter_mut().zip(new) {
            keep(container, new, "resources");
            keep(container, new, "resizePolicy");
        }
    }
    keep(&mut next, spec, "resources");
    pod.set("spec", next);
    keep(pod, old, "status");
    reset_for_status(pod, old);
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let options = Options::pod(context);
    match context.subresource {
        "binding" => ErrorList::new(),
        "status" => status::update(new, old, options),
        "ephemeralcontainers" => update::ephemeral_containers(new, old, options),
        "resize" => update::resize(new, old, options),
        _ => update::update(new, old, options),
    }
}

fn warnings(pod: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    match (old, context.subresource) {
        (None, _) => {
            let name = pod.at("metadata").text("name");
            let mut out: Vec<String> = warnings::name(name, "the Pod's hostname").into_iter().collect();
            out.extend(warnings::warnings(pod, &Path::root()));
            out
        }
        (Some(_), "status") => {
            let mut out = Vec::new();
            for field in ["podIPs", "hostIPs"] {
                for (i, address) in pod.at("status").list(field).iter().enumerate() {
                    let at = Path::new("status").child(field).index(i).child("ip");
                    out.extend(ip::warnings(&at, address.text("ip")));
                }
            }
            out
        }
        _ => Vec::new(),
    }
}

fn select(pod: &Value, field: &str) -> String {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    match field {
        "spec.hostNetwork" => spec.flag("hostNetwork").unwrap_or(false).to_string(),
        "status.podIP" => status.list("podIPs").first().map_or("", |ip| ip.text("ip")).to_owned(),
        _ => match field.split_once('.') {
            Some(("spec", name)) => spec.text(name).to_owned(),
            Some(("status", name)) => status.text(name).to_owned(),
            _ => String::new(),
        },
    }
}

fn grace_period(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let spec = pod.at("spec");
    let period = asked.or(spec.int("terminationGracePeriodSeconds")).unwrap_or(0);
    let over = matches!(pod.at("status").text("phase"), "Failed" | "Succeeded");
    if spec.text("nodeName").is_empty() || over {
        return Some(0);
    }
    Some(if period < 0 { 1 } else { period })
}
