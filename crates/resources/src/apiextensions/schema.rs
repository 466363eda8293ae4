//! The OpenAPI schema of a version: what it may say, at every place in it.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::cost::Context;
use super::lax::Asked;
use super::{defaults, fieldpath, shown, structural};
use crate::check::Errors;

/// Errors of the schema itself come before those of its rules.
#[derive(Default)]
pub(super) struct Found {
    pub schema: ErrorList,
    pub rules: ErrorList,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.schema.extend(other.schema);
        self.rules.extend(other.rules);
    }
}

/// What holds at a place because of what is above it.
#[derive(Clone, Default)]
struct Scope {
    /// Why no default may stand here.
    no_default: Option<String>,
    in_meta: bool,
    /// The first place above whose parts can't be told apart between two versions of an object.
    uncorrelated: Option<Path>,
}

impl Scope {
    fn without_defaults(&self, why: &str) -> Self {
        Self { no_default: Some(why.to_owned()), ..self.clone() }
    }

    fn uncorrelated(&self, at: &Path) -> Self {
        Self { uncorrelated: self.uncorrelated.clone().or_else(|| Some(at.clone())), ..self.clone() }
    }
}

/// Checks `versions[*].schema`. `status`: is the status subresource on?
pub(super) fn check(validation: &Value, status: bool, asked: &Asked, at: &Path, errors: &mut ErrorList) {
    let schema = validation.at("openAPIV3Schema");
    if schema.is_null() {
        return;
    }
    let at = at.child("openAPIV3Schema");
    let before = errors.len();
    if status {
        check_root(schema, &at, errors);
    }
    if schema.flag("nullable") == Some(true) {
        errors.forbidden(&at.child("nullable"), "nullable cannot be true at the root");
    }
    let (mut unreadable, mut with_rules) = (None, false);
    if asked.structural {
        unreadable = structural::unreadable(schema);
        if unreadable.is_none() {
            let mut found = structural::check(schema, &at);
            if found.is_empty() {
                found = defaults::check(schema, asked.pruned_defaults, &at);
            }
            with_rules = found.is_empty();
            errors.extend(found);
        }
    }
    let total = Context::total();
    let context = with_rules.then(|| Context::root(schema, &total));
    let found = walk(schema, &at, &Scope::default(), true, asked, context.as_ref());
    errors.extend(found.schema);
    errors.extend(found.rules);
    if errors.len() == before
        && let Some(why) = unreadable
    {
        errors.invalid(&at, "", why);
    }
    if with_rules {
        total.check(&at, errors);
    }
}

/// With a status subresource the root may hold only what can be told apart by property.
fn check_root(schema: &Value, at: &Path, errors: &mut ErrorList) {
    const ALLOWED: [&str; 22] = [
        "Description",
        "Type",
        "Format",
        "Title",
        "Maximum",
        "ExclusiveMaximum",
        "Minimum",
        "ExclusiveMinimum",
        "MaxLength",
        "MinLength",
        "Pattern",
        "MaxItems",
        "MinItems",
        "UniqueItems",
        "MultipleOf",
        "Required",
        "Items",
        "Properties",
        "ExternalDocs",
        "Example",
        "XPreserveUnknownFields",
        "XValidations",
    ];
    for (go, name, _) in shown::SCHEMA {
        let zero = match schema.at(name) {
            Value::Null | Value::Bool(false) => {
                *name != "x-kubernetes-preserve-unknown-fields" || !schema.has(name)
            }
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if zero {
            continue;
        }
        if *go == "Type" {
            if schema.text("type") != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                return errors.invalid(&at.child("type"), schema.text("type"), why);
            }
        } else if !ALLOWED.contains(go) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                ALLOWED.join(" ")
            );
            return errors.invalid_shown(at, shown::schema(schema), &why);
        }
    }
}

/// Calls `each` for a schema and all within.
pub(super) fn visit<'a>(schema: &'a Value, each: &mut dyn FnMut(&'a Value)) {
    each(schema);
    for below in structural::children(schema) {
        visit(below, each);
    }
    for below in schema.list("items") {
        visit(below, each);
    }
}

