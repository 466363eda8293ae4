//! Conversions between types.

use super::{Res, no_overload};
use crate::env::{Activation, EvalError};
use crate::types::Type;
use crate::value::{Timestamp, Value, exponent_from, time};

type Host<'h, 'a> = &'h dyn Activation<'a>;

fn failed<'a>(value: &Value<'_>, to: &str) -> Res<'a> {
    Err(format!("type conversion error from '{}' to '{to}'", value.type_name()).into())
}

fn or<'a>(value: Option<Value<'a>>, error: &str) -> Res<'a> {
    value.ok_or_else(|| EvalError::from(error))
}

pub(crate) fn to_type<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    args.first().map(|v| Value::Type(v.ty())).ok_or_else(|| "no such overload".into())
}

pub(crate) fn to_dyn<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    args.first().cloned().ok_or_else(|| "no such overload".into())
}

pub(crate) fn to_bool<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(*b)),
        [value @ Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => failed(value, "bool"),
        },
        other => no_overload("bool", other),
    }
}

pub(crate) fn to_bytes<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        other => no_overload("bytes", other),
    }
}

pub(crate) fn to_double<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Double(n)] => Ok(Value::Double(*n)),
        [Value::Int(n)] => Ok(Value::Double(*n as f64)),
        [Value::Uint(n)] => Ok(Value::Double(*n as f64)),
        [value @ Value::String(text)] => match parse_double(text) {
            Some(n) => Ok(Value::Double(n)),
            None => failed(value, "double"),
        },
        other => no_overload("double", other),
    }
}

/// As Go's `strconv.ParseFloat` reads it.
pub(crate) fn parse_double(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['+', '-']);
    let word = plain.to_ascii_lowercase();
    let numeric = plain.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !numeric && !matches!(word.as_str(), "inf" | "infinity" | "nan") {
        return None;
    }
    let n: f64 = text.parse().ok()?;
    // too large a number is an error
    (n.is_finite() || !numeric).then_some(n)
}

pub(crate) fn to_int<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    const OVERFLOW: &str = "integer overflow";
    match args {
        [Value::Int(n)] => Ok(Value::Int(*n)),
        [Value::Uint(n)] => or(i64::try_from(*n).ok().map(Value::Int), OVERFLOW),
        [Value::Double(n)] => {
            let fits = n.is_finite() && *n > i64::MIN as f64 && *n < i64::MAX as f64;
            or(fits.then_some(Value::Int(*n as i64)), OVERFLOW)
        }
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(at)] => Ok(Value::Int(at.seconds)),
        [value @ Value::String(text)] => match text.parse() {
            Ok(n) => Ok(Value::Int(n)),
            Err(_) => failed(value, "int"),
        },
        other => no_overload("int", other),
    }
}

pub(crate) fn to_uint<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    const OVERFLOW: &str = "unsigned integer overflow";
    match args {
        [Value::Uint(n)] => Ok(Value::Uint(*n)),
        [Value::Int(n)] => or(u64::try_from(*n).ok().map(Value::Uint), OVERFLOW),
        [Value::Double(n)] => {
            let fits = n.is_finite() && *n >= 0.0 && *n < u64::MAX as f64;
            or(fits.then_some(Value::Uint(*n as u64)), OVERFLOW)
        }
        [value @ Value::String(text)] => match text.parse::<u64>().ok().filter(|_| !text.starts_with('+')) {
            Some(n) => Ok(Value::Uint(n)),
            None => failed(value, "uint"),
        },
        other => no_overload("uint", other),
    }
}

pub(crate) fn to_string<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [value] = args else { return no_overload("string", args) };
    match value {
        Value::String(text) => Ok(Value::String(text.clone())),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err("invalid UTF-8 in bytes, cannot convert to string".into()),
        },
        other => match text_of(other) {
            Some(text) => Ok(Value::text(text)),
            None => no_overload("string", args),
        },
    }
}

/// What `string(…)` makes of a value; None for bytes that are no text and for types without such a conversion.
pub(crate) fn text_of(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => exponent_from(*n, 6),
        Value::Duration(nanos) => time::seconds_text(*nanos),
        Value::Timestamp(at) => at.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Type(ty) => ty.name().to_owned(),
        _ => return None,
    })
}

pub(crate) fn to_duration<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
        [value @ Value::Int(_)] => failed(value, Type::Duration.name()),
        [value @ Value::String(text)] => match time::parse_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => failed(value, Type::Duration.name()),
        },
        other => no_overload("duration", other),
    }
}

pub(crate) fn to_timestamp<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    const OVERFLOW: &str = "timestamp overflow";
    match args {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::Int(n)] => {
            or(Timestamp::from_total(i128::from(*n) * 1_000_000_000, 0).map(Value::Timestamp), OVERFLOW)
        }
        [value @ Value::String(text)] => match Timestamp::parse(text) {
            Some(at) if (time::MIN_SECONDS..=time::MAX_SECONDS).contains(&at.seconds) => {
                Ok(Value::Timestamp(at))
            }
            Some(_) => Err(OVERFLOW.into()),
            None => failed(value, Type::Timestamp.name()),
        },
        other => no_overload("timestamp", other),
    }
}
