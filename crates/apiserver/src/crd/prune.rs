//! Objects of custom resources as they are read: metadata by its type, the rest by the schema.

use machinery::field::go_quote;
use machinery::schema::{self, Schema};
use machinery::{Get, Value};

/// Runs something on an object that leaves `apiVersion`, `kind` and `metadata` alone.
pub fn keeping_meta(object: &mut Value, run: impl FnOnce(&mut Value)) {
    let kept: Vec<(&str, Option<Value>)> =
        ["apiVersion", "kind", "metadata"].iter().map(|key| (*key, object.unset(key))).collect();
    run(object);
    for (key, part) in kept {
        if let Some(part) = part {
            object.set(key, part);
        }
    }
}

/// Drops what the schema and the type of metadata do not know, and fills in defaults. Says what is gone, sorted.
///
/// # Errors
/// Metadata that is not of its type.
pub fn read(schema: &Schema, object: &mut Value) -> Result<Vec<String>, String> {
    let mut gone = metadata(object)?;
    keeping_meta(object, |object| {
        gone.extend(schema::prune(schema, object).iter().map(|path| unknown(path)));
        schema::apply_defaults(schema, object);
    });
    gone.sort();
    Ok(gone)
}

/// Only the metadata: for objects of another kind or version than they should be.
pub fn metadata(object: &mut Value) -> Result<Vec<String>, String> {
    let Some(metadata) = object.get("metadata").filter(|m| m.is_object()) else { return Ok(Vec::new()) };
    let Some(schema) = schema::of_type("meta/v1.ObjectMeta") else { return Ok(Vec::new()) };
    let read = machinery::codec::json::convert(schema, metadata.clone(), true).map_err(|e| e.to_string())?;
    object.set("metadata", read.value);
    let below = |problem: &String| {
        let field = problem.strip_prefix("unknown field \"").and_then(|p| p.strip_suffix('"'));
        field.map(|field| unknown(&format!("metadata.{field}")))
    };
    Ok(read.strict.iter().filter_map(below).collect())
}

pub fn unknown(path: &str) -> String {
    format!("unknown field {}", go_quote(path))
}