/// Does it hold anywhere in the schema?
pub(super) fn has(schema: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    let mut found = false;
    visit(schema, &mut |s| found = found || holds(s));
    found
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

pub(super) fn has_odd_type(s: &Value) -> bool {
    !s.text("type").is_empty() && !TYPES.contains(&s.text("type"))
}

/// Does it use extensions that only structural schemas may?
pub(super) fn is_extended(s: &Value) -> bool {
    let on = |name: &str| s.flag(name) == Some(true);
    on("x-kubernetes-embedded-resource")
        || s.has("x-kubernetes-preserve-unknown-fields")
        || on("x-kubernetes-int-or-string")
        || !s.list("x-kubernetes-list-map-keys").is_empty()
        || s.has("x-kubernetes-list-type")
        || !s.list("x-kubernetes-validations").is_empty()
}

/// A set whose items are not atomic.
pub(super) fn is_odd_set(s: &Value) -> bool {
    let items = s.at("items");
    s.text("x-kubernetes-list-type") == "set"
        && items.is_object()
        && match items.text("type") {
            "array" => !matches!(items.text("x-kubernetes-list-type"), "" | "atomic"),
            "object" => items.text("x-kubernetes-map-type") != "atomic",
            _ => false,
        }
}

pub(super) fn has_odd_keys(s: &Value) -> bool {
    let mut errors = ErrorList::new();
    set_items(s, &Path::root(), &mut errors);
    !errors.is_empty()
}

fn walk(
    schema: &Value,
    at: &Path,
    scope: &Scope,
    is_root: bool,
    asked: &Asked,
    context: Option<&Context>,
) -> Found {
    let mut found = Found::default();
    if !schema.is_object() {
        return found;
    }
    openapi(schema, at, scope, asked, &mut found.schema);
    if schema.flag("uniqueItems") == Some(true) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        found.schema.forbidden(&at.child("uniqueItems"), why);
    }
    found.add(properties(schema, at, scope, is_root, asked, context));
    let below = |value: &Value, at: Path| walk(value, &at, scope, false, asked, None);
    found.add(below(schema.at("not"), at.child("not")));
    for name in ["allOf", "oneOf", "anyOf"] {
        for (i, each) in schema.list(name).iter().enumerate() {
            found.add(below(each, at.child(name).index(i)));
        }
    }
    for (name, each) in schema.map("definitions").into_iter().flatten() {
        found.add(below(each, at.child("definitions").key(name)));
    }
    let items = schema.at("items");
    let own = match schema.text("x-kubernetes-list-type") {
        "map" => scope.clone(),
        _ => scope.uncorrelated(at),
    };
    if items.is_object() {
        let context = context.map(|c| c.child(items));
        found.add(walk(items, &at.child("items"), &own, false, asked, context.as_ref()));
    }
    for (i, each) in schema.list("items").iter().enumerate() {
        let context = context.map(|c| c.child(each));
        found.add(walk(each, &at.child("items").index(i), &own, false, asked, context.as_ref()));
    }
    for (name, each) in schema.map("dependencies").into_iter().flatten() {
        found.add(below(each, at.child("dependencies").key(name)));
    }
    extensions(schema, at, asked, &mut found.schema);
    rules(schema, at, scope, asked, context, &mut found);
    found
}

/// What OpenAPI has and definitions may not use.
fn openapi(schema: &Value, at: &Path, scope: &Scope, asked: &Asked, errors: &mut ErrorList) {
    let kind = schema.text("type");
    if asked.types && has_odd_type(schema) {
        errors.unsupported(&at.child("type"), kind, &TYPES);
    }
    if schema.has("default")
        && let Some(why) = &scope.no_default
    {
        let blank = if why.is_empty() { "" } else { " " };
        errors.forbidden(&at.child("default"), format!("must not be set{blank}{why}"));
    }
    let mut not_supported = |name: &str, found: bool| {
        if found {
            errors.forbidden(&at.child(name), format!("{name} is not supported"));
        }
    };
    let some = |name: &str| schema.map(name).is_some_and(|m| !m.is_empty());
    not_supported("id", !schema.text("id").is_empty());
    not_supported("additionalItems", schema.has("additionalItems"));
    not_supported("patternProperties", some("patternProperties"));
    not_supported("definitions", some("definitions"));
    not_supported("dependencies", schema.has("dependencies"));
    not_supported("$ref", schema.has("$ref"));
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.forbidden(&at.child("type"), why);
    }
    if !schema.list("items").is_empty() {
        errors.forbidden(&at.child("items"), "items must be a schema object and not an array");
    }
    if scope.in_meta && schema.flag("x-kubernetes-embedded-resource") == Some(true) {
        let at = at.child("x-kubernetes-embedded-resource");
        errors.forbidden(&at, "must not be used inside of resource meta");
    }
}

