//! Mutating and validating admission policies.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::matching::{self, FAILURE, REINVOCATION};
use crate::check::{self, Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names};

pub(crate) static VALIDATING: Strategy = Strategy {
    kind: "ValidatingAdmissionPolicy",
    prepare_create: |obj, _| {
        obj.set("status", json!({}));
        obj.child("metadata").set("generation", 1);
    },
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
            generation_by_spec(new, old);
        }
    },
    validate: |obj, _| validating(obj, false),
    validate_update: |new, old, context| {
        if context.subresource == "status" { status(new) } else { validating(new, same_conditions(new, old)) }
    },
    columns: Some(Columns {
        definitions: VALIDATING_DEFINITIONS,
        cells: |obj, now| cells(obj, "validations", now),
        conditions: |obj| obj.at("status").list("conditions").to_vec(),
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..BASE
};

pub(crate) static MUTATING: Strategy = Strategy {
    kind: "MutatingAdmissionPolicy",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| mutating(obj, false),
    validate_update: |new, old, _| mutating(new, same_conditions(new, old)),
    columns: Some(Columns {
        definitions: MUTATING_DEFINITIONS,
        cells: |obj, now| cells(obj, "mutations", now),
        conditions: no_conditions,
    }),
    ..BASE
};

const BASE: Strategy = Strategy {
    group: "admissionregistration.k8s.io",
    default,
    unconditional_update: false,
    storage: "v1",
    ..Strategy::BASE
};

const VALIDATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Validations",
        "integer",
        "",
        0,
        "Validations indicates the number of validation rules defined in this configuration",
    ),
    (
        "ParamKind",
        "string",
        "",
        0,
        "ParamKind specifies the kind of resources used to parameterize this policy",
    ),
    ("Age", "string", "", 0, CREATED),
];
const MUTATING_DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Mutations",
        "integer",
        "",
        0,
        "Mutation indicates the number of mutations rules defined in this configuration",
    ),
    (
        "ParamKind",
        "string",
        "",
        0,
        "ParamKind specifies the kind of resources used to parameterize this policy",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn cells(obj: &Value, rules: &str, now: jiff::Timestamp) -> Vec<Value> {
    let kind = obj.at("spec").at("paramKind");
    let shown = match kind {
        Value::Null => "<unset>".into(),
        _ => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")),
    };
    vec![name(obj), obj.at("spec").list(rules).len().into(), shown.into(), age(obj, now)]
}

fn default(obj: &mut Value, _: &Context) {
    let spec = obj.child("spec");
    spec.set_default("failurePolicy", "Fail");
    if spec.has("matchConstraints") {
        matching::default_resources(spec.child("matchConstraints"));
    }
}

fn same_conditions(new: &Value, old: &Value) -> bool {
    ["paramKind", "matchConditions"].iter().all(|f| same(new.at("spec").at(f), old.at("spec").at(f)))
}

/// What both have, up to the conditions and variables.
fn common(obj: &Value, kinds: impl Fn(&mut ErrorList), old_conditions: bool) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    match spec.at("failurePolicy").as_str() {
        None => errors.required(&at.child("failurePolicy"), ""),
        Some(policy) => errors.one_of(&at.child("failurePolicy"), policy, &FAILURE),
    }
    if spec.has("paramKind") {
        param_kind(spec.at("paramKind"), &at.child("paramKind"), &mut errors);
    }
    let (constraints, own) = (spec.at("matchConstraints"), at.child("matchConstraints"));
    if constraints.is_null() {
        errors.required(&own, "");
    } else {
        matching::match_resources(constraints, &own, &mut errors);
        if constraints.list("resourceRules").is_empty() {
            errors.required(&own.child("resourceRules"), "");
        }
        kinds(&mut errors);
    }
    if !old_conditions {
        matching::conditions(spec.list("matchConditions"), &at.child("matchConditions"), &mut errors);
    }
    for (i, each) in spec.list("variables").iter().enumerate() {
        variable(each, &at.child("variables").index(i), &mut errors);
    }
    errors
}

fn variable(variable: &Value, at: &Path, errors: &mut ErrorList) {
    match variable.text("name") {
        name if name.trim().is_empty() => errors.required(&at.child("name"), "name is not specified"),
        name if !is_identifier(name) => {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        _ => {}
    }
    if variable.text("expression").trim().is_empty() {
        errors.required(&at.child("expression"), "expression is not specified");
    }
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !RESERVED.contains(&name)
}

fn param_kind(kind: &Value, at: &Path, errors: &mut ErrorList) {
    let (api, own) = (kind.text("apiVersion"), at.child("apiVersion"));
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    if api.is_empty() {
        errors.required(&own, "");
    } else if version.contains('/') {
        errors.invalid(&own, api, format!("unexpected GroupVersion string: {api}"));
    } else {
        let mut part = |value: &str, messages: Vec<String>| {
            if !messages.is_empty() {
                errors.invalid(&own, value, messages.join(","));
            }
        };
        if !group.is_empty() {
            part(group, names::dns1123_subdomain(group));
        }
        if version.is_empty() {
            part(api, vec!["version must be specified".into()]);
        } else {
            part(version, names::dns1035_label(version));
        }
    }
    let (name, own) = (kind.text("kind"), at.child("kind"));
    let messages = names::dns1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.required(&own, "");
    } else if !messages.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
        errors.invalid(&own, name, detail);
    }
}

