//! Rules that upstream declares beside its types (`+k8s:` tags). On an update what did not change is not looked at
//! again; `old` is null where there is nothing to compare with.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors, IMMUTABLE, same};
use crate::names;

/// Must a rule look at this value? Not if it is what it was.
pub(crate) fn changed(new: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| !same(new, old))
}

/// True, and an error, if it changed. New objects may have anything.
pub(crate) fn immutable(new: &Value, old: Option<&Value>, at: &Path, errors: &mut ErrorList) -> bool {
    let broken = old.is_some_and(|old| !same(new, old));
    if broken {
        errors.invalid(at, Value::Null, IMMUTABLE);
    }
    broken
}

/// Just one of these fields; on an update only if it is about other fields than before.
pub(crate) fn union(new: &Value, old: Option<&Value>, fields: &[&str], at: &Path, errors: &mut ErrorList) {
    if old.is_some_and(|old| fields.iter().all(|f| new.has(f) == old.has(f))) {
        return;
    }
    let all = fields.iter().map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ");
    let given: Vec<&str> = fields.iter().copied().filter(|f| new.has(f)).collect();
    match given.len() {
        0 => errors.invalid(at, "", format!("must specify one of: {all}")),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.invalid(at, shown, format!("must specify exactly one of: {all}"));
        }
    }
}

/// A DNS label that must be there.
pub(crate) fn short_name(value: &str, at: &Path, errors: &mut ErrorList) {
    required(value, at, errors, names::dns1123_label);
}

/// A DNS subdomain that must be there.
pub(crate) fn long_name(value: &str, at: &Path, errors: &mut ErrorList) {
    required(value, at, errors, names::dns1123_subdomain);
}

pub(crate) fn required(
    value: &str,
    at: &Path,
    errors: &mut ErrorList,
    rule: impl FnOnce(&str) -> Vec<String>,
) {
    match value {
        "" => errors.required(at, ""),
        _ => errors.each(at, value, rule(value)),
    }
}

pub(crate) fn minimum(value: i64, min: i64, at: &Path, errors: &mut ErrorList) {
    if value < min {
        errors.invalid(at, value, format!("must be greater than or equal to {min}"));
    }
}

pub(crate) fn maximum(value: i64, max: i64, at: &Path, errors: &mut ErrorList) {
    if value > max {
        errors.invalid(at, value, format!("must be less than or equal to {max}"));
    }
}

/// No two items with the same value of this field; the message shows the item, its fields in this order.
pub(crate) fn unique(items: &[Value], key: &str, shown: &[&str], at: &Path, errors: &mut ErrorList) {
    for (i, item) in items.iter().enumerate() {
        if items[..i].iter().any(|other| same(other.at(key), item.at(key))) {
            errors.duplicate_shown(&at.index(i), check::shown(item, shown));
        }
    }
}