fn properties(
    schema: &Value,
    at: &Path,
    scope: &Scope,
    is_root: bool,
    asked: &Asked,
    context: Option<&Context>,
) -> Found {
    let mut found = Found::default();
    let properties = schema.map("properties").filter(|p| !p.is_empty());
    let additional = schema.at("additionalProperties");
    if !additional.is_null() {
        let at = at.child("additionalProperties");
        if properties.is_some() && *additional != Value::Bool(true) {
            found.schema.forbidden(&at, "additionalProperties and properties are mutual exclusive");
        }
        let own = match scope.in_meta {
            true => scope.without_defaults("inside additionalProperties applying to object metadata"),
            false => scope.clone(),
        };
        let context = context.map(|c| c.child(additional));
        found.add(walk(additional, &at, &own, false, asked, context.as_ref()));
    }
    let embedded = schema.flag("x-kubernetes-embedded-resource") == Some(true);
    let correlated = matches!(schema.text("x-kubernetes-map-type"), "" | "granular" | "atomic");
    let mut all: Vec<(&String, &Value)> = properties.into_iter().flatten().collect();
    all.sort_by_key(|(name, _)| *name);
    for (name, below) in all {
        let mut own = if correlated { scope.clone() } else { scope.uncorrelated(at) };
        if (is_root || embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            own.in_meta = true;
            if is_root {
                own = own.without_defaults(&format!("in top-level {name}"));
            }
        }
        let context = context.map(|c| c.child(below));
        let at = at.child("properties").key(name);
        found.add(walk(below, &at, &own, false, asked, context.as_ref()));
    }
    found
}

fn extensions(schema: &Value, at: &Path, asked: &Asked, errors: &mut ErrorList) {
    if schema.flag("x-kubernetes-preserve-unknown-fields") == Some(false) {
        let at = at.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, false, "must be true or undefined");
    }
    needs_type(schema, "x-kubernetes-map-type", "object", at, errors);
    let map_type = schema.at("x-kubernetes-map-type").as_str();
    if let Some(value) = map_type {
        errors.one_of(&at.child("x-kubernetes-map-type"), value, &["atomic", "granular"]);
    }
    let wrong = needs_type(schema, "x-kubernetes-list-type", "array", at, errors);
    if !wrong && asked.atomic_sets && is_odd_set(schema) {
        let items = schema.at("items");
        let name = match items.text("type") {
            "array" => "x-kubernetes-list-type",
            _ => "x-kubernetes-map-type",
        };
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        // upstream shows the list type in both cases
        let value =
            items.at("x-kubernetes-list-type").as_str().map_or("null".into(), machinery::field::go_quote);
        errors.invalid_shown(&at.child("items").child(name), value, why);
    }
    let list_type = schema.at("x-kubernetes-list-type").as_str();
    if let Some(value) = list_type {
        errors.one_of(&at.child("x-kubernetes-list-type"), value, &["atomic", "set", "map"]);
    }
    if !schema.list("x-kubernetes-list-map-keys").is_empty() {
        let (at, why) =
            (at.child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        match list_type {
            None => errors.required(&at, why),
            Some("map") => {}
            Some(other) => errors.invalid(&at, other, why),
        }
    }
    if list_type == Some("map") {
        keyed_list(schema, at, errors);
    }
    if asked.map_keys {
        set_items(schema, at, errors);
    }
}

