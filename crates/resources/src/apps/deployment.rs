//! Deployments.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{collisions_not_decremented, counts, within};
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, containers, name, number, query};
use crate::objectmeta::{keep, next_generation};
use crate::pod::spec::Options;
use crate::pod::{defaults, template};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, internal, intstr, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apps",
    kind: "Deployment",
    default,
    prepare_create: super::prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings: super::named_warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata", "labels"]])],
    blank: super::no_replicas,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Ready", "string", "", 0, "Number of the pod with ready state"),
    (
        "Up-to-date",
        "string",
        "",
        0,
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
    ),
    (
        "Available",
        "string",
        "",
        0,
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
    ),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
    (
        "Selector",
        "string",
        "",
        1,
        "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment. It must match the pod template's labels.",
    ),
];

fn default(obj: &mut Value, _: &Context) {
    let spec = obj.child("spec");
    spec.set_default("replicas", 1);
    let strategy = spec.child("strategy");
    defaults::text(strategy, "type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.child("rollingUpdate");
        rolling.set_default("maxUnavailable", "25%");
        rolling.set_default("maxSurge", "25%");
    }
    spec.set_default("revisionHistoryLimit", 10);
    spec.set_default("progressDeadlineSeconds", 600);
    defaults::template(spec.child("template"));
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        keep(new, old, "spec");
        return keep(new.child("metadata"), old.at("metadata"), "labels");
    }
    keep(new, old, "status");
    let annotations = |obj: &'_ Value| obj.at("metadata").at("annotations").clone();
    if !same(new.at("spec"), old.at("spec")) || !same(&annotations(new), &annotations(old)) {
        next_generation(new, old);
    }
}

fn validate(obj: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    spec(obj.at("spec"), Options::template(context), &mut errors);
    errors
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        status(new.at("status"), &mut errors);
        collisions_not_decremented(new, old, &mut errors);
        return errors;
    }
    spec(new.at("spec"), Options::template(context), &mut errors);
    let at = Path::new("spec").child("selector");
    let kind = "*meta.LabelSelector";
    errors.immutable_as(kind, &at, new.at("spec").at("selector"), old.at("spec").at("selector"));
    errors
}

fn spec(spec: &Value, options: Options, errors: &mut ErrorList) {
    let at = Path::new("spec");
    errors.not_negative(&at.child("replicas"), spec.int("replicas"));
    replica_template(spec, options, &at, errors);
    strategy(spec.at("strategy"), &at.child("strategy"), errors);
    errors.not_negative(&at.child("minReadySeconds"), spec.int("minReadySeconds"));
    errors.not_negative(&at.child("revisionHistoryLimit"), spec.int("revisionHistoryLimit"));
    if let Some(seconds) = spec.int("progressDeadlineSeconds") {
        let at = at.child("progressDeadlineSeconds");
        errors.not_negative(&at, Some(seconds));
        if seconds <= spec.int("minReadySeconds").unwrap_or(0) {
            errors.invalid(&at, seconds, "must be greater than minReadySeconds");
        }
    }
}

/// Selector and template of Deployments and ReplicaSets.
pub(super) fn replica_template(spec: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    let selector = spec.at("selector");
    let selector_at = at.child("selector");
    if !template::selector(selector, "deployment", &selector_at, errors) {
        let shown = crate::gostruct::label_selector(selector);
        return errors.invalid_shown(&selector_at, shown, "invalid label selector");
    }
    let template_at = at.child("template");
    // the absent selector selects nothing, so no labels match it
    template::selected(spec.at("template"), selector, &template_at, errors);
    template::template(spec.at("template"), options, &template_at, errors);
    template::runs_always(spec.at("template"), "ReplicaSet", &template_at, errors);
}

fn strategy(strategy: &Value, at: &Path, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    let rolling_at = at.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if rolling.is_object() {
                errors.forbidden(&rolling_at, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" if !rolling.is_object() => {
            errors.required(&rolling_at, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            let unavailable_at = rolling_at.child("maxUnavailable");
            intstr::not_negative(unavailable, &unavailable_at, errors);
            intstr::not_negative(surge, &rolling_at.child("maxSurge"), errors);
            if intstr::amount(unavailable) == 0 && intstr::amount(surge) == 0 {
                errors.invalid(&unavailable_at, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            intstr::at_most_all(unavailable, &unavailable_at, errors);
        }
        _ => {
            let shown = internal::compact("apps.DeploymentStrategy", strategy);
            errors.unsupported_shown(at, shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn status(status: &Value, errors: &mut ErrorList) {
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    counts(status, &fields, errors);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    within(status, &parts, "replicas", "status.replicas", errors);
    within(status, &["availableReplicas"], "readyReplicas", "readyReplicas", errors);
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let (names, images) = containers(spec.at("template").at("spec"));
    let ready = format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas"));
    vec![
        name(obj),
        ready.into(),
        number(status, "updatedReplicas"),
        number(status, "availableReplicas"),
        age(obj, now),
        names.into(),
        images.into(),
        query(spec.at("selector")).into(),
    ]
}
