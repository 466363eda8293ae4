//! TaintNodesByCondition (a new node is not ready until it says so) and NodeRestriction (a kubelet changes only what is
//! its own). <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::{Get, Status, Value, json, meta};

use super::serviceaccount::MIRROR;
use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static TAINTS: Plugin = Plugin {
    name: "TaintNodesByCondition",
    mutate: Some(|_, attributes| async move { taint(attributes) }.boxed()),
    validate: None,
};

pub static RESTRICTION: Plugin = Plugin {
    name: "NodeRestriction",
    mutate: Some(|call, attributes| async move { restrict(call, attributes) }.boxed()),
    validate: None,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn taint(a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "nodes") || a.operation != Operation::Create {
        return Ok(());
    }
    let Some(node) = &mut a.object else { return Ok(()) };
    let mut taints = node.at("spec").list("taints").to_vec();
    let has = taints.iter().any(|t| t.text("key") == NOT_READY && t.text("effect") == "NoSchedule");
    if !has {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node.child("spec").set("taints", taints);
    }
    Ok(())
}

fn restrict(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let user = call.user.clone();
    let Some(node) = user.node() else { return Ok(()) };
    match (a.resource.group.as_str(), a.resource.name.as_str(), a.subresource.as_str()) {
        ("", "pods", "") => pod(call, a, node),
        ("", "pods", "status") => pod_status(a, node),
        ("", "pods", "eviction") => eviction(call, a, node),
        ("", "pods", other) => Err(forbidden(
            a,
            &format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                go_quote(other)
            ),
        )),
        ("", "nodes", _) => own_node(a, node),
        ("", "serviceaccounts", "token") => token(call, a, node),
        ("coordination.k8s.io", "leases", _) => lease(a, node),
        ("storage.k8s.io", "csinodes", _) => {
            let name = if a.name.is_empty() { meta::name(a.object()) } else { &a.name };
            if name == node {
                return Ok(());
            }
            Err(forbidden(a, "can only access CSINode with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn pod(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(forbidden(a, &why));
    let quoted = go_quote(node);
    match a.operation {
        Operation::Create => {
            let pod = a.object();
            if !meta::annotations(pod).is_some_and(|m| m.contains_key(MIRROR)) {
                return refuse(format!(
                    "pod does not have {} annotation, node {quoted} can only create mirror pods",
                    go_quote(MIRROR)
                ));
            }
            if pod.at("spec").text("nodeName") != node {
                return refuse(format!(
                    "node {quoted} can only create pods with spec.nodeName set to itself"
                ));
            }
            let owners = pod.at("metadata").list("ownerReferences");
            let [owner] = owners else {
                return if owners.is_empty() {
                    refuse(format!(
                        "node {quoted} can only create pods with an owner reference set to itself"
                    ))
                } else {
                    refuse(format!(
                        "node {quoted} can only create pods with a single owner reference set to itself"
                    ))
                };
            };
            if owner.text("kind") != "Node" || owner.text("name") != node || owner.text("apiVersion") != "v1"
            {
                return refuse(format!(
                    "node {quoted} can only create pods with an owner reference set to itself"
                ));
            }
            if owner.flag("controller") != Some(true) {
                return refuse(format!(
                    "node {quoted} can only create pods with a controller owner reference set to itself"
                ));
            }
            if owner.flag("blockOwnerDeletion") == Some(true) {
                return refuse(format!(
                    "node {quoted} must not set blockOwnerDeletion on an owner reference"
                ));
            }
            let live = cached(call, "", "nodes", node).unwrap_or_default();
            if meta::uid(&live) != owner.text("uid") {
                return refuse(format!(
                    "node {node} UID mismatch: expected {} got {}",
                    owner.text("uid"),
                    meta::uid(&live)
                ));
            }
            if !pod.at("spec").text("serviceAccountName").is_empty() {
                return refuse(format!("node {quoted} can not create pods that reference serviceaccounts"));
            }
            Ok(())
        }
        Operation::Delete if a.old().at("spec").text("nodeName") != node => {
            refuse(format!("node {quoted} can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Delete | Operation::Connect => Ok(()),
        other => refuse(format!(
            "unexpected operation {}, node {quoted} can only create and delete mirror pods",
            go_quote(other.name())
        )),
    }
}

fn pod_status(a: &Attributes, node: &str) -> Result<(), Status> {
    let quoted = go_quote(node);
    if a.old().at("spec").text("nodeName") != node {
        return Err(forbidden(
            a,
            &format!("node {quoted} can only update pod status for pods with spec.nodeName set to itself"),
        ));
    }
    if a.old().at("metadata").at("labels") != a.object().at("metadata").at("labels") {
        return Err(forbidden(a, &format!("node {quoted} cannot update labels through pod status")));
    }
    Ok(())
}

fn eviction(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let key = format!("{}/{}", a.namespace, a.name);
    match cached(call, "", "pods", &key) {
        Some(pod) if pod.at("spec").text("nodeName") != node => {
            Err(forbidden(a, &format!("node {node} can only evict pods with spec.nodeName set to itself")))
        }
        _ => Ok(()),
    }
}

/// Labels under kubernetes.io and k8s.io that a kubelet may set on its node.
fn may_label(key: &str) -> bool {
    const NAMED: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let under = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
    if NAMED.contains(&key) || under("kubelet.kubernetes.io") || under("node.kubernetes.io") {
        return true;
    }
    !under("kubernetes.io") && !under("k8s.io")
}

fn own_node(a: &Attributes, node: &str) -> Result<(), Status> {
    let quoted = go_quote(node);
    let name = if a.name.is_empty() { meta::name(a.object()).to_owned() } else { a.name.clone() };
    if name != node {
        return Err(forbidden(
            a,
            &format!("node {quoted} is not allowed to modify node {}", go_quote(&name)),
        ));
    }
    let labels = |o: &Value| meta::labels(o).cloned().unwrap_or_default();
    match a.operation {
        Operation::Create => {
            let bad: Vec<String> = labels(a.object()).keys().filter(|k| !may_label(k)).cloned().collect();
            if !bad.is_empty() {
                return Err(forbidden(
                    a,
                    &format!("node {quoted} is not allowed to set the following labels: {}", bad.join(", ")),
                ));
            }
        }
        Operation::Update => {
            let (new, old) = (a.object(), a.old());
            if a.subresource.is_empty() && new.at("spec").list("taints") != old.at("spec").list("taints") {
                return Err(forbidden(a, &format!("node {quoted} is not allowed to modify taints")));
            }
            if new.at("metadata").list("ownerReferences") != old.at("metadata").list("ownerReferences") {
                return Err(forbidden(a, &format!("node {quoted} is not allowed to modify ownerReferences")));
            }
            let (now, before) = (labels(new), labels(old));
            let mut bad: Vec<&String> = now
                .keys()
                .chain(before.keys())
                .filter(|k| now.get(*k) != before.get(*k) && !may_label(k))
                .collect();
            bad.sort();
            bad.dedup();
            if !bad.is_empty() {
                let bad: Vec<&str> = bad.iter().map(|s| s.as_str()).collect();
                return Err(forbidden(a, &format!("is not allowed to modify labels: {}", bad.join(", "))));
            }
        }
        _ => {}
    }
    Ok(())
}

fn lease(a: &Attributes, node: &str) -> Result<(), Status> {
    if a.namespace != "kube-node-lease" {
        return Err(forbidden(a, "can only access leases in the \"kube-node-lease\" system namespace"));
    }
    let name = if a.name.is_empty() { meta::name(a.object()) } else { &a.name };
    if name != node {
        return Err(forbidden(a, "can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn token(call: &Call, a: &Attributes, node: &str) -> Result<(), Status> {
    let reference = a.object().at("spec").at("boundObjectRef");
    if reference.text("kind") != "Pod" || reference.text("name").is_empty() {
        return Err(forbidden(a, "node requested token not bound to a pod"));
    }
    if reference.text("uid").is_empty() {
        return Err(forbidden(a, "node requested token with a pod binding without a uid"));
    }
    let key = format!("{}/{}", a.namespace, reference.text("name"));
    let pod = cached(call, "", "pods", &key).unwrap_or_default();
    if meta::uid(&pod) != reference.text("uid") {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            reference.text("uid")
        );
        return Err(forbidden(a, &why));
    }
    if pod.at("spec").text("nodeName") != node {
        return Err(forbidden(a, "node requested token bound to a pod scheduled on a different node"));
    }
    Ok(())
}
