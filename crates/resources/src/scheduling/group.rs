//! What PodGroups and the templates for them in Workloads have in common.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::Context;
use crate::check::Errors;
use crate::declared::{self, changed, required, short_name, union, unique};
use crate::names;

/// A feature gate, the field it brings.
const GATED: &[(&str, &str)] = &[
    ("TopologyAwareWorkloadScheduling", "schedulingConstraints"),
    ("DRAWorkloadResourceClaims", "resourceClaims"),
    ("WorkloadAwarePreemption", "disruptionMode"),
    ("WorkloadAwarePreemption", "priorityClassName"),
    ("WorkloadAwarePreemption", "priority"),
];

/// Takes out fields whose feature is off, unless the old object had them.
pub(super) fn drop_disabled(group: &mut Value, old: &Value, context: &Context) {
    for (gate, field) in GATED {
        if !context.enabled(gate) && !old.has(field) {
            group.unset(field);
        }
    }
}

/// The way of scheduling: one of the two, and a gang has a size.
pub(super) fn policy(policy: &Value, old: Option<&Value>, at: &Path, errors: &mut ErrorList) {
    if !changed(policy, old) {
        return;
    }
    union(policy, old, &["basic", "gang"], at, errors);
    let before = old.map(|old| old.at("gang")).filter(|gang| gang.is_object());
    let gang = policy.at("gang");
    if !gang.is_object() || before.is_some_and(|b| b.int("minCount") == gang.int("minCount")) {
        return;
    }
    let at = at.child("gang").child("minCount");
    match gang.int("minCount").unwrap_or(0) {
        0 => errors.required(&at, ""),
        count => declared::minimum(count, 1, &at, errors),
    }
}

pub(super) fn constraints(constraints: &Value, at: &Path, errors: &mut ErrorList) {
    let (topology, at) = (constraints.list("topology"), at.child("topology"));
    if topology.len() > 1 {
        return errors.too_many(&at, topology.len(), 1);
    }
    for (i, each) in topology.iter().enumerate() {
        required(each.text("key"), &at.index(i).child("key"), errors, names::qualified_name);
    }
}

pub(super) fn claims(claims: &[Value], at: &Path, errors: &mut ErrorList) {
    if claims.len() > 4 {
        return errors.too_many(at, claims.len(), 4);
    }
    let fields = ["name", "resourceClaimName", "resourceClaimTemplateName"];
    unique(claims, "name", &fields, at, errors);
    for (i, claim) in claims.iter().enumerate() {
        let at = at.index(i);
        union(claim, None, &fields[1..], &at, errors);
        short_name(claim.text("name"), &at.child("name"), errors);
        for field in &fields[1..] {
            if let Some(name) = claim.at(field).as_str() {
                errors.each(&at.child(field), name, names::dns1123_subdomain(name));
            }
        }
    }
}

pub(super) fn priority(group: &Value, at: &Path, errors: &mut ErrorList) {
    if let Some(mode) = group.at("disruptionMode").as_str() {
        errors.one_of(&at.child("disruptionMode"), mode, &["Pod", "PodGroup"]);
    }
    let class = group.text("priorityClassName");
    if !class.is_empty() {
        errors.each(&at.child("priorityClassName"), class, names::dns1123_subdomain(class));
    }
    if let Some(priority) = group.int("priority") {
        declared::maximum(priority, 1_000_000_000, &at.child("priority"), errors);
    }
}
