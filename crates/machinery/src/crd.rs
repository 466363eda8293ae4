//! Validation of custom resources by the OpenAPI schema of their definition, with upstream's messages and order.
//!
//! [`Validator`] checks values (types, bounds, patterns, formats, enumerations, combinations), with ratcheting: what an
//! update leaves as it was may be wrong. [`Validator::lists`] finds doubles in sets and keyed lists, [`embedded`] checks
//! objects within objects, [`scale`] the paths of the scale subresource. [`blocks_rules`] says when CEL rules
//! (which are not here) are not to be run. For a create upstream's order is: metadata, [`Validator::object`],
//! [`scale`], [`embedded`], [`Validator::lists`], rules.
//!
//! Pruning and defaults are in [`crate::schema`].

mod formats;
mod lists;
mod validate;

use serde_json::Value;

use crate::field::{Error, ErrorList, Kind, Path};
use crate::gvk::GroupVersion;
use crate::names;
use crate::value::Get;

pub use validate::Validator;

/// If errors keep the validation rules from being checked: the error that says so.
pub fn blocks_rules(errors: &[Error]) -> Option<Error> {
    let blocking = [Kind::NotSupported, Kind::Required, Kind::TooLong, Kind::TooMany, Kind::TypeInvalid];
    let message = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    let found = errors.iter().any(|e| blocking.contains(&e.kind));
    found.then(|| Error::invalid(&Path::root(), Value::Null, message))
}

/// Checks the fields behind the scale subresource: replicas of `spec` (`""`: not to be checked) and `status`, and the
/// selector. Paths as in the definition: `.spec.replicas`.
pub fn scale(object: &Value, spec: &str, status: &str, selector: &str) -> ErrorList {
    let mut out = ErrorList::new();
    for path in [spec, status] {
        let at = Path::new(path);
        match find(object, path) {
            _ if path.is_empty() => {}
            Ok(Value::Null) => {}
            Ok(Value::Number(n)) if n.as_i64().is_some() => {
                let n = n.as_i64().unwrap_or(0);
                if n < 0 {
                    out.push(Error::invalid(&at, n, "should be a non-negative integer"));
                } else if n > i64::from(i32::MAX) {
                    let message = format!("should be less than or equal to {}", i32::MAX);
                    out.push(Error::invalid(&at, n, message));
                }
            }
            Ok(other) => {
                let (shown, kind) = (crate::patch::go_print(other), go_type(other));
                let message = format!("{path} accessor error: {shown} is of the type {kind}, expected int64");
                out.push(Error::invalid(&at, 0, message));
            }
            Err(message) => out.push(Error::invalid(&at, 0, message)),
        }
    }
    if !selector.is_empty() {
        let message = match find(object, selector) {
            Ok(Value::Null | Value::String(_)) => return out,
            Ok(other) => {
                let (shown, kind) = (crate::patch::go_print(other), go_type(other));
                format!("{selector} accessor error: {shown} is of the type {kind}, expected string")
            }
            Err(message) => message,
        };
        out.push(Error::invalid(&Path::new(selector), "", message));
    }
    out
}

static NULL: Value = Value::Null;

/// What stands at a path; null if nothing.
fn find<'a>(object: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut at = object;
    let mut walked = String::new();
    for name in path.trim_start_matches('.').split('.') {
        walked.push('.');
        walked.push_str(name);
        match at {
            Value::Object(map) => at = map.get(name).unwrap_or(&NULL),
            Value::Null => return Ok(&NULL),
            other => {
                let (shown, kind) = (crate::patch::go_print(other), go_type(other));
                return Err(format!(
                    "{walked} accessor error: {shown} is of the type {kind}, expected map[string]interface{{}}"
                ));
            }
        }
    }
    Ok(at)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Checks embedded resources (`x-kubernetes-embedded-resource`). `metadata` checks the metadata of one: upstream's
/// `ValidateObjectMeta` with names that are path segments; it gets the path, and metadata that has a name.
pub fn embedded(
    open_api: &Value,
    object: &Value,
    metadata: &dyn Fn(&Value, &Path) -> ErrorList,
) -> ErrorList {
    embedded_below(open_api, object, &Path::root(), metadata)
}

/// The same for a value that stands at a path.
pub fn embedded_below(
    open_api: &Value,
    value: &Value,
    path: &Path,
    metadata: &dyn Fn(&Value, &Path) -> ErrorList,
) -> ErrorList {
    let mut out = ErrorList::new();
    embedded_at(open_api, value, path, metadata, &mut out);
    out
}

/// Is it a format that values of the type ("" and `string`, `integer`, `number`) are checked by?
pub fn is_known_format(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => formats::check(format, "").is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn embedded_at(
    schema: &Value,
    value: &Value,
    path: &Path,
    metadata: &dyn Fn(&Value, &Path) -> ErrorList,
    out: &mut ErrorList,
) {
    match value {
        Value::Object(map) => {
            if schema.flag("x-kubernetes-embedded-resource") == Some(true) {
                embedded_resource(value, path, metadata, out);
            }
            for (key, value) in map {
                if let Some(below) = schema.at("properties").get(key) {
                    embedded_at(below, value, &path.child(key), metadata, out);
                } else if schema.at("additionalProperties").is_object() {
                    embedded_at(schema.at("additionalProperties"), value, &path.key(key), metadata, out);
                }
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                embedded_at(schema.at("items"), item, &path.index(n), metadata, out);
            }
        }
        _ => {}
    }
}

fn embedded_resource(
    object: &Value,
    path: &Path,
    metadata: &dyn Fn(&Value, &Path) -> ErrorList,
    out: &mut ErrorList,
) {
    for name in ["apiVersion", "kind"] {
        if object.get(name).is_none() {
            out.push(Error::required(&path.child(name), ""));
        }
    }
    if let Some(value) = object.get("apiVersion") {
        let at = path.child("apiVersion");
        match value.as_str() {
            None => out.push(Error::invalid(&at, value.clone(), "must be a string")),
            Some("") => out.push(Error::invalid(&at, "", "must not be empty")),
            Some(text) => out.extend(GroupVersion::parse(text).err().map(|e| Error::invalid(&at, text, e))),
        }
    }
    if let Some(value) = object.get("kind") {
        let at = path.child("kind");
        match value.as_str() {
            None => out.push(Error::invalid(&at, value.clone(), "must be a string")),
            Some("") => out.push(Error::invalid(&at, "", "must not be empty")),
            Some(kind) => {
                let messages = names::dns1035_label(&kind.to_lowercase());
                if !messages.is_empty() {
                    let message =
                        format!("may have mixed case, but should otherwise match: {}", messages.join(","));
                    out.push(Error::invalid(&at, kind, message));
                }
            }
        }
    }
    if let Some(meta) = object.get("metadata") {
        let mut meta = meta.clone();
        if meta.text("name").is_empty() {
            meta.set("name", "fakename");
        }
        out.extend(metadata(&meta, &path.child("metadata")));
    }
}

#[cfg(test)]
mod tests;
