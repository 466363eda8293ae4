//! What an autoscaler looks at.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::pod::requirements::container_resource_name;
use crate::{names, quantity};

/// (type, field), in the order in which upstream looks for them
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Metrics of which some must be there for no pods to be enough.
pub(super) fn from_outside(metric: &Value) -> bool {
    matches!(metric.text("type"), "Object" | "External")
}

pub(super) fn validate(metric: &Value, lax_api: bool, at: &Path, errors: &mut ErrorList) {
    let kind = metric.text("type");
    let expected = SOURCES.iter().find(|(k, _)| *k == kind).map(|(_, f)| *f);
    if kind.is_empty() {
        errors.required(&at.child("type"), "must specify a metric source type");
    }
    if expected.is_none() {
        errors.unsupported(&at.child("type"), kind, &TYPES);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, f)| *f).filter(|f| metric.has(f)).collect();
    if let Some(first) = present.first() {
        source(first, metric.at(first), lax_api, &at.child(first), errors);
    }
    match expected {
        Some(field) if !metric.has(field) => {
            errors.required(&at.child(field), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => errors.unsupported(&at.child("type"), kind, &TYPES),
    }
    if present.len() != 1 {
        for field in present.iter().filter(|f| Some(**f) != expected) {
            errors.forbidden(&at.child(field), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &Value, lax_api: bool, at: &Path, errors: &mut ErrorList) {
    match kind {
        "object" => {
            reference(source.at("describedObject"), true, lax_api, &at.child("describedObject"), errors)
        }
        "resource" | "containerResource" => resource(kind, source, at, errors),
        _ => {}
    }
    if matches!(kind, "object" | "external" | "pods") {
        let (name, own) = (source.at("metric").text("name"), at.child("metric").child("name"));
        match name {
            "" => errors.required(&own, "must specify a metric name"),
            _ => errors.each(&own, name, names::path_segment(name, false)),
        }
    }
    let (goal, at) = (source.at("target"), at.child("target"));
    target(goal, &at, errors);
    let (value, average) = (goal.has("value"), goal.has("averageValue"));
    let utilization = goal.has("averageUtilization");
    match kind {
        "object" if !value && !average => {
            errors.required(&at.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&at.child("averageValue"), detail);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&at.child("value"), detail);
        }
        "pods" if !average => {
            errors.required(&at.child("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !utilization && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&at.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&at.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn resource(kind: &str, source: &Value, at: &Path, errors: &mut ErrorList) {
    let name = source.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "must specify a resource name");
    } else if kind == "containerResource" {
        container_resource_name(name, &at.child("name"), errors);
    }
    if kind == "containerResource" {
        match source.text("container") {
            "" => errors.required(&at.child("container"), "must specify a container"),
            name => errors.each(&at.child("container"), name, names::dns1123_label(name)),
        }
    }
}

fn target(target: &Value, at: &Path, errors: &mut ErrorList) {
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&at.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&at.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if target.has(field) && quantity::of(target.at(field)) <= 0 {
            errors.invalid(&at.child(field), target.at(field).clone(), "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|p| *p < 1) {
        errors.invalid(&at.child("averageUtilization"), percent, "must be greater than 0");
    }
}

/// An object of some API; `lax`: its version is not looked at.
pub(super) fn reference(reference: &Value, core_too: bool, lax: bool, at: &Path, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => errors.required(&at.child(field), ""),
            text => errors.each(&at.child(field), text, names::path_segment(text, false)),
        }
    }
    if !lax && let Some(message) = bad_api(reference, core_too) {
        errors.invalid(&at.child("apiVersion"), reference.text("apiVersion"), message);
    }
}

pub(super) fn bad_api(reference: &Value, core_too: bool) -> Option<String> {
    let api = reference.text("apiVersion");
    match api.split('/').count() {
        3.. => Some(format!("unexpected GroupVersion string: {api}")),
        1 if !core_too => Some("apiVersion must specify API group".into()),
        2 if !core_too && api.starts_with('/') => Some("apiVersion must specify API group".into()),
        _ => None,
    }
}

/// One metric as `kubectl get` shows it: what is, and what is wanted.
pub(super) fn shown(metric: &Value, status: Option<&Value>) -> String {
    let kind = metric.text("type");
    let Some((_, field)) = SOURCES.iter().find(|(k, _)| *k == kind) else { return "<unknown type>".into() };
    let goal = metric.at(field).at("target");
    let current = status.map_or(&Value::Null, |s| s.at(field).at("current"));
    let value = |part: &str| current.at(part).as_str().unwrap_or("<unknown>").to_owned();
    let percent =
        |of: &Value, unset: &str| of.int("averageUtilization").map_or(unset.to_owned(), |p| format!("{p}%"));
    match kind {
        "External" | "Object" if goal.has("averageValue") => {
            format!("{}/{} (avg)", value("averageValue"), goal.text("averageValue"))
        }
        "External" | "Object" => format!("{}/{}", value("value"), goal.text("value")),
        "Pods" => format!("{}/{}", value("averageValue"), goal.text("averageValue")),
        _ if goal.has("averageValue") => {
            let name = metric.at(field).text("name");
            format!("{name}: {}/{}", value("averageValue"), goal.text("averageValue"))
        }
        _ => {
            let name = metric.at(field).text("name");
            format!("{name}: {}/{}", percent(current, "<unknown>"), percent(goal, "<auto>"))
        }
    }
}
