//! HorizontalPodAutoscalers.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::{metrics, v1};
use crate::apps::counts;
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, number};
use crate::objectmeta::{self, keep};
use crate::pod::requirements::not_negative;
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    default,
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        keep(new, old, if context.subresource == "status" { "spec" } else { "status" });
    },
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(&current(obj, context), None, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            counts(new.at("status"), &["currentReplicas", "desiredReplicas"], &mut errors);
        } else {
            spec(&current(new, context), Some(&current(old, context)), &mut errors);
        }
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: crate::strategy::no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    storage: "v2",
    convert,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Reference",
        "string",
        "",
        0,
        "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
    ),
    (
        "Targets",
        "string",
        "",
        0,
        "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).  The desired replica count is calculated multiplying the ratio between the target value and the current value by the current number of pods.  Ergo, metrics used must decrease as the pod count is increased, and vice-versa.  See the individual metric source types for more information about how each type of metric must respond. If not set, the default metric will be set to 80% average CPU utilization.",
    ),
    (
        "MinPods",
        "string",
        "",
        0,
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.  It defaults to 1 pod.  minReplicas is allowed to be 0 if the alpha feature gate HPAScaleToZero is enabled and at least one Object or External metric is configured.  Scaling is active as long as at least one metric value is available.",
    ),
    (
        "MaxPods",
        "string",
        "",
        0,
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up. It cannot be less that minReplicas.",
    ),
    (
        "Replicas",
        "string",
        "",
        0,
        "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn default(obj: &mut Value, context: &Context) {
    let spec = obj.child("spec");
    spec.set_default("minReplicas", 1);
    if context.version == "v1" {
        // upstream's objects have been to the other version and back
        v1::up(obj);
        return v1::down(obj);
    }
    if spec.list("metrics").is_empty() {
        spec.set("metrics", vec![v1::cpu_metric(v1::DEFAULT_UTILIZATION)]);
    }
    if spec.has("behavior") {
        let behavior = spec.child("behavior");
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let up = behavior.child("scaleUp");
        up.set_default("stabilizationWindowSeconds", 0);
        up.set_default("selectPolicy", "Max");
        up.set_default("policies", vec![pods, percent.clone()]);
        let down = behavior.child("scaleDown");
        down.set_default("selectPolicy", "Max");
        down.set_default("policies", vec![percent]);
    }
}

/// The object in the shape that rules are for.
fn current(obj: &Value, context: &Context) -> Value {
    let mut obj = obj.clone();
    if context.version == "v1" && !obj.at("spec").has("metrics") {
        convert(&mut obj, "v1", "v2");
    }
    obj
}

fn convert(obj: &mut Value, from: &str, to: &str) {
    match (from, to) {
        ("v1", "v2") => v1::up(obj),
        ("v2", "v1") => v1::down(obj),
        _ => {}
    }
}

fn spec(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let (spec, at) = (new.at("spec"), Path::new("spec"));
    let before = old.map_or(&Value::Null, |o| o.at("spec"));
    let least = if before.int("minReplicas") == Some(0) { 0 } else { 1 };
    let (min, max) = (spec.int("minReplicas"), spec.int("maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|m| *m < least) {
        errors.invalid(&at.child("minReplicas"), min, format!("must be greater than or equal to {least}"));
    }
    match max {
        0 => errors.required(&at.child("maxReplicas"), "must be set and greater than 0"),
        ..0 => errors.invalid(&at.child("maxReplicas"), max, "must be greater than or equal to 1"),
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(&at.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
    let (target, was) = (spec.at("scaleTargetRef"), before.at("scaleTargetRef"));
    let same = old.is_some() && ["apiVersion", "kind"].iter().all(|f| target.text(f) == was.text(f));
    let core_too = target.text("kind") == "ReplicationController";
    metrics::reference(target, core_too, same, &at.child("scaleTargetRef"), errors);
    let objects = before.list("metrics").iter().map(|m| m.at("object").at("describedObject"));
    let lax = objects.filter(|o| !o.is_null()).any(|o| metrics::bad_api(o, true).is_some());
    let list = spec.list("metrics");
    for (i, metric) in list.iter().enumerate() {
        metrics::validate(metric, lax, &at.child("metrics").index(i), errors);
    }
    if min == Some(0) && !list.iter().any(metrics::from_outside) {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&at.child("metrics"), detail);
    }
    for field in ["scaleUp", "scaleDown"] {
        if spec.at("behavior").has(field) {
            rules(spec.at("behavior").at(field), &at.child("behavior").child(field), errors);
        }
    }
}

fn rules(rules: &Value, at: &Path, errors: &mut ErrorList) {
    const WINDOW_MAX: i64 = 3600;
    const PERIOD_MAX: i64 = 1800;
    let (window, own) = (rules.int("stabilizationWindowSeconds"), at.child("stabilizationWindowSeconds"));
    if let Some(seconds) = window.filter(|s| *s < 0) {
        errors.invalid(&own, seconds, "must be greater than or equal to zero");
    }
    if let Some(seconds) = window.filter(|s| *s > WINDOW_MAX) {
        errors.invalid(&own, seconds, format!("must be less than or equal to {WINDOW_MAX}"));
    }
    if let Some(policy) = rules.at("selectPolicy").as_str() {
        errors.one_of(&at.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let (policies, own) = (rules.list("policies"), at.child("policies"));
    if policies.is_empty() {
        errors.required(&own, "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = own.index(i);
        errors.one_of(&at.child("type"), policy.text("type"), &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let n = policy.int(field).unwrap_or(0);
            if n <= 0 {
                errors.invalid(&at.child(field), n, "must be greater than zero");
            }
        }
        if let Some(seconds) = policy.int("periodSeconds").filter(|s| *s > PERIOD_MAX) {
            let detail = format!("must be less than or equal to {PERIOD_MAX}");
            errors.invalid(&at.child("periodSeconds"), seconds, detail);
        }
    }
    if rules.has("tolerance") {
        not_negative(rules.at("tolerance"), &at.child("tolerance"), errors);
    }
}

fn cells(hpa: &Value, now: Timestamp) -> Vec<Value> {
    if hpa.at("spec").has("metrics") {
        return current_cells(hpa, now);
    }
    let mut hpa = hpa.clone();
    convert(&mut hpa, "v1", "v2");
    current_cells(&hpa, now)
}

fn current_cells(scaler: &Value, now: Timestamp) -> Vec<Value> {
    const MAX: usize = 2;
    let (spec, status) = (scaler.at("spec"), scaler.at("status"));
    let target = spec.at("scaleTargetRef");
    let (list, is) = (spec.list("metrics"), status.list("currentMetrics"));
    let all: Vec<String> = list.iter().enumerate().map(|(i, m)| metrics::shown(m, is.get(i))).collect();
    let first = all[..all.len().min(MAX)].join(", ");
    let shown = match all.len() {
        0 => "<none>".to_owned(),
        n if n > MAX => format!("{first} + {} more...", n - MAX),
        _ => first,
    };
    vec![
        name(scaler),
        format!("{}/{}", target.text("kind"), target.text("name")).into(),
        shown.into(),
        spec.int("minReplicas").map_or("<unset>".to_owned(), |n| n.to_string()).into(),
        number(spec, "maxReplicas"),
        number(status, "currentReplicas"),
        age(scaler, now),
    ]
}
