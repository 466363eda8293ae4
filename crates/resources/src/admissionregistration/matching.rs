//! Which requests a webhook or policy is for: rules, selectors, conditions.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::expressions::{Compiler, Use};
use crate::check::{self, Errors};
use crate::names;

/// Expressions that were accepted before may use what only stored ones may.
pub(super) fn version(stored: bool) -> cel::Version {
    if stored { cel::Version::CURRENT } else { cel::Version::COMPATIBLE }
}

pub(super) const FAILURE: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION: [&str; 2] = ["IfNeeded", "Never"];

pub(super) fn default_rules(obj: &mut Value, field: &str) {
    for rule in obj.list_mut(field) {
        rule.set_default("scope", "*");
    }
}

/// `matchConstraints` of a policy, `matchResources` of a binding.
pub(super) fn default_resources(resources: &mut Value) {
    resources.set_default("matchPolicy", "Equivalent");
    resources.set_default("namespaceSelector", json!({}));
    resources.set_default("objectSelector", json!({}));
    default_rules(resources, "resourceRules");
    default_rules(resources, "excludeResourceRules");
}

fn texts<'a>(obj: &'a Value, field: &str) -> Vec<&'a str> {
    obj.list(field).iter().filter_map(Value::as_str).collect()
}

/// Operations and what they are done to.
pub(super) fn rule(rule: &Value, at: &Path, errors: &mut ErrorList) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations = texts(rule, "operations");
    some_or_all(&operations, "operations", &at.child("operations"), errors);
    for (i, operation) in operations.iter().enumerate() {
        errors.one_of(&at.child("operations").index(i), operation, &OPERATIONS);
    }
    some_or_all(&texts(rule, "apiGroups"), "API groups", &at.child("apiGroups"), errors);
    let versions = texts(rule, "apiVersions");
    some_or_all(&versions, "API versions", &at.child("apiVersions"), errors);
    for (i, _) in versions.iter().enumerate().filter(|(_, v)| v.is_empty()) {
        errors.required(&at.child("apiVersions").index(i), "");
    }
    resources(&texts(rule, "resources"), &at.child("resources"), errors);
    if let Some(scope) = rule.at("scope").as_str() {
        errors.one_of(&at.child("scope"), scope, &["*", "Cluster", "Namespaced"]);
    }
}

/// At least one; `*` only alone.
fn some_or_all(all: &[&str], what: &str, at: &Path, errors: &mut ErrorList) {
    if all.is_empty() {
        errors.required(at, "");
    }
    if all.len() > 1 && all.contains(&"*") {
        errors.invalid(at, all.to_vec(), format!("if '*' is present, must not specify other {what}"));
    }
}

/// `resource`, `resource/subresource`, with `*` for either or both.
fn resources(all: &[&str], at: &Path, errors: &mut ErrorList) {
    if all.is_empty() {
        errors.required(at, "");
    }
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (i, text) in all.iter().enumerate() {
        let at = at.index(i);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = *text != "*";
            continue;
        };
        if whole.contains(resource) {
            errors.invalid(&at, *text, format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if everywhere.contains(sub) {
            errors.invalid(&at, *text, format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.invalid(at, all.to_vec(), "if '*/*' is present, must not specify other resources");
    }
    if all.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(at, all.to_vec(), detail);
    }
}

/// What a policy or binding is for.
pub(super) fn match_resources(resources: &Value, at: &Path, errors: &mut ErrorList) {
    match resources.at("matchPolicy").as_str() {
        None => errors.required(&at.child("matchPolicy"), ""),
        Some(policy) => errors.one_of(&at.child("matchPolicy"), policy, &MATCH),
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if resources.has(field) {
            check::label_selector(resources.at(field), &at.child(field), errors);
        } else {
            errors.required(&at.child(field), "");
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (i, each) in resources.list(field).iter().enumerate() {
            let at = at.child(field).index(i);
            let mut seen = BTreeSet::new();
            for (j, name) in texts(each, "resourceNames").into_iter().enumerate() {
                let at = at.child("resourceNames").index(j);
                errors.each(&at, name, names::path_segment(name, false));
                if !seen.insert(name) {
                    errors.duplicate(&at, name);
                }
            }
            rule(each, &at, errors);
        }
    }
}

/// Mutating policies see no deletion.
pub(super) fn mutating_operations(resources: &Value, at: &Path, errors: &mut ErrorList) {
    for rule in resources.list("resourceRules") {
        for operation in texts(rule, "operations") {
            let at = at.child("resourceRules").child("operations");
            errors.one_of(&at, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
        }
    }
}

/// `params`: conditions may use them. `stored`: is it an expression that the old object has?
pub(super) fn conditions(
    conditions: &[Value],
    params: bool,
    stored: &dyn Fn(&str) -> bool,
    at: &Path,
    errors: &mut ErrorList,
) {
    const MAX: usize = 64;
    if conditions.len() > MAX {
        errors.too_many(at, conditions.len(), MAX);
    }
    let mut seen = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        match condition.text("expression").trim() {
            "" => errors.required(&at.child("expression"), ""),
            source => {
                let compiler = Compiler::new(params);
                let found =
                    compiler.compile(source, &[cel::Type::Bool], Use::Condition, version(stored(source)));
                if let Err(why) = found {
                    errors.invalid(&at.child("expression"), source, why);
                }
            }
        }
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
            continue;
        }
        errors.each(&at.child("name"), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
}
