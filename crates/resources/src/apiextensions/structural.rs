//! Structural schemas: every value has a type, every check has a place in the structure.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// All errors, sorted by their text.
pub(super) fn check(schema: &Value, at: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    invariants(schema, Level::Root, at, &mut errors);
    complete(schema, Some(schema), at, at, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

/// Why a schema can't be read as a structural one at all.
pub(super) fn unreadable(schema: &Value) -> Option<String> {
    let why = |name: &str| Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    for (name, shown) in [("id", "id"), ("$schema", "schema"), ("$ref", "$ref")] {
        if !schema.text(name).is_empty() {
            return why(shown);
        }
    }
    for name in ["patternProperties", "dependencies"] {
        if schema.map(name).is_some_and(|m| !m.is_empty()) {
            return why(name);
        }
    }
    if schema.has("additionalItems") {
        return why("additionalItems");
    }
    if schema.map("definitions").is_some_and(|m| !m.is_empty()) {
        return why("definitions");
    }
    if schema.flag("x-kubernetes-preserve-unknown-fields") == Some(false) {
        let name = "x-kubernetes-preserve-unknown-fields";
        return Some(format!("internal error: '{name}' must be true or undefined"));
    }
    if schema.list("items").iter().any(Value::is_object) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    children(schema).find_map(unreadable)
}

/// The schemas right below, but for those that no structural schema has.
pub(super) fn children(schema: &Value) -> impl Iterator<Item = &Value> {
    let one = |name: &str| Some(schema.at(name)).filter(|v| v.is_object());
    let listed = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| schema.list(name));
    let properties = schema.map("properties").into_iter().flat_map(|m| m.values());
    one("not")
        .into_iter()
        .chain(listed)
        .chain(one("items"))
        .chain(properties)
        .chain(one("additionalProperties"))
}

fn sorted(schema: &Value) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = schema.map("properties").into_iter().flatten().collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

fn is_integer_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

fn invariants(s: &Value, level: Level, at: &Path, errors: &mut ErrorList) {
    let on = |name: &str| s.flag(name) == Some(true);
    let kind = s.text("type");
    let (preserve, embedded) =
        (on("x-kubernetes-preserve-unknown-fields"), on("x-kubernetes-embedded-resource"));
    let int_or_string = on("x-kubernetes-int-or-string");
    if kind == "array" && !s.has("items") {
        errors.required(&at.child("items"), "must be specified");
    }
    if s.at("items").is_object() {
        invariants(s.at("items"), Level::Item, &at.child("items"), errors);
    }
    for (name, below) in sorted(s) {
        invariants(below, Level::Field, &at.child("properties").key(name), errors);
    }
    if s.has("additionalProperties") {
        let at = at.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&at, "must not be used at the root");
        }
        if s.at("additionalProperties").is_object() {
            invariants(s.at("additionalProperties"), Level::Field, &at, errors);
        }
    }
    let needless = "must be false if x-kubernetes-int-or-string is true";
    if int_or_string && preserve {
        errors.invalid(&at.child("x-kubernetes-preserve-unknown-fields"), true, needless);
    }
    if int_or_string && embedded {
        errors.invalid(&at.child("x-kubernetes-embedded-resource"), true, needless);
    }
    let skip_any = is_integer_or_string(s.at("anyOf"));
    let skip_all = s.list("allOf").first().is_some_and(|first| is_integer_or_string(first.at("anyOf")));
    value_checks(s, skip_any, skip_all, at, errors);
    types(s, level, at, errors);
    if embedded && s.has("additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&at.child("additionalProperties"), why);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&at.child("type"), kind, "must be object at the root");
    }
    let is_resource = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        let below = s.at("properties").at(name);
        if is_resource && below.is_object() && below.text("type") != "string" {
            let at = at.child("properties").key(name).child("type");
            errors.invalid(&at, below.text("type"), "must be string");
        }
    }
    let metadata = s.at("properties").at("metadata");
    if metadata.is_object() {
        let at = at.child("properties").key("metadata");
        if is_resource && metadata.text("type") != "object" {
            errors.invalid(&at.child("type"), metadata.text("type"), "must be object");
        }
        if level == Level::Root && says_more_than_names(metadata) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.forbidden(&at, why);
        }
    }
    if embedded && !preserve && s.map("properties").is_none_or(|p| p.is_empty()) {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&at.child("properties"), why);
    }
}

fn types(s: &Value, level: Level, at: &Path, errors: &mut ErrorList) {
    let on = |name: &str| s.flag(name) == Some(true);
    let (kind, at) = (s.text("type"), at.child("type"));
    if on("x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        return match kind {
            "" => errors.required(&at, why),
            kind => errors.invalid(&at, kind, why),
        };
    }
    if kind.is_empty() && !on("x-kubernetes-int-or-string") && !on("x-kubernetes-preserve-unknown-fields") {
        let place = match level {
            Level::Root => "at the root",
            Level::Item => "for specified array items",
            Level::Field => "for specified object fields",
        };
        errors.required(&at, format!("must not be empty {place}"));
    }
}

