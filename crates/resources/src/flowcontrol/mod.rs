//! flowcontrol.apiserver.k8s.io.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;

pub(crate) mod flowschema;
pub mod mandatory;
pub(crate) mod prioritylevelconfiguration;

/// Conditions: each has a type, no type twice.
fn conditions(obj: &Value, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in obj.at("status").list("conditions").iter().enumerate() {
        let at = Path::new("status").child("conditions").index(i).child("type");
        let kind = condition.text("type");
        if seen.contains(&kind) {
            errors.duplicate(&at, kind);
        }
        seen.push(kind);
        if kind.is_empty() {
            errors.required(&at, "");
        }
    }
}

/// A number that is 0 or absent gets this value.
fn number(obj: &mut Value, field: &str, value: i64) {
    if obj.int(field).unwrap_or(0) == 0 {
        obj.set(field, value);
    }
}
