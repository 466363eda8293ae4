//! Quantities.

use std::cmp::Ordering;

use machinery::quantity::{Format, Quantity};

use super::semver;
use crate::env::Activation;
use crate::lib_std::{Res, no_overload};
use crate::value::Value;

type Host<'h, 'a> = &'h dyn Activation<'a>;

pub(crate) fn quantity<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("quantity", args) };
    match text.parse::<Quantity>() {
        Ok(quantity) => Ok(Value::Quantity(quantity.into())),
        Err(error) => Err(error.to_string().into()),
    }
}

pub(crate) fn is_quantity<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("isQuantity", args) };
    Ok(Value::Bool(text.parse::<Quantity>().is_ok()))
}

fn one<'v>(args: &'v [Value<'_>]) -> Option<&'v Quantity> {
    match args {
        [Value::Quantity(quantity)] => Some(quantity),
        _ => None,
    }
}

pub(crate) fn is_integer<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    one(args).map_or_else(|| no_overload("isInteger", args), |q| Ok(Value::Bool(q.as_i64().is_some())))
}

pub(crate) fn as_integer<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let Some(quantity) = one(args) else { return no_overload("asInteger", args) };
    quantity.as_i64().map(Value::Int).ok_or_else(|| "cannot convert value to integer".into())
}

pub(crate) fn as_float<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    one(args).map_or_else(|| no_overload("asApproximateFloat", args), |q| Ok(Value::Double(q.as_f64())))
}

pub(crate) fn sign<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let Some(quantity) = one(args) else { return no_overload("sign", args) };
    Ok(Value::Int(if quantity.is_zero() {
        0
    } else if quantity.is_negative() {
        -1
    } else {
        1
    }))
}

fn sum<'a>(args: &[Value<'a>], name: &str, of: fn(&Quantity, &Quantity) -> Quantity) -> Res<'a> {
    let quantity = match args {
        [Value::Quantity(a), Value::Quantity(b)] => of(a, b),
        [Value::Quantity(a), Value::Int(b)] => of(a, &Quantity::new(*b, Format::DecimalExponent)),
        _ => return no_overload(name, args),
    };
    Ok(Value::Quantity(quantity.into()))
}

pub(crate) fn add<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    sum(args, "add", Quantity::add)
}

pub(crate) fn sub<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    sum(args, "sub", Quantity::sub)
}

/// Of quantities, and of semantic versions.
fn order(args: &[Value<'_>]) -> Option<Ordering> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Some(a.compare(b)),
        [Value::Semver(a), Value::Semver(b)] => Some(semver::Semver::compare(a, b)),
        _ => None,
    }
}

pub(crate) fn is_greater_than<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    order(args).map_or_else(|| no_overload("isGreaterThan", args), |o| Ok(Value::Bool(o.is_gt())))
}

pub(crate) fn is_less_than<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    order(args).map_or_else(|| no_overload("isLessThan", args), |o| Ok(Value::Bool(o.is_lt())))
}

pub(crate) fn compare_to<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    order(args).map_or_else(|| no_overload("compareTo", args), |o| Ok(Value::Int(o as i64)))
}
