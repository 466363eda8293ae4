//! HorizontalPodAutoscalers between v1 and v2: what v1 has no fields for is in annotations there
//! (`pkg/apis/autoscaling/v1/conversion.go`).

use machinery::{Get, Value};
use serde_json::{Map, json};

use crate::gostruct::label_selector;
use crate::internal;

const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// Of CPU, if nothing is said.
pub(super) const DEFAULT_UTILIZATION: i64 = 80;

/// What CPU is to be used, as a metric of v2.
pub(super) fn cpu_metric(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
    }})
}

/// To v2.
pub(super) fn up(hpa: &mut Value) {
    let annotation = |hpa: &Value, name: &str| -> Option<Value> {
        serde_json::from_str(hpa.at("metadata").at("annotations").text(name)).ok()
    };
    let mut metrics: Vec<Value> = match annotation(hpa, METRICS) {
        Some(Value::Array(items)) => items.iter().map(spec_up).collect(),
        _ => Vec::new(),
    };
    let percent = hpa.at("spec").int(TARGET);
    metrics.extend(percent.map(cpu_metric));
    if metrics.is_empty() {
        metrics.push(cpu_metric(DEFAULT_UTILIZATION));
    }
    let behavior = annotation(hpa, BEHAVIOR).map(|b| small_letters(&b));
    let spec = hpa.child("spec");
    spec.unset(TARGET);
    spec.set("metrics", metrics);
    if let Some(behavior) = behavior.filter(|b| b.as_object().is_some_and(|b| !b.is_empty())) {
        spec.set("behavior", behavior);
    }
    let used = hpa.at("status").int(CURRENT);
    if let Some(Value::Array(items)) = annotation(hpa, STATUSES) {
        hpa.child("status").set("currentMetrics", items.iter().map(status_up).collect::<Vec<_>>());
    } else if let Some(percent) = used {
        let resource = json!({"name": "cpu", "current": {"averageUtilization": percent}});
        hpa.child("status").set("currentMetrics", json!([{"type": "Resource", "resource": resource}]));
    }
    if let Some(conditions @ Value::Array(_)) = annotation(hpa, CONDITIONS) {
        hpa.child("status").set("conditions", conditions);
    }
    if let Some(status) = hpa.child_if("status") {
        status.unset(CURRENT);
        if status.int("currentReplicas") == Some(0) {
            // v2 leaves it out
            status.unset("currentReplicas");
        }
    }
    drop_annotations(hpa);
}

fn drop_annotations(hpa: &mut Value) {
    let Some(meta) = hpa.child_if("metadata") else { return };
    let Some(annotations) = meta.child_if("annotations") else { return };
    for name in [METRICS, STATUSES, BEHAVIOR, CONDITIONS] {
        annotations.unset(name);
    }
    if annotations.as_object().is_some_and(Map::is_empty) {
        meta.unset("annotations");
    }
}

