//! ReplicaSets.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::deployment::replica_template;
use super::{counts, within};
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, containers, name, number, selector};
use crate::pod::defaults;
use crate::pod::spec::Options;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apps",
    kind: "ReplicaSet",
    default: |obj, _| {
        let spec = obj.child("spec");
        spec.set_default("replicas", 1);
        defaults::template(spec.child("template"));
    },
    prepare_create: super::prepare_create,
    prepare_update: super::prepare_update,
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(obj.at("spec"), Options::template(context), &mut errors);
        errors
    },
    validate_update,
    warnings: super::named_warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    blank: super::no_replicas,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Desired",
        "integer",
        "",
        0,
        "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    (
        "Current",
        "integer",
        "",
        0,
        "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    (
        "Ready",
        "integer",
        "",
        0,
        "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
    ),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
    (
        "Selector",
        "string",
        "",
        1,
        "Selector is a label query over pods that should match the replica count. Label keys and values that must match in order to be controlled by this replica set. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

fn spec(spec: &Value, options: Options, errors: &mut ErrorList) {
    let at = Path::new("spec");
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(&at.child(field), spec.int(field));
    }
    replica_template(spec, options, &at, errors);
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        replica_status(new.at("status"), &mut errors);
        return errors;
    }
    spec(new.at("spec"), Options::template(context), &mut errors);
    let at = Path::new("spec").child("selector");
    let kind = "*meta.LabelSelector";
    errors.immutable_as(kind, &at, new.at("spec").at("selector"), old.at("spec").at("selector"));
    errors
}

/// Status of ReplicaSets and ReplicationControllers.
pub(crate) fn replica_status(status: &Value, errors: &mut ErrorList) {
    let fields = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    counts(status, &fields, errors);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    within(status, &parts, "replicas", "status.replicas", errors);
    within(status, &["availableReplicas"], "readyReplicas", "readyReplicas", errors);
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let (names, images) = containers(spec.at("template").at("spec"));
    vec![
        name(obj),
        number(spec, "replicas"),
        number(status, "replicas"),
        number(status, "readyReplicas"),
        age(obj, now),
        names.into(),
        images.into(),
        selector(spec.at("selector")).into(),
    ]
}
