//! JSON patch, with the leniencies and messages of the library that upstream uses (`evanphx/json-patch` v4).

use serde_json::{Map, Value};

use super::Error;
use crate::codec::json::{Document, encode_any};

/// More operations are refused.
const MAX_OPERATIONS: usize = 10_000;
/// How much the `copy` operations of one patch may add, in bytes.
const MAX_COPY: usize = 3 * 1024 * 1024;
const MISSING: &str = "missing value";

/// A list of operations.
#[derive(Clone, Debug)]
pub struct Patch {
    operations: Vec<Map<String, Value>>,
}

impl Patch {
    /// Reads a patch; with `strict`, what is odd about it: `json patch unknown field "[0].x"`.
    pub fn decode(bytes: &[u8], strict: bool) -> Result<(Self, Vec<String>), Error> {
        let prefix = if strict { "error decoding patch: " } else { "" };
        let bad = |message: String| Error::Bad(format!("{prefix}{message}"));
        let list = if strict { "[]handlers.jsonPatchOp" } else { "jsonpatch.Patch" };
        let item = if strict { "handlers.jsonPatchOp" } else { "jsonpatch.Operation" };
        let decoded =
            Document::parse(bytes).and_then(|d| d.decode_any(strict)).map_err(|e| bad(e.to_string()))?;
        let into = |value: &Value, to: &str| {
            format!("json: cannot unmarshal {} into Go value of type {to}", super::merge::word(value))
        };
        let items = match decoded.value {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return Err(bad(into(&other, list))),
        };
        let mut errors = decoded.strict;
        let mut operations = Vec::with_capacity(items.len().min(MAX_OPERATIONS));
        for (n, value) in items.into_iter().enumerate() {
            match value {
                Value::Object(map) => {
                    if strict {
                        check_operation(n, &map, &mut errors).map_err(bad)?;
                    }
                    operations.push(map);
                }
                Value::Null => operations.push(Map::new()),
                other => return Err(bad(into(&other, item))),
            }
        }
        if operations.len() > MAX_OPERATIONS {
            let got = operations.len();
            return Err(Error::TooLarge(format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {got}"
            )));
        }
        let errors = errors.into_iter().map(|e| format!("json patch {e}")).collect();
        Ok((Self { operations }, errors))
    }

    /// The patched document.
    pub fn apply(&self, document: &Value) -> Result<Value, Error> {
        let mut document = document.clone();
        let mut copied = 0;
        for operation in &self.operations {
            apply(&mut document, operation, &mut copied).map_err(Error::Unprocessable)?;
        }
        Ok(document)
    }
}

fn check_operation(n: usize, map: &Map<String, Value>, errors: &mut Vec<String>) -> Result<(), String> {
    for (name, value) in map {
        match (&**name, value) {
            ("value", _) | ("op" | "path" | "from", Value::String(_) | Value::Null) => {}
            ("op" | "path" | "from", value) => {
                let what = super::merge::word(value);
                return Err(format!(
                    "json: cannot unmarshal {what} into Go struct field jsonPatchOp.{name} of type string"
                ));
            }
            _ => errors.push(format!("unknown field \"[{n}].{name}\"")),
        }
    }
    Ok(())
}

fn apply(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), String> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path =
        |what: &str| text("path").ok_or_else(|| format!("{what}: operation missing path field: {MISSING}"));
    let short =
        |what: &str| text("path").ok_or_else(|| format!("{what} operation failed to decode path: {MISSING}"));
    let from =
        |what: &str| text("from").ok_or_else(|| format!("{what}: operation, missing from field: {MISSING}"));
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op").unwrap_or("unknown") {
        "add" => {
            let path = short("add")?;
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("add operation does not apply: doc is missing path: \"{path}\": {MISSING}")
            })?;
            add(parent, &key, value()).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = short("remove")?;
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("remove operation does not apply: doc is missing path: \"{path}\": {MISSING}")
            })?;
            remove(parent, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => {
            let path = path("replace operation failed to decode path")?;
            if path.is_empty() {
                let value = value();
                if !value.is_object() && !value.is_array() {
                    return Err("replace operation value must be object or array: %!w(<nil>)".into());
                }
                *document = value;
                return Ok(());
            }
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("replace operation does not apply: doc is missing path: {path}: {MISSING}")
            })?;
            if let Value::Array(items) = parent {
                let at = index(items.len(), &key).map_err(|_| {
                    format!("replace operation does not apply: doc is missing key: {path}: {MISSING}")
                })?;
                items[at] = value();
            } else if let Value::Object(map) = parent {
                map.insert(key, value());
            }
            Ok(())
        }
        "move" => {
            let from = from("move operation failed to decode from")?;
            let (parent, key) = find(document, from).ok_or_else(|| {
                format!("move operation does not apply: doc is missing from path: {from}: {MISSING}")
            })?;
            let moved = remove(parent, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = path("move operation failed to decode path")?;
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("move operation does not apply: doc is missing destination path: {path}: {MISSING}")
            })?;
            add(parent, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "copy" => {
            let from = from("copy operation failed to decode from")?;
            let (parent, key) = find(document, from).ok_or_else(|| {
                format!("copy operation does not apply: doc is missing from path: {from}: {MISSING}")
            })?;
            let value = get(parent, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
            let value = value.cloned().unwrap_or(Value::Null);
            let path = short("copy")?;
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("copy operation does not apply: doc is missing destination path: {path}: {MISSING}")
            })?;
            let mut bytes = Vec::new();
            encode_any(&value, &mut bytes);
            *copied += bytes.len();
            if *copied > MAX_COPY {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPY}"
                ));
            }
            add(parent, &key, value).map_err(|e| format!("error while adding value during copy: {e}"))
        }
        "test" => {
            let path = path("test operation failed to decode path")?;
            let failed = || format!("testing value {path} failed: test failed");
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            if path.is_empty() {
                return if document == wanted { Ok(()) } else { Err(failed()) };
            }
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("test operation does not apply: is missing path: {path}: {MISSING}")
            })?;
            let value = get(parent, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
            if value.unwrap_or(&Value::Null) == wanted { Ok(()) } else { Err(failed()) }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

/// The container that holds what a path points to, and the key in it.
fn find<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let last = parts.pop().filter(|_| !parts.is_empty())?;
    let mut at = document;
    for part in parts.into_iter().skip(1) {
        let key = decode_key(part);
        at = match at {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(items) => {
                let at = index(items.len(), &key).ok()?;
                items.get_mut(at)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, decode_key(last)))
}

fn decode_key(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

fn get<'a>(parent: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match parent {
        Value::Array(items) => index(items.len(), key).map(|at| items.get(at)),
        other => Ok(other.get(key)),
    }
}

fn add(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::Object(map) => drop(map.insert(key.into(), value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let number =
                atoi(key).map_err(|e| format!("value was not a proper array index: '{key}': {e}"))?;
            items.insert(checked(number, items.len() + 1)?, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
        }
        Value::Array(items) => {
            let at = index(items.len(), key)?;
            Ok(items.remove(at))
        }
        _ => Ok(Value::Null),
    }
}

fn index(len: usize, key: &str) -> Result<usize, String> {
    checked(atoi(key)?, len)
}

/// A negative index counts from the end.
fn checked(index: i64, len: usize) -> Result<usize, String> {
    let from_start = if index < 0 { index + i64::try_from(len).unwrap_or(i64::MAX) } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

fn atoi(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", crate::field::go_quote(key)))
}
