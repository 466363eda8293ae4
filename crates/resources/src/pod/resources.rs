//! Resources of a whole pod: sums over its containers (`k8s.io/component-helpers/resource`).

use std::collections::BTreeMap;

use machinery::{Get, Value};

use crate::quantity;

/// May this resource stand in `spec.resources`?
pub(crate) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Is it an init container that goes on running beside the others?
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

/// Sums of `requests` or `limits`: what the pod needs at any one time.
pub(crate) fn aggregate<'a>(spec: &'a Value, which: &str) -> BTreeMap<&'a str, i128> {
    let mut sum: BTreeMap<&str, i128> = BTreeMap::new();
    let add = |sum: &mut BTreeMap<&'a str, i128>, list: &'a Value| {
        for (name, q) in list.as_object().into_iter().flatten() {
            *sum.entry(name).or_default() += quantity::of(q);
        }
    };
    let most = |sum: &mut BTreeMap<&'a str, i128>, other: &BTreeMap<&'a str, i128>| {
        for (name, q) in other {
            let entry = sum.entry(name).or_insert(*q);
            *entry = (*entry).max(*q);
        }
    };
    for container in spec.list("containers") {
        add(&mut sum, container.at("resources").at(which));
    }
    let (mut sidecars, mut init) = (BTreeMap::new(), BTreeMap::new());
    for container in spec.list("initContainers") {
        let list = container.at("resources").at(which);
        let mut now = sidecars.clone();
        add(&mut now, list);
        if is_sidecar(container) {
            add(&mut sum, list);
            add(&mut sidecars, list);
        }
        most(&mut init, &now);
    }
    most(&mut sum, &init);
    sum
}

/// Fills `spec.resources` from the containers and the pod's own limits.
pub(crate) fn default_pod_level(spec: &mut Value) {
    if !spec.at("resources").is_object() {
        return;
    }
    let resources = spec.at("resources");
    let has = |name: &str| resources.map(name).is_some_and(|m| !m.is_empty());
    let (limited, requested) = (has("limits"), has("requests"));
    if limited || requested {
        let found: Vec<(String, i128)> = aggregate(spec, "limits")
            .into_iter()
            .filter(|(name, _)| is_huge_page(name) && !resources.at("requests").has(name))
            .map(|(name, q)| (name.to_owned(), q))
            .collect();
        fill(spec, "limits", found);
    }
    if limited {
        let found: Vec<(String, i128)> = aggregate(spec, "requests")
            .into_iter()
            .filter(|(name, _)| matches!(*name, "cpu" | "memory"))
            .map(|(name, q)| (name.to_owned(), q))
            .collect();
        fill(spec, "requests", found);
        let limits = spec.at("resources").at("limits").clone();
        for (name, q) in limits.as_object().into_iter().flatten().filter(|(n, _)| is_pod_level(n)) {
            spec.child("resources").child("requests").set_default(name, q.clone());
        }
    }
}

fn fill(spec: &mut Value, which: &str, found: Vec<(String, i128)>) {
    for (name, q) in found {
        let text = quantity::format(q, is_huge_page(&name) || name == "memory");
        spec.child("resources").child(which).set_default(&name, text);
    }
}