fn says_more_than_names(metadata: &Value) -> bool {
    metadata.as_object().into_iter().flatten().any(|(key, value)| match key.as_str() {
        "type" | "default" => false,
        "properties" => {
            let names = value.as_object().map_or(0, |p| p.len());
            let known = ["name", "generateName"].iter().filter(|n| value.has(n)).count();
            known == 0 && names > 0 || known != names
        }
        _ => match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(s) => !s.is_empty(),
            _ => true,
        },
    })
}

fn value_checks(v: &Value, skip_any: bool, skip_first: bool, at: &Path, errors: &mut ErrorList) {
    if !skip_any {
        for (i, each) in v.list("anyOf").iter().enumerate() {
            nested(each, false, &at.child("anyOf").index(i), errors);
        }
    }
    for (i, each) in v.list("allOf").iter().enumerate() {
        nested(each, skip_first && i == 0, &at.child("allOf").index(i), errors);
    }
    for (i, each) in v.list("oneOf").iter().enumerate() {
        nested(each, false, &at.child("oneOf").index(i), errors);
    }
    if v.at("not").is_object() {
        nested(v.at("not"), false, &at.child("not"), errors);
    }
    let pattern = v.text("pattern");
    if let Some(why) = machinery::regexp::error(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid(&at.child("pattern"), pattern, detail);
    }
}

/// A check under `allOf`, `anyOf`, `oneOf` or `not`: it may not add to the structure.
fn nested(v: &Value, skip_any: bool, at: &Path, errors: &mut ErrorList) {
    value_checks(v, skip_any, false, at, errors);
    if v.at("items").is_object() {
        nested(v.at("items"), false, &at.child("items"), errors);
    }
    for (name, below) in sorted(v) {
        nested(below, false, &at.child("properties").key(name), errors);
    }
    let on = |name: &str| v.flag(name) == Some(true);
    if !v.text("type").is_empty() {
        errors.forbidden(&at.child("type"), "must be empty to be structural");
    }
    let additional = v.at("additionalProperties");
    if additional.is_object() || *additional == Value::Bool(true) {
        errors.forbidden(&at.child("additionalProperties"), "must be undefined to be structural");
    }
    if v.has("default") {
        errors.forbidden(&at.child("default"), "must be undefined to be structural");
    }
    for name in ["title", "description"] {
        if !v.text(name).is_empty() {
            errors.forbidden(&at.child(name), "must be empty to be structural");
        }
    }
    let flags = [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ];
    for name in flags.into_iter().filter(|name| on(name)) {
        errors.forbidden(&at.child(name), "must be false to be structural");
    }
    if !v.list("x-kubernetes-list-map-keys").is_empty() {
        errors.forbidden(&at.child("x-kubernetes-list-map-keys"), "must be empty to be structural");
    }
    for name in ["x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if v.has(name) {
            errors.forbidden(&at.child(name), "must be undefined to be structural");
        }
    }
    if !v.list("x-kubernetes-validations").is_empty() {
        errors.forbidden(&at.child("x-kubernetes-validations"), "must be empty to be structural");
    }
    if v.at("properties").has("metadata") {
        let at = at.child("properties").key("metadata");
        errors.forbidden(&at, "must not be specified in a nested context");
    }
}

/// Whatever a check is about is part of the structure too.
fn complete(v: &Value, s: Option<&Value>, s_at: &Path, v_at: &Path, errors: &mut ErrorList) {
    if v.at("not").is_object() {
        nested_complete(v.at("not"), s, s_at, &v_at.child("not"), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (i, each) in v.list(name).iter().enumerate() {
            nested_complete(each, s, s_at, &v_at.child(name).index(i), errors);
        }
    }
}

fn nested_complete(v: &Value, s: Option<&Value>, s_at: &Path, v_at: &Path, errors: &mut ErrorList) {
    let Some(s) = s else {
        return errors.required(s_at, format!("because it is defined in {v_at}"));
    };
    complete(v, Some(s), s_at, v_at, errors);
    if v.at("items").is_object() {
        let items = Some(s.at("items")).filter(|i| i.is_object());
        nested_complete(v.at("items"), items, &s_at.child("items"), &v_at.child("items"), errors);
    }
    for (name, below) in sorted(v) {
        let (s_at, v_at) = (s_at.child("properties").key(name), v_at.child("properties").key(name));
        match s.at("properties").get(name) {
            Some(own) => nested_complete(below, Some(own), &s_at, &v_at, errors),
            None => errors.required(&s_at, format!("because it is defined in {v_at}")),
        }
    }
}
