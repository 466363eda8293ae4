//! Bindings of admission policies.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::matching;
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static VALIDATING: Strategy = Strategy {
    kind: "ValidatingAdmissionPolicyBinding",
    validate: |obj, _| validating(obj),
    validate_update: |new, _, _| validating(new),
    columns: Some(Columns { definitions: VALIDATING_DEFINITIONS, cells, conditions: no_conditions }),
    ..BASE
};

pub(crate) static MUTATING: Strategy = Strategy {
    kind: "MutatingAdmissionPolicyBinding",
    validate: |obj, _| mutating(obj),
    validate_update: |new, _, _| mutating(new),
    columns: Some(Columns { definitions: MUTATING_DEFINITIONS, cells, conditions: no_conditions }),
    ..BASE
};

const BASE: Strategy = Strategy {
    group: "admissionregistration.k8s.io",
    default: |obj, _| {
        if obj.at("spec").has("matchResources") {
            matching::default_resources(obj.child("spec").child("matchResources"));
        }
    },
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    unconditional_update: false,
    storage: "v1",
    ..Strategy::BASE
};

const VALIDATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "PolicyName",
        "string",
        "",
        0,
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    ("ParamRef", "string", "", 0, "ParamRef indicates the param resource which sets the configuration param"),
    ("Age", "string", "", 0, CREATED),
];
const MUTATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "PolicyName",
        "string",
        "",
        0,
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    ("ParamRef", "string", "", 0, "ParamRef indicates the param resource which sets the configuration param"),
    ("Age", "string", "", 0, CREATED),
];

fn common(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate_generic(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    match spec.text("policyName") {
        "" => errors.required(&at.child("policyName"), ""),
        policy => errors.each(&at.child("policyName"), policy, names::subdomain_name(policy, false)),
    }
    if spec.has("paramRef") {
        param_ref(spec.at("paramRef"), &at.child("paramRef"), &mut errors);
    }
    if spec.has("matchResources") {
        matching::match_resources(spec.at("matchResources"), &at.child("matchResources"), &mut errors);
    }
    errors
}

fn mutating(obj: &Value) -> ErrorList {
    let mut errors = common(obj);
    let at = Path::new("spec").child("matchResources");
    matching::mutating_operations(obj.at("spec").at("matchResources"), &at, &mut errors);
    errors
}

fn validating(obj: &Value) -> ErrorList {
    let mut errors = common(obj);
    let at = Path::new("spec").child("validationActions");
    let actions = obj.at("spec").list("validationActions");
    let mut seen = BTreeSet::new();
    for (i, action) in actions.iter().filter_map(Value::as_str).enumerate() {
        errors.one_of(&at.index(i), action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action) {
            errors.duplicate(&at.index(i), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(&at, actions.to_vec(), detail);
    }
    if seen.is_empty() {
        errors.required(&at, "at least one validation action is required");
    }
    errors
}

fn param_ref(reference: &Value, at: &Path, errors: &mut ErrorList) {
    let both = "name and selector are mutually exclusive";
    let (name, selector) = (reference.text("name"), reference.at("selector"));
    if !name.is_empty() {
        errors.each(&at.child("name"), name, names::path_segment(name, false));
        if !selector.is_null() {
            errors.forbidden(&at.child("name"), both);
        }
    }
    if !selector.is_null() {
        check::label_selector(selector, &at.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&at.child("selector"), both);
        }
    }
    if name.is_empty() && selector.is_null() {
        errors.required(at, "one of name or selector must be specified");
    }
    let own = at.child("parameterNotFoundAction");
    match reference.text("parameterNotFoundAction") {
        "" => errors.required(&own, ""),
        action => errors.one_of(&own, action, &["Deny", "Allow"]),
    }
}

fn cells(binding: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let spec = binding.at("spec");
    let reference = spec.at("paramRef");
    let shown = match (reference.text("name"), reference.at("selector")) {
        ("", Value::Null) => "<unset>".into(),
        ("", selector) => selector_shown(selector),
        (name, _) if reference.text("namespace").is_empty() => format!("*/{name}"),
        (name, _) => format!("{}/{name}", reference.text("namespace")),
    };
    vec![name(binding), spec.text("policyName").into(), shown.into(), age(binding, now)]
}

/// A selector as the text form of its protobuf type.
fn selector_shown(selector: &Value) -> String {
    let mut labels = String::new();
    for (key, value) in selector.map("matchLabels").into_iter().flatten() {
        labels.push_str(&format!("{key}: {},", value.as_str().unwrap_or_default()));
    }
    let mut terms = String::new();
    for term in selector.list("matchExpressions") {
        let values: Vec<&str> = term.list("values").iter().filter_map(Value::as_str).collect();
        let (key, operator) = (term.text("key"), term.text("operator"));
        let values = values.join(" ");
        terms.push_str(&format!(
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"
        ));
    }
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
    )
}