/// To v1.
pub(super) fn down(hpa: &mut Value) {
    drop_annotations(hpa);
    let is_cpu = |m: &&Value| m.text("type") == "Resource" && m.at("resource").text("name") == "cpu";
    let used = |m: &Value, part: &str| m.at("resource").at(part).int("averageUtilization");
    let metrics = hpa.at("spec").list("metrics").to_vec();
    let statuses = hpa.at("status").list("currentMetrics").to_vec();
    let conditions = hpa.at("status").list("conditions").to_vec();
    let behavior = hpa.at("spec").at("behavior").clone();
    let target = metrics.iter().filter(is_cpu).find_map(|m| used(m, "target"));
    let current = statuses.iter().filter(is_cpu).filter_map(|m| used(m, "current")).next_back();
    for (part, gone) in [("spec", ["metrics", "behavior"]), ("status", ["currentMetrics", "conditions"])] {
        if let Some(part) = hpa.child_if(part) {
            gone.iter().for_each(|field| drop(part.unset(field)));
        }
    }
    let others: Vec<String> = metrics
        .iter()
        .filter(|m| !(is_cpu(m) && used(m, "target").is_some()))
        .map(|m| metric_down(m, false))
        .collect();
    let mut annotate = |name: &str, text: String| {
        hpa.child("metadata").child("annotations").set(name, text);
    };
    if !others.is_empty() {
        annotate(METRICS, format!("[{}]", others.join(",")));
    }
    if !statuses.is_empty() {
        let all: Vec<String> = statuses.iter().map(|m| metric_down(m, true)).collect();
        annotate(STATUSES, format!("[{}]", all.join(",")));
    }
    if behavior.is_object() {
        annotate(BEHAVIOR, internal::compact("autoscaling.HorizontalPodAutoscalerBehavior", &behavior));
    }
    if !conditions.is_empty() {
        let fields = ["type", "status", "lastTransitionTime", "reason", "message"];
        let all: Vec<String> = conditions.iter().map(|c| crate::check::shown(c, &fields)).collect();
        annotate(CONDITIONS, format!("[{}]", all.join(",")));
    }
    if let Some(percent) = target {
        hpa.child("spec").set(TARGET, percent);
    }
    if let Some(percent) = current {
        hpa.child("status").set(CURRENT, percent);
    }
    if let Some(status) = hpa.child_if("status") {
        // v1 always has it
        status.set_default("currentReplicas", 0);
    }
}

/// The names of Go's fields as the API has them; what is null is left out.
fn small_letters(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().filter(|(_, v)| !v.is_null()).map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|c| c.to_ascii_lowercase());
                (first.into_iter().chain(letters).collect::<String>(), small_letters(value))
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => items.iter().map(small_letters).collect(),
        other => other.clone(),
    }
}

/// The field that a metric of this type is in.
fn part(kind: &str) -> &'static str {
    match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => "external",
    }
}

/// JSON with its fields in a given order.
#[derive(Default)]
struct Ordered(Vec<String>);

impl Ordered {
    fn put(&mut self, name: &str, text: impl std::fmt::Display) {
        self.0.push(format!("{}:{text}", Value::from(name)));
    }

    fn put_some(&mut self, name: &str, value: &Value) {
        if !value.is_null() {
            self.put(name, value);
        }
    }

    /// A quantity that v1 always has.
    fn amount(&mut self, name: &str, value: &Value) {
        if value.is_null() {
            self.put(name, json!("0"));
        } else {
            self.put(name, value);
        }
    }

    fn selector(&mut self, name: &str, value: &Value) {
        if value.is_object() {
            self.put(name, label_selector(value));
        }
    }

    fn text(self) -> String {
        format!("{{{}}}", self.0.join(","))
    }
}

/// A metric of v2, or the status of one, as v1 writes it.
fn metric_down(metric: &Value, status: bool) -> String {
    let kind = metric.text("type");
    let source = metric.at(part(kind));
    let (goal, prefix) =
        if status { (source.at("current"), "current") } else { (source.at("target"), "target") };
    let own = |name: &str| format!("{prefix}{name}");
    let (value, average) = (goal.at("value"), goal.at("averageValue"));
    let name = source.at("metric").at("name");
    let selector = source.at("metric").at("selector");
    let mut out = Ordered::default();
    match kind {
        "Object" => {
            let object = source.at("describedObject");
            let mut target = Ordered::default();
            target.put("kind", object.at("kind"));
            target.put("name", object.at("name"));
            if !object.text("apiVersion").is_empty() {
                target.put("apiVersion", object.at("apiVersion"));
            }
            out.put("target", target.text());
            out.put("metricName", name);
            out.amount(&own("Value"), value);
            out.selector("selector", selector);
            out.put_some("averageValue", average);
        }
        "Pods" => {
            out.put("metricName", name);
            out.amount(&own("AverageValue"), average);
            out.selector("selector", selector);
        }
        "Resource" | "ContainerResource" => {
            out.put("name", source.at("name"));
            out.put_some(&own("AverageUtilization"), goal.at("averageUtilization"));
            if status {
                out.amount(&own("AverageValue"), average);
            } else {
                out.put_some(&own("AverageValue"), average);
            }
            if kind == "ContainerResource" {
                out.put("container", source.at("container"));
            }
        }
        _ => {
            out.put("metricName", name);
            out.selector("metricSelector", selector);
            if status {
                out.amount(&own("Value"), value);
            } else {
                out.put_some(&own("Value"), value);
            }
            out.put_some(&own("AverageValue"), average);
        }
    }
    format!("{{\"type\":{},\"{}\":{}}}", metric.at("type"), part(kind), out.text())
}

