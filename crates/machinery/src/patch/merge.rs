//! JSON merge patch.

use serde_json::{Map, Value};

use super::Error;
use crate::codec::json::Document;

/// Reads a patch; with `strict`, the duplicate fields in it.
pub fn decode(bytes: &[u8], strict: bool) -> Result<(Value, Vec<String>), Error> {
    let decoded = Document::parse(bytes).and_then(|d| d.decode_any(strict));
    match decoded {
        Ok(decoded) if decoded.value.is_object() => Ok((decoded.value, decoded.strict)),
        Ok(decoded) if strict && !decoded.value.is_null() => Err(Error::Bad(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            word(&decoded.value)
        ))),
        Ok(decoded) if decoded.value.is_array() => Ok((decoded.value, Vec::new())),
        Err(error) if strict => Err(Error::Bad(format!("error decoding patch: {error}"))),
        _ => Err(Error::Bad("Invalid JSON Patch".into())),
    }
}

/// The patched document. Nulls delete; lists replace.
pub fn apply(document: &Value, patch: &Value) -> Value {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => {
            let mut out = document.clone();
            merge(&mut out, patch);
            Value::Object(out)
        }
        (_, patch) => without_nulls(patch),
    }
}

fn merge(document: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (document.get_mut(key), value) {
            (_, Value::Null) => drop(document.remove(key)),
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            // upstream leaves nulls in a list that replaces an object
            (Some(Value::Object(_)), other) => drop(document.insert(key.clone(), other.clone())),
            (_, other) => drop(document.insert(key.clone(), without_nulls(other))),
        }
    }
}

/// Nulls in objects vanish, also in objects within lists; nulls in lists stay.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// What Go's JSON decoder calls a value.
pub(super) fn word(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    }
}
