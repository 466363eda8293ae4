//! Values that are a number or a percentage.

use machinery::Value;
use machinery::field::{ErrorList, Path};

use crate::check::Errors;
use crate::names;

/// Not negative, or a percentage.
pub(crate) fn not_negative(value: &Value, at: &Path, errors: &mut ErrorList) {
    match value {
        Value::String(text) => errors.each(at, value.clone(), names::percent(text)),
        other => errors.not_negative(at, Some(other.as_i64().unwrap_or(0))),
    }
}

/// At most 100%.
pub(crate) fn at_most_all(value: &Value, at: &Path, errors: &mut ErrorList) {
    if percentage(value).is_some_and(|p| p > 100) {
        errors.invalid(at, value.clone(), "must not be greater than 100%");
    }
}

fn percentage(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    names::is_percent(text).then(|| text.trim_end_matches('%').parse().unwrap_or(i64::MAX))
}

/// The number, or the number before the percent sign; 0 for anything else.
pub(crate) fn amount(value: &Value) -> i64 {
    match value {
        Value::String(text) => percentage(value).or_else(|| text.parse().ok()).unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    }
}
