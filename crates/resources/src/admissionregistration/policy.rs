//! Mutating and validating admission policies.

use std::collections::BTreeSet;

use cel::Type;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::expressions::{Compiler, Use, json_patch_type, object_type};
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
    validate: |obj, _| validating(obj, &Value::Null),
    validate_update: |new, old, context| {
        if context.subresource == "status" { status(new) } else { validating(new, old) }
    },
    columns: Some(Columns {
        definitions: VALIDATING_DEFINITIONS,
        cells: |obj, now| cells(obj, "validations", now),
        conditions: no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..BASE
};

pub(crate) static MUTATING: Strategy = Strategy {
    kind: "MutatingAdmissionPolicy",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| mutating(obj, &Value::Null),
    validate_update: |new, old, _| mutating(new, old),
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
    !old.is_null()
        && ["paramKind", "matchConditions"].iter().all(|f| same(new.at("spec").at(f), old.at("spec").at(f)))
}

/// Expressions of a policy, and of its old form (null: it is new).
struct Expressions<'a> {
    compiler: Compiler,
    old: &'a Value,
}

impl Expressions<'_> {
    /// Does a list of the old spec have the expression in this field?
    fn is_stored(&self, list: &str, field: &[&str], source: &str) -> bool {
        let items = self.old.at("spec").list(list).iter();
        items.map(|item| field.iter().fold(item, |at, name| at.at(name))).any(|found| found == source)
    }

    fn check(
        &self,
        source: &str,
        wanted: &[Type],
        use_: Use,
        stored: bool,
        at: &Path,
        errors: &mut ErrorList,
    ) {
        if let Err(why) = self.compiler.compile(source, wanted, use_, matching::version(stored)) {
            errors.invalid(at, source, why);
        }
    }
}

/// What both have, up to the conditions and variables.
fn common<'a>(
    obj: &Value,
    old: &'a Value,
    composes: bool,
    kinds: impl Fn(&mut ErrorList),
) -> (ErrorList, Expressions<'a>) {
    let mut errors = objectmeta::validate_generic(obj, false, names::subdomain_name);
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
    let params = spec.has("paramKind");
    let compiler = if composes { Compiler::with_variables(params) } else { Compiler::new(params) };
    let mut expressions = Expressions { compiler, old };
    if !same_conditions(obj, old) {
        let stored = |source: &str| expressions.is_stored("matchConditions", &["expression"], source);
        let conditions = spec.list("matchConditions");
        matching::conditions(conditions, params, &stored, &at.child("matchConditions"), &mut errors);
    }
    for (i, each) in spec.list("variables").iter().enumerate() {
        variable(each, &mut expressions, &at.child("variables").index(i), &mut errors);
    }
    (errors, expressions)
}

fn variable(variable: &Value, expressions: &mut Expressions, at: &Path, errors: &mut ErrorList) {
    match variable.text("name") {
        name if name.trim().is_empty() => errors.required(&at.child("name"), "name is not specified"),
        name if !is_identifier(name) => {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        _ => {}
    }
    let source = variable.text("expression");
    if source.trim().is_empty() {
        return errors.required(&at.child("expression"), "expression is not specified");
    }
    let stored = expressions.is_stored("validations", &["expression"], source);
    let found = expressions.compiler.variable(variable.text("name"), source, matching::version(stored));
    if let Err(why) = found {
        errors.invalid(&at.child("expression"), source, why);
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !cel::RESERVED.contains(&name)
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

fn validating(obj: &Value, old: &Value) -> ErrorList {
    const ANNOTATIONS_MAX: usize = 20;
    let composes = !obj.at("spec").list("variables").is_empty();
    let (mut errors, expressions) = common(obj, old, composes, |_| {});
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
        validation(each, &expressions, &at.child("validations").index(i), &mut errors);
    }
    let at = at.child("auditAnnotations");
    if notes.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(&at, notes.to_vec(), detail);
    }
    let mut seen = BTreeSet::new();
    for (i, note) in notes.iter().enumerate() {
        let at = at.index(i);
        audit_annotation(obj, note, &expressions, &at, &mut errors);
        if !seen.insert(note.text("key")) {
            errors.duplicate(&at.child("key"), note.text("key"));
        }
    }
    errors
}

fn validation(rule: &Value, expressions: &Expressions, at: &Path, errors: &mut ErrorList) {
    let source = rule.text("expression");
    if source.trim().is_empty() {
        errors.required(&at.child("expression"), "expression is not specified");
    } else {
        let stored = expressions.is_stored("validations", &["expression"], source);
        expressions.check(source, &[Type::Bool], Use::Condition, stored, &at.child("expression"), errors);
    }
    let source = rule.text("messageExpression");
    let own = at.child("messageExpression");
    if !source.is_empty() && source.trim().is_empty() {
        errors.invalid(&own, source, "must be non-empty if specified");
    } else if !source.is_empty() {
        let stored = expressions.is_stored("validations", &["messageExpression"], source);
        expressions.check(source, &[Type::String], Use::Message, stored, &own, errors);
    }
    let message = rule.text("message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at.child("message"), message, "must not contain line breaks");
    }
    if let Some(reason) = rule.at("reason").as_str() {
        errors.one_of(&at.child("reason"), reason, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

fn audit_annotation(
    policy: &Value,
    note: &Value,
    expressions: &Expressions,
    at: &Path,
    errors: &mut ErrorList,
) {
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
    } else {
        let given = note.text("valueExpression");
        let stored = expressions.is_stored("auditAnnotations", &["valueExpression"], given);
        let wanted = [Type::String, Type::Null];
        let found =
            expressions.compiler.compile(expression, &wanted, Use::Condition, matching::version(stored));
        if let Err(why) = found {
            errors.invalid(&at.child("valueExpression"), given, why);
        }
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

fn mutating(obj: &Value, old: &Value) -> ErrorList {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let constraints_at = at.child("matchConstraints");
    let operations = |errors: &mut ErrorList| {
        matching::mutating_operations(spec.at("matchConstraints"), &constraints_at, errors);
    };
    let (mut errors, expressions) = common(obj, old, true, operations);
    if spec.list("mutations").is_empty() {
        errors.required(&at.child("mutations"), "mutations must contain at least one item");
    }
    for (i, each) in spec.list("mutations").iter().enumerate() {
        mutation(each, &expressions, &at.child("mutations").index(i), &mut errors);
    }
    match spec.text("reinvocationPolicy") {
        "" => errors.required(&at.child("reinvocationPolicy"), ""),
        policy => errors.one_of(&at.child("reinvocationPolicy"), policy, &REINVOCATION),
    }
    errors
}

fn mutation(mutation: &Value, expressions: &Expressions, at: &Path, errors: &mut ErrorList) {
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
    } else {
        let at = at.child(own).child("expression");
        match mutation.at(own).text("expression").trim() {
            "" => errors.required(&at, ""),
            source => {
                let wanted = if own == "jsonPatch" { json_patch_type() } else { object_type() };
                let given = mutation.at(own).text("expression");
                let stored = expressions.is_stored("mutations", &[own, "expression"], given);
                expressions.check(source, &[wanted], Use::Patch, stored, &at, errors);
            }
        }
    }
    if mutation.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.invalid(&at.child(other), format!("{{{other}}}"), detail);
    }
}
