//! `metadata` of an object.

use crate::value::Get;
use serde_json::{Map, Value};

pub fn name(obj: &Value) -> &str {
    obj.at("metadata").text("name")
}

/// "" for cluster-scoped objects.
pub fn namespace(obj: &Value) -> &str {
    obj.at("metadata").text("namespace")
}

pub fn uid(obj: &Value) -> &str {
    obj.at("metadata").text("uid")
}

/// "" when unset.
pub fn resource_version(obj: &Value) -> &str {
    obj.at("metadata").text("resourceVersion")
}

pub fn labels(obj: &Value) -> Option<&Map<String, Value>> {
    obj.at("metadata").map("labels")
}

pub fn annotations(obj: &Value) -> Option<&Map<String, Value>> {
    obj.at("metadata").map("annotations")
}

pub fn is_deleting(obj: &Value) -> bool {
    obj.at("metadata").has("deletionTimestamp")
}

pub fn finalizers(obj: &Value) -> impl Iterator<Item = &str> {
    obj.at("metadata").list("finalizers").iter().filter_map(Value::as_str)
}

/// To change; made if need be.
pub fn of(obj: &mut Value) -> &mut Value {
    obj.child("metadata")
}