/// True if the type is not what the extension is for.
fn needs_type(schema: &Value, name: &str, wanted: &str, at: &Path, errors: &mut ErrorList) -> bool {
    let kind = schema.text("type");
    if !schema.has(name) || kind == wanted {
        return false;
    }
    let (at, why) = (at.child("type"), format!("must be {wanted} if {name} is specified"));
    match kind {
        "" => errors.required(&at, why),
        kind => errors.invalid(&at, kind, why),
    }
    true
}

fn keyed_list(schema: &Value, at: &Path, errors: &mut ErrorList) {
    let keys = schema.list("x-kubernetes-list-map-keys");
    let keys_at = at.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&keys_at, "must not be empty if x-kubernetes-list-type is map");
    }
    let (items, items_at) = (schema.at("items"), at.child("items"));
    if items.is_null() {
        return errors.required(&items_at, "must have a schema if x-kubernetes-list-type is map");
    }
    if items.is_array() {
        let why = "must only have a single schema if x-kubernetes-list-type is map";
        return errors.invalid(&items_at, items.clone(), why);
    }
    if items.text("type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&items_at.child("type"), items.text("type"), why);
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or("");
        match items.at("properties").get(name) {
            None => errors.invalid(&keys_at, keys.to_vec(), "entries must all be names of item properties"),
            Some(property) if matches!(property.text("type"), "array" | "object") => {
                let at = items_at.child("properties").key(name).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&at, items.text("type"), why);
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            errors.invalid(&keys_at, keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

/// Items of sets and keyed lists are there, and so are their keys.
fn set_items(schema: &Value, at: &Path, errors: &mut ErrorList) {
    let kind = schema.text("x-kubernetes-list-type");
    let (items, at) = (schema.at("items"), at.child("items"));
    if !items.is_object() || !matches!(kind, "set" | "map") {
        return;
    }
    if items.flag("nullable") == Some(true) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.forbidden(&at.child("nullable"), why);
    }
    if kind != "map" {
        return;
    }
    for name in schema.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(property) = items.at("properties").get(name) else { continue };
        let at = at.child("properties").key(name);
        let required = items.list("required").iter().any(|r| r == name);
        if !required && !property.has("default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&at.child("default"), why);
        }
        if property.flag("nullable") == Some(true) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), why);
        }
    }
}

fn rules(
    schema: &Value,
    at: &Path,
    scope: &Scope,
    asked: &Asked,
    context: Option<&Context>,
    found: &mut Found,
) {
    let rules = schema.list("x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    let at = at.child("x-kubernetes-validations");
    for (i, rule) in rules.iter().enumerate() {
        rule_form(schema, rule, &at.index(i), &mut found.schema);
    }
    // a schema that is wrong has no types to check a rule by
    if found.schema.is_empty()
        && let Some(context) = context
    {
        context.rules(schema, &at, scope.uncorrelated.as_ref(), asked, &mut found.rules);
    }
}

fn rule_form(schema: &Value, rule: &Value, at: &Path, errors: &mut ErrorList) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    let (source, message) = (rule.text("rule").trim(), rule.text("message"));
    let message_at = at.child("message");
    if source.is_empty() {
        errors.required(&at.child("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&message_at, message, "must be non-empty if specified");
    } else if broken(message.trim()) {
        errors.invalid(&message_at, message, "must not contain line breaks");
    } else if broken(source) && message.is_empty() {
        errors.required(&message_at, "message must be specified if rule contains line breaks");
    }
    let expression = rule.text("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let at = at.child("messageExpression");
        errors.required(&at, "messageExpression must be non-empty if specified");
    }
    if let Some(reason) = rule.at("reason").as_str() {
        const REASONS: [&str; 4] =
            ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
        errors.one_of(&at.child("reason"), reason, &REASONS);
    }
    let (path, at) = (rule.text("fieldPath"), at.child("fieldPath"));
    if path.is_empty() {
        return;
    }
    if path.trim().is_empty() {
        errors.invalid(&at, path, "must be non-empty if specified");
    }
    if broken(path) {
        errors.invalid(&at, path, "must not contain line breaks");
    }
    if structural::unreadable(schema).is_none() && fieldpath::field_path(path, schema, true).is_err() {
        errors.invalid(&at, path, "must be a valid path");
    }
}
