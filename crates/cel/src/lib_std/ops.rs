//! Operators, `size`, `in`, optionals.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Res;
use crate::env::{Activation, EvalError};
use crate::value::{List, Map, Timestamp, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

const NO_OVERLOAD: &str = "no such overload";
const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const TIME: &str = "timestamp overflow";
const DURATION: &str = "duration overflow";

fn checked<'a, T>(value: Option<T>, make: fn(T) -> Value<'a>, error: &str) -> Res<'a> {
    value.map(make).ok_or_else(|| error.into())
}

fn moved<'a>(at: &Timestamp, nanos: i128) -> Res<'a> {
    checked(Timestamp::from_total(at.total() + nanos, at.offset), Value::Timestamp, TIME)
}

pub(crate) fn add<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => checked(a.checked_add(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => checked(a.checked_add(*b), Value::Uint, UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => Ok(Value::text(format!("{}{}", &**a, &**b))),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes(a.iter().chain(b.iter()).copied().collect())),
        [Value::List(a), Value::List(b)] => a.plus(b).map(Value::List),
        [Value::Duration(a), Value::Duration(b)] => checked(a.checked_add(*b), Value::Duration, DURATION),
        [Value::Timestamp(at), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(at)] => {
            moved(at, i128::from(*d))
        }
        [a, ..] => Err(arithmetic(a, "_+_")),
        [] => Err(NO_OVERLOAD.into()),
    }
}

/// Types without the operator are told apart from those whose operand does not fit.
fn arithmetic(first: &Value<'_>, operator: &str) -> EvalError {
    let known = match operator {
        "_+_" | "_-_" => {
            matches!(
                first,
                Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_) | Value::Timestamp(_)
            ) || (operator == "_+_" && matches!(first, Value::String(_) | Value::Bytes(_) | Value::List(_)))
        }
        "_%_" => matches!(first, Value::Int(_) | Value::Uint(_)),
        _ => matches!(first, Value::Int(_) | Value::Uint(_) | Value::Double(_)),
    };
    // texts, durations and timestamps answer for themselves
    let receiver = matches!(first, Value::String(_) | Value::Duration(_) | Value::Timestamp(_));
    if known || receiver { NO_OVERLOAD.into() } else { format!("{NO_OVERLOAD}: {operator}").into() }
}

pub(crate) fn sub<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => checked(a.checked_sub(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => checked(a.checked_sub(*b), Value::Uint, UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => checked(a.checked_sub(*b), Value::Duration, DURATION),
        [Value::Timestamp(at), Value::Duration(d)] => moved(at, -i128::from(*d)),
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            checked(i64::try_from(a.total() - b.total()).ok(), Value::Duration, DURATION)
        }
        [a, ..] => Err(arithmetic(a, "_-_")),
        [] => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn mul<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => checked(a.checked_mul(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => checked(a.checked_mul(*b), Value::Uint, UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        [a, ..] => Err(arithmetic(a, "_*_")),
        [] => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn div<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err("division by zero".into()),
        [Value::Int(a), Value::Int(b)] => checked(a.checked_div(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        [a, ..] => Err(arithmetic(a, "_/_")),
        [] => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn rem<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err("modulus by zero".into()),
        [Value::Int(a), Value::Int(b)] => checked(a.checked_rem(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
        [a, ..] => Err(arithmetic(a, "_%_")),
        [] => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn negate<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(a)] => checked(a.checked_neg(), Value::Int, INT),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        [Value::Duration(a)] => checked(a.checked_neg(), Value::Duration, DURATION),
        [Value::Bool(_) | Value::String(_) | Value::Timestamp(_)] => Err(NO_OVERLOAD.into()),
        _ => Err("no such overload: -_".into()),
    }
}

pub(crate) fn not<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Bool(a)] => Ok(Value::Bool(!a)),
        _ => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn not_strictly_false<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    Ok(match args {
        [Value::Bool(a)] => Value::Bool(*a),
        _ => Value::Bool(true),
    })
}

pub(crate) fn eq<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [a, b] = args else { return Err(NO_OVERLOAD.into()) };
    a.equals(b).map(Value::Bool)
}

pub(crate) fn ne<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [a, b] = args else { return Err(NO_OVERLOAD.into()) };
    // what cannot be compared is not equal
    Ok(Value::Bool(!a.equals(b).unwrap_or(false)))
}

fn ordered<'a>(args: &[Value<'a>], operator: &str, holds: fn(Ordering) -> bool) -> Res<'a> {
    let [a, b] = args else { return Err(NO_OVERLOAD.into()) };
    if !a.is_ordered() {
        return Err(format!("{NO_OVERLOAD}: {operator}").into());
    }
    a.order(b).map(|order| Value::Bool(holds(order)))
}

pub(crate) fn lt<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    ordered(args, "_<_", Ordering::is_lt)
}

pub(crate) fn le<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    ordered(args, "_<=_", Ordering::is_le)
}

pub(crate) fn gt<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    ordered(args, "_>_", Ordering::is_gt)
}

pub(crate) fn ge<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    ordered(args, "_>=_", Ordering::is_ge)
}

pub(crate) fn is_in<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [item, Value::List(list)] => contains(list, item).map(Value::Bool),
        [key, Value::Map(map)] => Ok(Value::Bool(map.find(key)?.is_some())),
        _ => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn contains<'a>(list: &List<'a>, item: &Value<'a>) -> Result<bool, EvalError> {
    let typed = matches!(list, List::Json { schema: Some(_), .. } | List::Merged { .. });
    let mut failed = None;
    for own in list.iter() {
        match own.and_then(|own| own.equals(item)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        Some(error) if typed => Err(error),
        _ => Ok(false),
    }
}

pub(crate) fn size<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(value.size().unwrap_or(0) as i64))
        }
        [_] => Err("no such overload: size".into()),
        _ => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn optional_of<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    args.first().map(|v| Value::some(v.clone())).ok_or_else(|| NO_OVERLOAD.into())
}

pub(crate) fn optional_of_non_zero<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [value] if value.is_zero() => Ok(Value::Optional(None)),
        [value] => Ok(Value::some(value.clone())),
        _ => Err(NO_OVERLOAD.into()),
    }
}

pub(crate) fn optional_none<'a>(_: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    Ok(Value::Optional(None))
}

pub(crate) fn value<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Optional(Some(inner))] => Ok(Value::clone(inner)),
        [Value::Optional(None)] => Err("optional.none() dereference".into()),
        other => super::no_overload("value", other),
    }
}

pub(crate) fn has_value<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        other => super::no_overload("hasValue", other),
    }
}

pub(crate) fn unwrap<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return super::no_overload("unwrapOpt", args) };
    let mut out = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(inner)) => out.push(Value::clone(&inner)),
            Value::Optional(None) => {}
            other => return Err(format!("value {} is not optional", other.shown()).into()),
        }
    }
    Ok(Value::list(out))
}

/// Only called where the accumulator is not that of a macro.
pub(crate) fn map_insert<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::Map(Map::Entries(map)), key, value] = args else { return Err(NO_OVERLOAD.into()) };
    let mut map = Arc::clone(map);
    Arc::make_mut(&mut map).insert(key.clone(), value.clone());
    Ok(Value::Map(Map::Entries(map)))
}
