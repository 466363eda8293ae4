//! Values in messages.

use super::{Value, time};

impl Value<'_> {
    /// As Go's `%v` shows it in errors (`no such key: x`).
    pub(crate) fn shown(&self) -> String {
        match self {
            Value::Null => "NULL_VALUE".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Uint(n) => n.to_string(),
            Value::Double(n) => go_double(*n),
            Value::String(text) => text.to_string(),
            Value::Bytes(bytes) => {
                let all: Vec<String> = bytes.iter().map(u8::to_string).collect();
                format!("[{}]", all.join(" "))
            }
            Value::Timestamp(at) => at.to_string(),
            Value::Duration(nanos) => time::go_duration(*nanos),
            Value::List(list) => {
                let all: Vec<String> =
                    list.iter().map(|i| i.map_or_else(|e| e.to_string(), |v| v.shown())).collect();
                format!("[{}]", all.join(", "))
            }
            Value::Map(map) => {
                let entry = |key: Value<'_>| {
                    let value = map.find(&key).ok().flatten();
                    format!("{}: {}", key.shown(), value.map_or_else(String::new, |v| v.shown()))
                };
                let all: Vec<String> = map.keys().into_iter().map(entry).collect();
                format!("{{{}}}", all.join(", "))
            }
            Value::Type(ty) => ty.name().to_owned(),
            Value::Optional(None) => "optional.none()".into(),
            Value::Optional(Some(value)) => format!("optional({})", value.shown()),
            other => other.type_name().to_owned(),
        }
    }
}

/// Go's `%v`: the shortest digits, an exponent below -4 and from 21 on (`%g`: from 6 on).
pub(crate) fn go_double(number: f64) -> String {
    exponent_from(number, 21)
}

/// `%g` with the exponent that starts the scientific form.
pub(crate) fn exponent_from(number: f64, limit: i32) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..limit).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
