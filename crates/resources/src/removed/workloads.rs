//! Deployments, DaemonSets, ReplicaSets and StatefulSets before `apps/v1`.

use machinery::{Get, Value};
use serde_json::json;

use super::steps::Step::{self, Change, Default};

const ROLLBACK: &str = "deprecated.deployment.rollback.to";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// "For ever" and "all of them" of `extensions/v1beta1`.
const NO_LIMIT: &str = "2147483647";

/// A selector that was not given selects by the template's labels, and an object without labels has these, too.
const BY_TEMPLATE: Step = Change(
    |object| {
        let labels = object.at("spec").at("template").at("metadata").at("labels").clone();
        if !labels.as_object().is_some_and(|l| !l.is_empty()) {
            return;
        }
        let selector = object.at("spec").at("selector");
        if selector.is_null() || *selector == json!({}) {
            object.child("spec").set("selector", json!({"matchLabels": labels.clone()}));
        }
        if object.at("metadata").at("labels").as_object().is_none_or(serde_json::Map::is_empty) {
            object.child("metadata").set("labels", labels);
        }
    },
    |_| {},
);

/// `spec.rollbackTo` asked for a rollback; the annotation is what was left of it.
const ROLLBACK_TO: Step = Change(
    |object| {
        if let Some(to) = object.child("spec").unset("rollbackTo") {
            let revision = to.int("revision").unwrap_or(0).to_string();
            object.child("metadata").child("annotations").set(ROLLBACK, revision);
        }
    },
    |object| {
        let given = object.at("metadata").at("annotations").text(ROLLBACK).parse::<i64>();
        if let Ok(revision) = given {
            drop_annotation(object, ROLLBACK);
            let to = if revision == 0 { json!({}) } else { json!({"revision": revision}) };
            object.child("spec").set("rollbackTo", to);
        }
    },
);

const GENERATION: Step = Change(
    |object| {
        if let Some(generation) = object.child("spec").unset("templateGeneration") {
            let text = generation.to_string();
            object.child("metadata").child("annotations").set(TEMPLATE_GENERATION, text);
        }
    },
    |object| {
        let given = object.at("metadata").at("annotations").text(TEMPLATE_GENERATION).parse::<i64>();
        if let Ok(generation) = given {
            drop_annotation(object, TEMPLATE_GENERATION);
            object.child("spec").set("templateGeneration", generation);
        }
    },
);

pub(super) fn drop_annotation(object: &mut Value, name: &str) {
    let metadata = object.child("metadata");
    metadata.child("annotations").unset(name);
    if *metadata.at("annotations") == json!({}) {
        metadata.unset("annotations");
    }
}

/// The bounds of a rolling update, where one is made.
fn rolling(object: &mut Value, surge: Value, unavailable: Value) {
    let strategy = object.child("spec").child("strategy");
    strategy.set_default("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let bounds = strategy.child("rollingUpdate");
        bounds.set_default("maxSurge", surge);
        bounds.set_default("maxUnavailable", unavailable);
    }
}

pub const DEPLOYMENT_EXTENSIONS: &[Step] = &[
    BY_TEMPLATE,
    ROLLBACK_TO,
    Default("spec.replicas", "1"),
    Default("spec.progressDeadlineSeconds", NO_LIMIT),
    Default("spec.revisionHistoryLimit", NO_LIMIT),
    Change(|object| rolling(object, json!(1), json!(1)), |_| {}),
];

pub const DEPLOYMENT_APPS_BETA1: &[Step] = &[
    BY_TEMPLATE,
    ROLLBACK_TO,
    Default("spec.replicas", "1"),
    Default("spec.progressDeadlineSeconds", "600"),
    Default("spec.revisionHistoryLimit", "2"),
    Change(|object| rolling(object, json!("25%"), json!("25%")), |_| {}),
];

/// `apps/v1beta2` asks for a selector and has the defaults of `apps/v1`.
pub const DEPLOYMENT_APPS_BETA2: &[Step] = &[];

pub const DAEMON_SET_EXTENSIONS: &[Step] = &[
    BY_TEMPLATE,
    GENERATION,
    Default("spec.updateStrategy.type", "\"OnDelete\""),
    Default("spec.revisionHistoryLimit", "10"),
];

pub const REPLICA_SET_EXTENSIONS: &[Step] = &[BY_TEMPLATE, Default("spec.replicas", "1")];

pub const STATEFUL_SET_APPS_BETA1: &[Step] = &[
    BY_TEMPLATE,
    Default("spec.replicas", "1"),
    Default("spec.podManagementPolicy", "\"OrderedReady\""),
    Default("spec.updateStrategy.type", "\"OnDelete\""),
    Default("spec.revisionHistoryLimit", "10"),
];

/// The scale of the old groups: the selector as a map, and as text where a map can't say it.
pub fn scale_to_now(scale: &mut Value) {
    let status = scale.child("status");
    let pairs: Vec<String> = status
        .at("selector")
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let text = match status.unset("targetSelector") {
        Some(Value::String(text)) if !text.is_empty() => text,
        _ => pairs.join(","),
    };
    status.unset("selector");
    if !text.is_empty() {
        status.set("selector", text);
    }
    scale.set("apiVersion", "autoscaling/v1");
}

pub fn scale_to_old(scale: &mut Value, api_version: &str) {
    let status = scale.child("status");
    if let Some(Value::String(text)) = status.unset("selector") {
        let pairs: Option<serde_json::Map<String, Value>> = text
            .split(',')
            .map(|term| {
                let (key, value) = term.split_once('=')?;
                let plain = !key.contains(['!', '(', ' ']) && !value.starts_with('=');
                plain.then(|| (key.to_owned(), Value::from(value)))
            })
            .collect();
        if let Some(pairs) = pairs {
            status.set("selector", Value::Object(pairs));
        }
        status.set("targetSelector", text);
    }
    scale.set("apiVersion", api_version);
}
