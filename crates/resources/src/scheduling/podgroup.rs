//! PodGroups.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::group;
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name, or_none};
use crate::declared::{changed, immutable, long_name, short_name, union, unique};
use crate::objectmeta::{self, keep};
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "scheduling.k8s.io",
    kind: "PodGroup",
    default: |obj, _| obj.child("spec").set_default("disruptionMode", "Pod"),
    prepare_create: |obj, context| {
        obj.set("status", json!({}));
        group::drop_disabled(obj.child("spec"), &Value::Null, context);
        // what reads from the store is given defaults once more
        obj.child("spec").set_default("disruptionMode", "Pod");
    },
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
            let claims = old.at("spec").list("resourceClaims");
            if claims.is_empty()
                && !context.enabled("DRAWorkloadResourceClaims")
                && let Some(status) = new.child_if("status")
            {
                status.unset("resourceClaimStatuses");
            }
        } else {
            keep(new, old, "status");
            group::drop_disabled(new.child("spec"), old.at("spec"), context);
        }
    },
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(obj.at("spec"), None, context, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            status(new, old, &mut errors);
        } else {
            spec(new.at("spec"), Some(old.at("spec")), context, &mut errors);
        }
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: crate::strategy::no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Policy",
        "string",
        "",
        0,
        "SchedulingPolicy defines the scheduling policy for this instance of the PodGroup. Controllers are expected to fill this field by copying it from a PodGroupTemplate. This field is immutable.",
    ),
    ("Workload", "string", "", 0, "Name of the referenced Workload object"),
    ("Status", "string", "", 0, "Status of the PodGroup"),
    ("Age", "string", "", 0, CREATED),
];

fn spec(spec: &Value, old: Option<&Value>, context: &Context, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let before = |field: &str| old.map(|old| old.at(field));
    let frozen = |field: &str, errors: &mut ErrorList| {
        immutable(spec.at(field), before(field), &at.child(field), errors)
    };
    if !frozen("podGroupTemplateRef", errors) && old.is_none() && spec.has("podGroupTemplateRef") {
        let (reference, at) = (spec.at("podGroupTemplateRef"), at.child("podGroupTemplateRef"));
        union(reference, None, &["workload"], &at, errors);
        let (workload, at) = (reference.at("workload"), at.child("workload"));
        if workload.is_object() {
            long_name(workload.text("workloadName"), &at.child("workloadName"), errors);
            short_name(workload.text("podGroupTemplateName"), &at.child("podGroupTemplateName"), errors);
        }
    }
    if !frozen("schedulingPolicy", errors) && old.is_none() {
        group::policy(spec.at("schedulingPolicy"), None, &at.child("schedulingPolicy"), errors);
    }
    if !frozen("schedulingConstraints", errors) && old.is_none() {
        group::constraints(spec.at("schedulingConstraints"), &at.child("schedulingConstraints"), errors);
    }
    if !frozen("resourceClaims", errors) && old.is_none() {
        group::claims(spec.list("resourceClaims"), &at.child("resourceClaims"), errors);
    }
    for field in ["disruptionMode", "priorityClassName", "priority"] {
        if context.enabled("WorkloadAwarePreemption") {
            frozen(field, errors);
        } else if old.is_some() && spec.has(field) && changed(spec.at(field), before(field)) {
            errors.forbidden(&at.child(field), "");
        }
    }
    if old.is_none() {
        group::priority(spec, &at, errors);
    }
}

fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (status, at) = (new.at("status"), Path::new("status"));
    check::conditions(status.list("conditions"), &at.child("conditions"), errors);
    let claims = new.at("spec").list("resourceClaims");
    let (statuses, at) = (status.list("resourceClaimStatuses"), at.child("resourceClaimStatuses"));
    for (i, each) in statuses.iter().enumerate() {
        let claim = each.text("name");
        if !claims.iter().any(|c| c.text("name") == claim) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&at.index(i).child("name"), claim, detail);
        }
    }
    if !changed(status.at("resourceClaimStatuses"), Some(old.at("status").at("resourceClaimStatuses"))) {
        return;
    }
    if statuses.len() > 4 {
        return errors.too_many(&at, statuses.len(), 4);
    }
    unique(statuses, "name", &["name", "resourceClaimName"], &at, errors);
    for (i, each) in statuses.iter().enumerate() {
        if let Some(name) = each.at("resourceClaimName").as_str() {
            let at = at.index(i).child("resourceClaimName");
            errors.each(&at, name, names::dns1123_subdomain(name));
        }
    }
}

fn cells(group: &Value, now: Timestamp) -> Vec<Value> {
    let spec = group.at("spec");
    let condition =
        |kind: &str| group.at("status").list("conditions").iter().rfind(|c| c.text("type") == kind);
    let policy = if spec.at("schedulingPolicy").has("gang") { "Gang" } else { "Basic" };
    let state = match (condition("DisruptionTarget"), condition("PodGroupScheduled")) {
        (Some(target), _) => target.text("reason"),
        (None, Some(scheduled)) if scheduled.text("status") == "True" => "Scheduled",
        (None, Some(_)) => "Unschedulable",
        (None, None) => "Pending",
    };
    let workload = spec.at("podGroupTemplateRef").at("workload").text("workloadName");
    vec![name(group), policy.into(), or_none(workload), state.into(), age(group, now)]
}