fn set_some(to: &mut Value, name: &str, value: &Value) {
    if !value.is_null() {
        to.set(name, value.clone());
    }
}

/// The name and selector of a metric of v1.
fn identifier(source: &Value) -> Value {
    let mut metric = json!({"name": source.text("metricName")});
    set_some(&mut metric, "selector", source.at("selector"));
    set_some(&mut metric, "selector", source.at("metricSelector"));
    metric
}

fn spec_up(metric: &Value) -> Value {
    let kind = metric.text("type");
    let source = metric.at(part(kind));
    let mut target = json!({});
    let (value, average) = (source.at("targetValue"), source.at("targetAverageValue"));
    let zero = value.is_null() || value == "0";
    let by = match kind {
        "Object" => {
            let average = source.at("averageValue");
            if average.is_null() || !zero {
                set_some(&mut target, "value", value);
            }
            set_some(&mut target, "averageValue", average);
            if average.is_null() { "Value" } else { "AverageValue" }
        }
        "Resource" | "ContainerResource" => {
            let utilization = source.at("targetAverageUtilization");
            set_some(&mut target, "averageUtilization", utilization);
            set_some(&mut target, "averageValue", average);
            if utilization.is_null() { "AverageValue" } else { "Utilization" }
        }
        "Pods" => {
            set_some(&mut target, "averageValue", average);
            "AverageValue"
        }
        _ => {
            set_some(&mut target, "value", value);
            set_some(&mut target, "averageValue", average);
            if value.is_null() { "AverageValue" } else { "Value" }
        }
    };
    target.set("type", by);
    raised(kind, source, "target", target)
}

fn status_up(metric: &Value) -> Value {
    let kind = metric.text("type");
    let source = metric.at(part(kind));
    let mut current = json!({});
    set_some(&mut current, "value", source.at("currentValue"));
    set_some(&mut current, "averageValue", source.at("currentAverageValue"));
    set_some(&mut current, "averageValue", source.at("averageValue"));
    set_some(&mut current, "averageUtilization", source.at("currentAverageUtilization"));
    raised(kind, source, "current", current)
}

fn raised(kind: &str, source: &Value, field: &str, goal: Value) -> Value {
    let mut out = json!({});
    if matches!(kind, "Resource" | "ContainerResource") {
        set_some(&mut out, "name", source.at("name"));
        set_some(&mut out, "container", source.at("container"));
    } else {
        out.set("metric", identifier(source));
        set_some(&mut out, "describedObject", source.at("target"));
    }
    out.set(field, goal);
    let mut metric = json!({"type": kind});
    metric.set(part(kind), out);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let hpa = json!({"metadata": {"name": "a"}, "spec": {
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}},
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
                cpu_metric(50),
            ]},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": 2, "averageValue": "0"}}}]}});
        let mut old = hpa.clone();
        down(&mut old);
        assert_eq!(old["spec"], json!({TARGET: 50}));
        assert_eq!(old["status"], json!({CURRENT: 2, "currentReplicas": 0}));
        let annotations = &old["metadata"]["annotations"];
        let want = r#"[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"1"}}]"#;
        assert_eq!(annotations[METRICS], want);
        let want = r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":2,"currentAverageValue":"0"}}]"#;
        assert_eq!(annotations[STATUSES], want);
        up(&mut old);
        assert_eq!(old, hpa);
    }
}
