//! DaemonSets. Upstream's `templateGeneration` lives in an annotation.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{collisions_not_decremented, counts};
use crate::check::{self, Errors, same};
use crate::columns::{CREATED, NAME, age, containers, labels, name, number, selector};
use crate::objectmeta::{keep, next_generation};
use crate::pod::spec::Options;
use crate::pod::{defaults, template, warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, internal, intstr, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apps",
    kind: "DaemonSet",
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    hidden_annotations: &[GENERATION],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Desired",
        "integer",
        "",
        0,
        "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod). More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    ),
    (
        "Current",
        "integer",
        "",
        0,
        "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod. More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    ),
    (
        "Ready",
        "integer",
        "",
        0,
        "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
    ),
    ("Up-to-date", "integer", "", 0, "The total number of nodes that are running updated daemon pod"),
    (
        "Available",
        "integer",
        "",
        0,
        "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
    ),
    (
        "Node Selector",
        "string",
        "",
        0,
        "NodeSelector is a selector which must be true for the pod to fit on a node. Selector which must match a node's labels for the pod to be scheduled on that node. More info: https://kubernetes.io/docs/concepts/configuration/assign-pod-node/",
    ),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
    (
        "Selector",
        "string",
        "",
        1,
        "A label query over pods that are managed by the daemon set. Must match in order to be controlled. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

const GENERATION: &str = "deprecated.daemonset.template.generation";

/// How often the template has changed.
fn template_generation(obj: &Value) -> i64 {
    obj.at("metadata").at("annotations").text(GENERATION).parse().unwrap_or(0)
}

fn set_template_generation(obj: &mut Value, generation: i64) {
    obj.child("metadata").child("annotations").set(GENERATION, generation.to_string());
}

fn default(obj: &mut Value, _: &Context) {
    let generation = template_generation(obj);
    set_template_generation(obj, generation);
    let spec = obj.child("spec");
    let strategy = spec.child("updateStrategy");
    defaults::text(strategy, "type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.child("rollingUpdate");
        rolling.set_default("maxUnavailable", 1);
        rolling.set_default("maxSurge", 0);
    }
    spec.set_default("revisionHistoryLimit", 10);
    defaults::template(spec.child("template"));
}

fn prepare_create(obj: &mut Value, context: &Context) {
    super::prepare_create(obj, context);
    let generation = template_generation(obj).max(1);
    set_template_generation(obj, generation);
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        return keep(new, old, "spec");
    }
    super::drop_disabled(new, old, context);
    keep(new, old, "status");
    let generation = template_generation(old);
    let template = |obj: &'_ Value| obj.at("spec").at("template").clone();
    if same(&template(new), &template(old)) {
        set_template_generation(new, generation);
        if !same(new.at("spec"), old.at("spec")) {
            next_generation(new, old);
        }
    } else {
        set_template_generation(new, generation + 1);
        next_generation(new, old);
    }
}

fn validate(obj: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    spec(obj, Options::template(context), &mut errors);
    errors
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        counts(new.at("status"), &fields, &mut errors);
        collisions_not_decremented(new, old, &mut errors);
        return errors;
    }
    let at = Path::new("spec").child("selector");
    let kind = "*meta.LabelSelector";
    errors.immutable_as(kind, &at, new.at("spec").at("selector"), old.at("spec").at("selector"));
    spec(new, Options::template(context), &mut errors);
    errors
}

fn spec(obj: &Value, options: Options, errors: &mut ErrorList) {
    let spec = obj.at("spec");
    let at = Path::new("spec");
    let selector = spec.at("selector");
    let selector_at = at.child("selector");
    let before = errors.len();
    check::label_selector(selector, &selector_at, errors);
    let labels = spec.at("template").at("metadata").at("labels");
    let matches = selector.is_object() && check::selector_matches(selector, labels);
    let template_at = at.child("template");
    if errors.len() == before && !matches {
        let at = template_at.child("metadata").child("labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
    if selector.is_object() && check::selector_is_empty(selector) {
        errors.invalid(&selector_at, selector.clone(), "empty selector is invalid for daemonset");
    }
    template::template(spec.at("template"), options, &template_at, errors);
    template::runs_always(spec.at("template"), "DaemonSet", &template_at, errors);
    errors.not_negative(&at.child("minReadySeconds"), spec.int("minReadySeconds"));
    errors.not_negative(&at.child("templateGeneration"), Some(template_generation(obj)));
    strategy(spec.at("updateStrategy"), &at.child("updateStrategy"), errors);
    errors.not_negative(&at.child("revisionHistoryLimit"), spec.int("revisionHistoryLimit"));
}

fn strategy(strategy: &Value, at: &Path, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    let at_rolling = at.child("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_object() => errors.required(&at_rolling, ""),
        "RollingUpdate" => {
            let fields = ["maxUnavailable", "maxSurge"];
            for field in fields {
                intstr::not_negative(rolling.at(field), &at_rolling.child(field), errors);
            }
            for field in fields {
                intstr::at_most_all(rolling.at(field), &at_rolling.child(field), errors);
            }
            let set = |field: &str| intstr::amount(rolling.at(field)) != 0;
            match (set("maxUnavailable"), set("maxSurge")) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&at_rolling.child("maxSurge"), rolling.at("maxSurge").clone(), detail);
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.required(&at_rolling.child("maxUnavailable"), detail);
                }
                _ => {}
            }
        }
        _ => errors.unsupported_shown(
            at,
            internal::compact("apps.DaemonSetUpdateStrategy", strategy),
            &["RollingUpdate", "OnDelete"],
        ),
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let unchanged = |old: &Value| template_generation(new) == template_generation(old);
    if old.is_some_and(|old| context.subresource == "status" || unchanged(old)) {
        return Vec::new();
    }
    warnings::warnings(new.at("spec").at("template"), &Path::new("spec").child("template"))
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let pod = spec.at("template").at("spec");
    let (names, images) = containers(pod);
    let mut out = vec![name(obj)];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ] {
        out.push(number(status, field));
    }
    out.extend([
        labels(pod.at("nodeSelector")).into(),
        age(obj, now),
        names.into(),
        images.into(),
        selector(spec.at("selector")).into(),
    ]);
    out
}
