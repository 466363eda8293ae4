//! ReplicationControllers.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::apps::replicaset::replica_status;
use crate::apps::{named_warnings, prepare_create, prepare_update};
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, containers, labels, name, number};
use crate::pod::spec::Options;
use crate::pod::{defaults, template, warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "ReplicationController",
    default,
    prepare_create,
    prepare_update,
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, true, generated_name);
        spec(obj.at("spec"), context, &mut errors);
        errors
    },
    validate_update,
    // upstream confuses new and old here: on an update it warns about what the old template had
    warnings: |new, old, context| {
        let Some(old) = old else { return named_warnings(new, None, context) };
        let generation = |obj: &Value| obj.at("metadata").int("generation");
        if context.subresource == "status" || generation(new) == generation(old) {
            return Vec::new();
        }
        warnings::warnings(old.at("spec").at("template"), &Path::new("spec").child("template"))
    },
    orphans: true,
    selectable: &["status.replicas"],
    select: |obj, _| obj.at("status").int("replicas").unwrap_or(0).to_string(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

/// What is generated is judged, not what it is generated from, and lengths are in bytes.
fn generated_name(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        return Vec::new();
    }
    let bytes = |message: String| message.replace("253 characters", "253 bytes");
    names::subdomain_name(name, false).into_iter().map(bytes).collect()
}

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Desired",
        "integer",
        "",
        0,
        "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
    ),
    (
        "Current",
        "integer",
        "",
        0,
        "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
    ),
    ("Ready", "integer", "", 0, "The number of ready replicas for this replication controller."),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
    (
        "Selector",
        "string",
        "",
        1,
        "Selector is a label query over pods that should match the Replicas count. If Selector is empty, it is defaulted to the labels present on the Pod template. Label keys and values that must match in order to be controlled by this replication controller, if empty defaulted to labels on Pod template. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

fn default(obj: &mut Value, _: &Context) {
    let spec = obj.child("spec");
    spec.set_default("replicas", 1);
    if spec.at("template").is_object() {
        defaults::template(spec.child("template"));
    }
    let labels = spec.at("template").at("metadata").at("labels").clone();
    if !labels.is_object() {
        return;
    }
    if spec.map("selector").is_none_or(|s| s.is_empty()) {
        spec.set("selector", labels.clone());
    }
    let meta = obj.child("metadata");
    if meta.map("labels").is_none_or(|l| l.is_empty()) {
        meta.set("labels", labels);
    }
}

fn spec(spec: &Value, context: &Context, errors: &mut ErrorList) {
    let at = Path::new("spec");
    errors.not_negative(&at.child("minReadySeconds"), spec.int("minReadySeconds"));
    let selector = spec.at("selector");
    if selector.as_object().is_none_or(|s| s.is_empty()) {
        errors.required(&at.child("selector"), "");
    }
    match spec.int("replicas") {
        None => errors.required(&at.child("replicas"), ""),
        Some(n) => errors.not_negative(&at.child("replicas"), Some(n)),
    }
    let pod = spec.at("template");
    let at = at.child("template");
    if !pod.is_object() {
        return errors.required(&at, "");
    }
    let labels = pod.at("metadata").at("labels");
    let selected = selector.as_object().into_iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    if !selected {
        let at = at.child("metadata").child("labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
    template::template(pod, Options::template(context), &at, errors);
    template::runs_always(pod, "ReplicationController", &at, errors);
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        replica_status(new.at("status"), &mut errors);
    } else {
        spec(new.at("spec"), context, &mut errors);
    }
    errors
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
        labels(spec.at("selector")).into(),
    ]
}
