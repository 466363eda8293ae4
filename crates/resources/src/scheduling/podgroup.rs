//! PodGroups. The rules for their specs are not here yet.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name, or_none};
use crate::objectmeta::{self, keep};
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "scheduling.k8s.io",
    kind: "PodGroup",
    default: |obj, _| obj.child("spec").set_default("disruptionMode", "Pod"),
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        let at = Path::new("spec").child("schedulingPolicy");
        policy(obj.at("spec").at("schedulingPolicy"), &at, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            let (status, at) = (new.at("status"), Path::new("status"));
            check::conditions(status.list("conditions"), &at.child("conditions"), &mut errors);
            let claims = new.at("spec").list("resourceClaims");
            for (i, each) in status.list("resourceClaimStatuses").iter().enumerate() {
                let claim = each.text("name");
                if !claims.iter().any(|c| c.text("name") == claim) {
                    let at = at.child("resourceClaimStatuses").index(i).child("name");
                    let detail = "must match the name of an entry in `spec.resourceClaims`";
                    errors.invalid(&at, claim, detail);
                }
            }
        }
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells,
        conditions: |obj| obj.at("status").list("conditions").to_vec(),
    }),
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

/// One of the two, and a gang has a size.
fn policy(policy: &Value, at: &Path, errors: &mut ErrorList) {
    match (policy.has("basic"), policy.has("gang")) {
        (false, false) => errors.invalid(at, "", "must specify one of: `basic`, `gang`"),
        (true, true) => {
            errors.invalid(at, "{basic, gang}", "must specify exactly one of: `basic`, `gang`");
        }
        (false, true) if policy.at("gang").int("minCount").unwrap_or(0) == 0 => {
            errors.required(&at.child("gang").child("minCount"), "");
        }
        _ => {}
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
