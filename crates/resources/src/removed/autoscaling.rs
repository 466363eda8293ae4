//! `autoscaling/v2beta1`: metrics by flat fields. (`v2beta2` has the shape of `v2`.)

use machinery::{Get, Value};
use serde_json::json;

use super::steps::Step::{self, Change};
use super::steps::each;
use super::workloads::drop_annotation;

const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub const V2BETA1: &[Step] = &[Change(to_now, to_old)];

/// (source, what its value is in the flat form, its type in the target, its name there)
const TARGETS: &[(&str, &str, &str, &str)] = &[
    ("resource", "targetAverageUtilization", "Utilization", "averageUtilization"),
    ("resource", "targetAverageValue", "AverageValue", "averageValue"),
    ("containerResource", "targetAverageUtilization", "Utilization", "averageUtilization"),
    ("containerResource", "targetAverageValue", "AverageValue", "averageValue"),
    ("pods", "targetAverageValue", "AverageValue", "averageValue"),
    ("object", "averageValue", "AverageValue", "averageValue"),
    ("object", "targetValue", "Value", "value"),
    ("external", "targetValue", "Value", "value"),
    ("external", "targetAverageValue", "AverageValue", "averageValue"),
];

/// The same for what a status shows.
const CURRENT: &[(&str, &str, &str)] = &[
    ("resource", "currentAverageUtilization", "averageUtilization"),
    ("resource", "currentAverageValue", "averageValue"),
    ("containerResource", "currentAverageUtilization", "averageUtilization"),
    ("containerResource", "currentAverageValue", "averageValue"),
    ("pods", "currentAverageValue", "averageValue"),
    ("object", "averageValue", "averageValue"),
    ("object", "currentValue", "value"),
    ("external", "currentValue", "value"),
    ("external", "currentAverageValue", "averageValue"),
];

/// Sources that name a metric, and what its selector is called in the flat form.
const NAMED: &[(&str, &str)] =
    &[("pods", "selector"), ("object", "selector"), ("external", "metricSelector")];

fn to_now(hpa: &mut Value) {
    each(hpa, "spec.metrics[]", &mut |metric| {
        if let Some(object) = metric.get_mut("object") {
            super::steps::rename(object, "target", "describedObject");
        }
        for (source, flat, kind, name) in TARGETS {
            let Some(at) = metric.get_mut(source) else { continue };
            if let Some(value) = at.unset(flat).filter(|v| !v.is_null()) {
                // of two values the first in the table counts, except that an object's average wins over "0"
                let known = at.get("target").is_some_and(|t| t.has("type"));
                if !known {
                    at.set("target", json!({"type": kind, (*name): value}));
                }
            }
        }
        metric_to_now(metric);
    });
    each(hpa, "status.currentMetrics[]", &mut |metric| {
        if let Some(object) = metric.get_mut("object") {
            super::steps::rename(object, "target", "describedObject");
        }
        for (source, flat, name) in CURRENT {
            let Some(at) = metric.get_mut(source) else { continue };
            if let Some(value) = at.unset(flat).filter(|v| !v.is_null()) {
                at.child("current").set(name, value);
            }
        }
        metric_to_now(metric);
    });
    let behavior = hpa.at("metadata").at("annotations").text(BEHAVIOR);
    if let Ok(behavior) = serde_json::from_str::<Value>(behavior) {
        drop_annotation(hpa, BEHAVIOR);
        hpa.child("spec").set("behavior", behavior);
    }
}

fn metric_to_now(metric: &mut Value) {
    for (source, selector) in NAMED {
        let Some(at) = metric.get_mut(source) else { continue };
        let (name, selector) = (at.unset("metricName"), at.unset(selector));
        if let Some(name) = name {
            at.child("metric").set("name", name);
        }
        if let Some(selector) = selector {
            at.child("metric").set("selector", selector);
        }
    }
}

fn to_old(hpa: &mut Value) {
    each(hpa, "spec.metrics[]", &mut |metric| {
        for (source, flat, _, name) in TARGETS {
            let Some(at) = metric.get_mut(source) else { continue };
            let value = at.get("target").and_then(|t| t.get(name)).cloned();
            if let Some(value) = value {
                at.set(flat, value);
            }
        }
        metric_to_old(metric, "target");
        if let Some(object) = metric.get_mut("object") {
            object.set_default("targetValue", "0");
        }
    });
    each(hpa, "status.currentMetrics[]", &mut |metric| {
        for (source, flat, name) in CURRENT {
            let Some(at) = metric.get_mut(source) else { continue };
            let value = at.get("current").and_then(|t| t.get(name)).cloned();
            if let Some(value) = value {
                at.set(flat, value);
            }
        }
        metric_to_old(metric, "current");
    });
    if let Some(behavior) = hpa.child("spec").unset("behavior") {
        hpa.child("metadata").child("annotations").set(BEHAVIOR, behavior.to_string());
    }
}

fn metric_to_old(metric: &mut Value, values: &str) {
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        if let Some(at) = metric.get_mut(source) {
            at.unset(values);
        }
    }
    for (source, selector) in NAMED {
        let Some(at) = metric.get_mut(source) else { continue };
        if let Some(named) = at.unset("metric") {
            at.set("metricName", named.text("name"));
            if named.has("selector") {
                at.set(selector, named.at("selector").clone());
            }
        }
    }
    if let Some(object) = metric.get_mut("object") {
        super::steps::rename(object, "describedObject", "target");
    }
}
