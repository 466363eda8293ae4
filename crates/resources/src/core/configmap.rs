//! ConfigMaps.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "ConfigMap",
    validate,
    validate_update,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Data",
        "string",
        "",
        0,
        "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// Bytes of all values of a ConfigMap or a Secret.
pub(super) const SIZE_MAX: usize = 1024 * 1024;

const FROZEN: &str = "field is immutable when `immutable` is set";

fn validate(obj: &Value, _: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    let mut size = 0;
    let at = Path::new("data");
    for (key, value) in obj.map("data").into_iter().flatten() {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        if obj.at("binaryData").has(key) {
            errors.invalid(&at.key(key), key.as_str(), "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    let at = Path::new("binaryData");
    for (key, value) in obj.map("binaryData").into_iter().flatten() {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        size += super::decoded_len(value);
    }
    if size > SIZE_MAX {
        errors.too_long(&Path::root(), SIZE_MAX);
    }
    errors
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    frozen(new, old, &["data", "binaryData"], &mut errors);
    errors.extend(validate(new, context));
    errors
}

/// Once `immutable` is set, neither it nor these fields may change.
pub(super) fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut ErrorList) {
    if old.flag("immutable") != Some(true) {
        return;
    }
    if new.flag("immutable") != Some(true) {
        errors.forbidden(&Path::new("immutable"), FROZEN);
    }
    for field in fields {
        if !same(new.at(field), old.at(field)) {
            errors.forbidden(&Path::new(field), FROZEN);
        }
    }
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let count = |field: &str| obj.map(field).map_or(0, |m| m.len());
    vec![name(obj), (count("data") + count("binaryData")).into(), age(obj, now)]
}
