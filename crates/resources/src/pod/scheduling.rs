//! Where a pod may run: affinity, tolerations, topology spread.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors};
use crate::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(crate) fn affinity(affinity: &Value, at: &Path, errors: &mut ErrorList) {
    let node = affinity.at("nodeAffinity");
    if node.is_object() {
        let at = at.child("nodeAffinity");
        if node.at(REQUIRED).is_object() {
            node_selector(node.at(REQUIRED), false, &at.child(REQUIRED), errors);
        }
        for (i, term) in node.list(PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            weight(term, &at, errors);
            node_selector_term(term.at("preference"), true, &at.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pod = affinity.at(kind);
        let at = at.child(kind);
        for (i, term) in pod.list(REQUIRED).iter().enumerate() {
            pod_affinity_term(term, &at.child(REQUIRED).index(i), errors);
        }
        for (i, weighted) in pod.list(PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            weight(weighted, &at, errors);
            pod_affinity_term(weighted.at("podAffinityTerm"), &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, at: &Path, errors: &mut ErrorList) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A `v1.NodeSelector`; `lax_values`: values need not be label values.
pub(crate) fn node_selector(selector: &Value, lax_values: bool, at: &Path, errors: &mut ErrorList) {
    let at = at.child("nodeSelectorTerms");
    let terms = selector.list("nodeSelectorTerms");
    if terms.is_empty() {
        return errors.required(&at, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(term, lax_values, &at.index(i), errors);
    }
}

pub(crate) fn node_selector_term(term: &Value, lax_values: bool, at: &Path, errors: &mut ErrorList) {
    for (i, requirement) in term.list("matchExpressions").iter().enumerate() {
        node_requirement(requirement, lax_values, &at.child("matchExpressions").index(i), errors);
    }
    for (i, requirement) in term.list("matchFields").iter().enumerate() {
        let at = at.child("matchFields").index(i);
        let values = requirement.list("values");
        match requirement.text("operator") {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    let detail =
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    errors.required(&at.child("values"), detail);
                }
            }
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        match requirement.text("key") {
            "metadata.name" => {
                for (j, value) in values.iter().enumerate() {
                    let value = value.as_str().unwrap_or("");
                    let messages = names::subdomain_name(value, false);
                    errors.each(&at.child("values").index(j), value, messages);
                }
            }
            key => errors.invalid(&at.child("key"), key, "not a valid field selector key"),
        }
    }
}

fn node_requirement(requirement: &Value, lax_values: bool, at: &Path, errors: &mut ErrorList) {
    let values = requirement.list("values");
    let values_at = at.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&values_at, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&values_at, detail);
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&values_at, detail);
            }
        }
        other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
    }
    check::label_name(requirement.text("key"), &at.child("key"), errors);
    if lax_values {
        return;
    }
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        errors.each(&values_at.index(i), value, names::label_value(value));
    }
}

fn pod_affinity_term(term: &Value, at: &Path, errors: &mut ErrorList) {
    for selector in ["labelSelector", "namespaceSelector"] {
        check::label_selector(term.at(selector), &at.child(selector), errors);
    }
    for name in term.list("namespaces").iter().filter_map(Value::as_str) {
        errors.each(&at.child("namespace"), name, names::label_name(name, false));
    }
    label_keys(term, at, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    check::label_name(key, &at.child("topologyKey"), errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys`.
fn label_keys(term: &Value, at: &Path, errors: &mut ErrorList) {
    let selector = term.at("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.list(field);
        let at = at.child(field);
        if keys.is_empty() {
            continue;
        }
        if !selector.is_object() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            check::label_name(key.as_str().unwrap_or(""), &at.index(i), errors);
        }
    }
    let keys = term.list("matchLabelKeys");
    let mut seen: Vec<&str> =
        selector.map("matchLabels").into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.text("key");
        if let Some(i) = keys.iter().rposition(|k| k == key)
            && seen.contains(&key)
        {
            errors.invalid(&at.index(i), key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.push(key);
    }
    for (i, key) in keys.iter().enumerate() {
        if term.list("mismatchLabelKeys").contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at.child("matchLabelKeys").index(i), key.clone(), detail);
        }
    }
}

/// `lt_gt`: the operators `Lt` and `Gt` are allowed.
pub(crate) fn tolerations(tolerations: &[Value], lt_gt: bool, at: &Path, errors: &mut ErrorList) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = at.index(i);
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        let operator_at = at.child("operator");
        if !key.is_empty() {
            check::label_name(key, &at.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&operator_at, operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&operator_at, value, messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    errors.invalid(&operator_at, value, "value must be empty when `operator` is 'Exists'");
                }
            }
            "Lt" | "Gt" if lt_gt => {
                if value.parse::<i64>().is_err() {
                    errors.invalid(&at.child("value"), value, "must be a valid integer");
                }
            }
            "Lt" | "Gt" => errors.unsupported(&operator_at, operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => errors.unsupported(&operator_at, operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(effect, &at.child("effect"), errors);
        }
    }
}

pub(crate) fn taint_effect(effect: &str, at: &Path, errors: &mut ErrorList) {
    errors.one_of(at, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

pub(crate) fn spread(constraints: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, constraint) in constraints.iter().enumerate() {
        let at = at.index(i);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        errors.one_of(&at.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |c: &Value| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action;
        if constraints[i + 1..].iter().any(same) {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&at, format!("{{{key}, {action}}}"));
        }
        if let Some(min) = constraint.int("minDomains") {
            let at = at.child("minDomains");
            if min <= 0 {
                errors.invalid(&at, min, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at, min, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if constraint.has(field) {
                errors.one_of(&at.child(field), constraint.text(field), &["Honor", "Ignore"]);
            }
        }
        label_keys(constraint, &at, errors);
        check::label_selector(constraint.at("labelSelector"), &at.child("labelSelector"), errors);
    }
}

/// `matchLabelExpressions` of a topology selector term; the terms' values by key, for comparing terms.
pub(crate) fn topology_term<'a>(
    term: &'a Value,
    at: &Path,
    errors: &mut ErrorList,
) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for (i, requirement) in term.list("matchLabelExpressions").iter().enumerate() {
        let at = at.child("matchLabelExpressions").index(i);
        let mut seen: Vec<&str> = Vec::new();
        if requirement.list("values").is_empty() {
            errors.required(&at.child("values"), "");
        }
        for (j, value) in requirement.list("values").iter().filter_map(Value::as_str).enumerate() {
            if seen.contains(&value) {
                errors.duplicate(&at.child("values").index(j), value);
            } else {
                seen.push(value);
            }
        }
        let key = requirement.text("key");
        check::label_name(key, &at.child("key"), errors);
        if found.iter().any(|(k, _)| *k == key) {
            errors.duplicate(&at.child("key"), key);
        }
        seen.sort_unstable();
        found.retain(|(k, _)| *k != key);
        found.push((key, seen));
    }
    found.sort();
    found
}
