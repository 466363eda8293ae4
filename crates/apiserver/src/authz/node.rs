//! What a kubelet may do: its own node and lease, its pods, and only those secrets, config maps and volumes that pods on
//! its node use. <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use std::sync::{Arc, OnceLock};

use machinery::{Get, Value};

use super::{Attributes, Rule};
use crate::server::Core;

/// Some(Ok) allows, Some(Err) refuses for good, None leaves it to RBAC.
pub fn decide(core: &Core, node: &str, a: &Attributes) -> Option<Result<(), String>> {
    if !a.is_resource {
        return rules_allow(a).then_some(Ok(()));
    }
    let ok = |yes: bool| if yes { Some(Ok(())) } else { None };
    match (a.group, a.resource) {
        ("", "secrets" | "configmaps") => ok(reads(a) && a.subresource.is_empty() && used(core, node, a)),
        ("", "persistentvolumeclaims") => match a.subresource {
            "" => ok(a.verb == "get" && used(core, node, a)),
            "status" => ok(matches!(a.verb, "get" | "update" | "patch") && used(core, node, a)),
            _ => None,
        },
        ("", "persistentvolumes") => {
            ok(a.verb == "get" && a.subresource.is_empty() && volume_used(core, node, a.name))
        }
        ("storage.k8s.io", "volumeattachments") => {
            ok(a.verb == "get" && attachment_is_here(core, node, a.name))
        }
        ("resource.k8s.io", "resourceclaims") => ok(a.verb == "get" && used(core, node, a)),
        ("", "serviceaccounts") => ok(a.verb == "create" && a.subresource == "token" && used(core, node, a)
            || a.verb == "get" && a.subresource.is_empty() && used(core, node, a)),
        ("coordination.k8s.io", "leases") => {
            let here = a.namespace == "kube-node-lease" && a.subresource.is_empty();
            ok(here
                && match a.verb {
                    "create" => true,
                    "get" | "update" | "patch" | "delete" => a.name == node,
                    _ => false,
                })
        }
        ("storage.k8s.io", "csinodes") => ok(match a.verb {
            "create" => true,
            "get" | "update" | "patch" | "delete" => a.name == node,
            _ => false,
        }),
        ("resource.k8s.io", "resourceslices") => ok(matches!(
            a.verb,
            "get" | "create" | "update" | "patch" | "delete" | "list" | "watch" | "deletecollection"
        )),
        ("", "nodes") => match a.verb {
            "create" => ok(a.subresource.is_empty()),
            "get" | "list" | "watch" => ok(a.subresource.is_empty() && (a.name.is_empty() || a.name == node)),
            "update" | "patch" => ok(a.name == node && matches!(a.subresource, "" | "status")),
            _ => None,
        },
        ("", "pods") => match a.verb {
            "get" if a.subresource.is_empty() => ok(pod_is_here(core, node, a)),
            "list" | "watch" => ok(a.subresource.is_empty()),
            "create" => ok(matches!(a.subresource, "" | "eviction")),
            "delete" => ok(a.subresource.is_empty()),
            "patch" | "update" => ok(a.subresource == "status"),
            _ => None,
        },
        _ => ok(rules_allow(a)),
    }
}

fn reads(a: &Attributes) -> bool {
    matches!(a.verb, "get" | "list" | "watch") && !a.name.is_empty()
}

/// The rules of the cluster role `system:node` for all that is not looked at one by one.
fn rules_allow(a: &Attributes) -> bool {
    static RULES: OnceLock<Arc<[Rule]>> = OnceLock::new();
    const LOOKED_AT: &[&str] =
        &["secrets", "configmaps", "persistentvolumeclaims", "persistentvolumes", "nodes", "pods"];
    let rules = RULES.get_or_init(|| crate::bootstrap::roles::cluster_role("system:node"));
    !LOOKED_AT.contains(&a.resource) && rules.iter().any(|r| r.allows(a))
}

fn home(core: &Core, group: &str, resource: &str) -> Option<Arc<crate::kinds::Home>> {
    core.kinds.now().preferred(group, resource)?.home.clone()
}

/// Pods on the node.
fn pods(core: &Core, node: &str, namespace: &str) -> Vec<Value> {
    let Some(home) = home(core, "", "pods") else { return Vec::new() };
    let at = home.cache.fields.position("spec.nodeName");
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let (snapshot, _) = home.cache.snapshot();
    snapshot
        .range::<_, str>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(&prefix))
        .filter(|(_, e)| at.is_none_or(|at| &*e.fields[at] == node))
        .map(|(_, e)| e.parse())
        .filter(|pod| pod.at("spec").text("nodeName") == node)
        .collect()
}

fn pod_is_here(core: &Core, node: &str, a: &Attributes) -> bool {
    let Some(entry) =
        home(core, "", "pods").and_then(|h| h.cache.get(&format!("{}/{}", a.namespace, a.name)))
    else {
        // a pod that is not there gives nothing away, and the kubelet must see that it is gone
        return true;
    };
    entry.parse().at("spec").text("nodeName") == node
}

/// Does a pod on the node use the object?
fn used(core: &Core, node: &str, a: &Attributes) -> bool {
    pods(core, node, a.namespace).iter().any(|pod| {
        let spec = pod.at("spec");
        match a.resource {
            "serviceaccounts" => spec.text("serviceAccountName") == a.name,
            "persistentvolumeclaims" => spec.list("volumes").iter().any(|v| {
                let generated = format!("{}-{}", machinery::meta::name(pod), v.text("name"));
                v.at("persistentVolumeClaim").text("claimName") == a.name
                    || v.at("ephemeral").is_object() && generated == a.name
            }),
            "resourceclaims" => {
                pod.at("status")
                    .list("resourceClaimStatuses")
                    .iter()
                    .any(|c| c.text("resourceClaimName") == a.name)
                    || spec.list("resourceClaims").iter().any(|c| c.text("resourceClaimName") == a.name)
            }
            "secrets" => references(
                spec,
                a.name,
                &["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets"],
            ),
            _ => references(spec, a.name, &["configMap", "configMapRef", "configMapKeyRef"]),
        }
    })
}

/// Is there, under one of these keys, a reference with this name anywhere in the pod?
fn references(value: &Value, name: &str, keys: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            let named = keys.contains(&key.as_str())
                && match inner {
                    Value::String(s) => s == name,
                    Value::Array(items) => items.iter().any(|i| i.text("name") == name),
                    inner => inner.text("name") == name || inner.text("secretName") == name,
                };
            named || references(inner, name, keys)
        }),
        Value::Array(items) => items.iter().any(|i| references(i, name, keys)),
        _ => false,
    }
}

fn volume_used(core: &Core, node: &str, volume: &str) -> bool {
    let Some(entry) = home(core, "", "persistentvolumes").and_then(|h| h.cache.get(volume)) else {
        return false;
    };
    let object = entry.parse();
    let claim = object.at("spec").at("claimRef");
    let ask = Attributes {
        resource: "persistentvolumeclaims",
        namespace: claim.text("namespace"),
        name: claim.text("name"),
        ..Attributes::default()
    };
    !ask.name.is_empty() && used(core, node, &ask)
}

fn attachment_is_here(core: &Core, node: &str, name: &str) -> bool {
    home(core, "storage.k8s.io", "volumeattachments")
        .and_then(|h| h.cache.get(name))
        .is_some_and(|e| e.parse().at("spec").text("nodeName") == node)
}
