//! The APIServices of what this server serves itself.

use machinery::{Value, json};

use crate::kinds::KindMap;

pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Group, its priority, and versions with theirs; upstream's numbers, and before them those of the releases that still
/// served what is removed now.
const PRIORITIES: &[(&str, i64, &[(&str, i64)])] = &[
    ("", 18000, &[("v1", 1)]),
    ("extensions", 17150, &[("v1beta1", 1)]),
    ("apps", 17800, &[("v1", 15), ("v1beta2", 9), ("v1beta1", 1)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17700, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("authorization.k8s.io", 17600, &[("v1", 15), ("v1beta1", 9)]),
    ("autoscaling", 17500, &[("v1", 15), ("v2", 30), ("v2beta1", 9), ("v2beta2", 1)]),
    ("batch", 17400, &[("v1", 15), ("v1beta1", 9)]),
    ("certificates.k8s.io", 17300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("storage.k8s.io", 16800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15), ("v1beta1", 9)]),
    ("admissionregistration.k8s.io", 16700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9), ("v1alpha2", 2)]),
    ("coordination.k8s.io", 16500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("discovery.k8s.io", 16200, &[("v1", 15), ("v1beta1", 12)]),
    ("resource.k8s.io", 16200, &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    ("flowcontrol.apiserver.k8s.io", 16100, &[("v1", 21), ("v1beta3", 18), ("v1beta2", 15), ("v1beta1", 12)]),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1beta1", 9), ("v1alpha1", 1)]),
];

/// Priorities of a group and of a version in it; custom resources' are those of their registration.
pub fn priorities(group: &str, version: &str) -> (i64, i64) {
    let found = PRIORITIES.iter().find(|(name, ..)| *name == group);
    let Some((_, of_group, versions)) = found else { return (1000, 100) };
    (*of_group, versions.iter().find(|(name, _)| *name == version).map_or(1, |(_, priority)| *priority))
}

/// An APIService without a service. `managed`: `onstart` (made at start, left alone later) or `true` (kept).
pub fn object(group: &str, version: &str, managed: &str) -> Value {
    let (of_group, of_version) = priorities(group, version);
    let mut spec =
        json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}}, "spec": spec})
}

/// The objects of the built-in group-versions, but for the group of APIServices themselves.
pub fn builtin(map: &KindMap) -> Vec<Value> {
    versions(map, false).map(|(group, version)| object(group, version, "onstart")).collect()
}

/// The group-versions of custom resources.
pub fn custom(map: &KindMap) -> Vec<(&str, &str)> {
    versions(map, true).collect()
}

fn versions(map: &KindMap, custom: bool) -> impl Iterator<Item = (&str, &str)> {
    let groups = map.groups.iter().filter(|g| g.name != "apiregistration.k8s.io");
    groups.flat_map(|g| g.versions.iter().map(|v| (&*g.name, &**v))).filter(move |(group, version)| {
        map.resources(group, version).iter().all(|r| r.custom.is_some()) == custom
    })
}