fn validating(obj: &Value, old_conditions: bool) -> ErrorList {
    const ANNOTATIONS_MAX: usize = 20;
    let mut errors = common(obj, |_| {}, old_conditions);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let (rules, notes) = (spec.list("validations"), spec.list("auditAnnotations"));
    if rules.is_empty() && notes.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.required(&at.child(field), detail);
        }
        return errors;
    }
    for (i, each) in rules.iter().enumerate() {
        validation(each, &at.child("validations").index(i), &mut errors);
    }
    let at = at.child("auditAnnotations");
    if notes.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(&at, notes.to_vec(), detail);
    }
    let mut seen = BTreeSet::new();
    for (i, note) in notes.iter().enumerate() {
        let at = at.index(i);
        audit_annotation(obj, note, &at, &mut errors);
        if !seen.insert(note.text("key")) {
            errors.duplicate(&at.child("key"), note.text("key"));
        }
    }
    errors
}

fn validation(rule: &Value, at: &Path, errors: &mut ErrorList) {
    if rule.text("expression").trim().is_empty() {
        errors.required(&at.child("expression"), "expression is not specified");
    }
    let blank = |field: &str| !rule.text(field).is_empty() && rule.text(field).trim().is_empty();
    for field in ["messageExpression", "message"] {
        if blank(field) {
            errors.invalid(&at.child(field), rule.text(field), "must be non-empty if specified");
        }
    }
    let message = rule.text("message");
    if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at.child("message"), message, "must not contain line breaks");
    }
    if let Some(reason) = rule.at("reason").as_str() {
        errors.one_of(&at.child("reason"), reason, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

fn audit_annotation(policy: &Value, note: &Value, at: &Path, errors: &mut ErrorList) {
    const EXPRESSION_MAX: usize = 5 << 10;
    let (name, key) = (policy.at("metadata").text("name"), note.text("key"));
    if name.is_empty() {
        errors.invalid(&at.child("key"), key, "requires metadata.name be non-empty");
    } else {
        let full = format!("{name}/{key}");
        errors.each(&at.child("key"), full.as_str(), names::qualified_name(&full));
    }
    let expression = note.text("valueExpression").trim();
    if expression.is_empty() {
        errors.required(&at.child("valueExpression"), "valueExpression is not specified");
    } else if expression.len() > EXPRESSION_MAX {
        let detail = format!("must not exceed {EXPRESSION_MAX} bytes in length");
        errors.required(&at.child("valueExpression"), detail);
    }
}

fn status(obj: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, at) = (obj.at("status"), Path::new("status"));
    for (i, warning) in status.at("typeChecking").list("expressionWarnings").iter().enumerate() {
        let at = at.child("typeChecking").child("expressionWarnings").index(i);
        if warning.text("warning").is_empty() {
            errors.required(&at.child("warning"), "");
        }
        if warning.text("fieldRef").trim().is_empty() {
            errors.required(&at.child("fieldRef"), "");
        }
    }
    check::conditions(status.list("conditions"), &at.child("conditions"), &mut errors);
    errors
}

fn mutating(obj: &Value, old_conditions: bool) -> ErrorList {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let constraints_at = at.child("matchConstraints");
    let operations = |errors: &mut ErrorList| {
        matching::mutating_operations(spec.at("matchConstraints"), &constraints_at, errors);
    };
    let mut errors = common(obj, operations, old_conditions);
    if spec.list("mutations").is_empty() {
        errors.required(&at.child("mutations"), "mutations must contain at least one item");
    }
    for (i, each) in spec.list("mutations").iter().enumerate() {
        mutation(each, &at.child("mutations").index(i), &mut errors);
    }
    match spec.text("reinvocationPolicy") {
        "" => errors.required(&at.child("reinvocationPolicy"), ""),
        policy => errors.one_of(&at.child("reinvocationPolicy"), policy, &REINVOCATION),
    }
    errors
}

fn mutation(mutation: &Value, at: &Path, errors: &mut ErrorList) {
    let kind = mutation.text("patchType");
    let (own, other) = match kind {
        "" => return errors.required(&at.child("patchType"), ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            return errors.unsupported(&at.child("patchType"), kind, &known);
        }
    };
    if !mutation.has(own) {
        errors.required(&at.child(own), format!("must be specified when patchType is {kind}"));
    } else if mutation.at(own).text("expression").trim().is_empty() {
        errors.required(&at.child(own).child("expression"), "");
    }
    if mutation.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.invalid(&at.child(other), format!("{{{other}}}"), detail);
    }
}
