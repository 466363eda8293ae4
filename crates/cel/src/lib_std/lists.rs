//! Functions of lists and sets.

use std::cmp::Ordering;

use super::ops::contains as in_list;
use super::{Res, no_overload};
use crate::env::{Activation, EvalError};
use crate::value::{List, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

fn items<'a>(list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}

pub(crate) fn is_sorted<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("isSorted", args) };
    let items = items(list)?;
    if items.iter().any(|item| !item.is_ordered()) {
        return Err("no such overload".into());
    }
    let sorted = items.windows(2).all(|pair| !pair[0].order(&pair[1]).is_ok_and(Ordering::is_gt));
    Ok(Value::Bool(sorted))
}

pub(crate) fn sum<'a>(args: &[Value<'a>], host: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("sum", args) };
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        total = Some(match total {
            None => item,
            Some(total) => super::ops::add(&[total, item], host)?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload(name, args) };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if !item.is_ordered() {
            return Err("no such overload".into());
        }
        match &best {
            Some(known) if known.order(&item).is_ok_and(|o| o != wanted.reverse()) => {}
            Some(known) if known.order(&item).is_err() => {}
            _ => best = Some(item),
        }
    }
    best.ok_or_else(|| format!("{name} called on empty list").into())
}

pub(crate) fn min<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    extreme(args, "min", Ordering::Less)
}

pub(crate) fn max<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    extreme(args, "max", Ordering::Greater)
}

pub(crate) fn first<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("first", args) };
    list.get(0).map_or(Ok(Value::Optional(None)), |item| item.map(Value::some))
}

pub(crate) fn last<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("last", args) };
    let item = list.len().checked_sub(1).and_then(|n| list.get(n));
    item.map_or(Ok(Value::Optional(None)), |item| item.map(Value::some))
}

pub(crate) fn slice<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return no_overload("slice", args);
    };
    let length = list.len() as i64;
    let why = if *start < 0 || *end < 0 {
        "negative indexes not supported".to_owned()
    } else if start > end {
        "start index must be less than or equal to end index".to_owned()
    } else if length < *end {
        format!("list is length {length}")
    } else {
        let part = (*start..*end).map_while(|n| list.get(n as usize));
        return part.collect::<Result<Vec<_>, _>>().map(Value::list);
    };
    Err(format!("cannot slice({start}, {end}), {why}").into())
}

pub(crate) fn flatten<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        [value] => return Err(format!("no such overload: {}.flatten()", value.type_name()).into()),
        other => return no_overload("flatten", other),
    };
    if depth < 0 {
        return Err("level must be non-negative".into());
    }
    let mut out = Vec::new();
    let mut open = vec![(list.clone(), 0usize, depth)];
    while let Some((list, at, depth)) = open.pop() {
        let Some(item) = list.get(at) else { continue };
        open.push((list, at + 1, depth));
        match item? {
            Value::List(inner) if depth > 0 => open.push((inner, 0, depth - 1)),
            other => out.push(other),
        }
    }
    Ok(Value::list(out))
}

pub(crate) fn reverse<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("reverse", args) };
    let mut items = items(list)?;
    items.reverse();
    Ok(Value::list(items))
}

pub(crate) fn distinct<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list)] = args else { return no_overload("distinct", args) };
    let mut known = std::collections::HashSet::new();
    let mut out: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        let new = match item.key() {
            Some(key) => known.insert(key),
            None => !out.iter().any(|other| item.equals(other).unwrap_or(false)),
        };
        if new {
            out.push(item);
        }
    }
    Ok(Value::list(out))
}

/// Longer lists cannot be paid for.
const MAX_RANGE: i64 = 1 << 21;

pub(crate) fn range<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::Int(n)] if *n > MAX_RANGE => Err(EvalError::CostExceeded),
        [Value::Int(n)] => Ok(Value::list((0..*n).map(Value::Int).collect())),
        other => no_overload("lists.range", other),
    }
}

pub(crate) fn sort<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::List(list)] => sorted(list, list),
        other => no_overload("sort", other),
    }
}

pub(crate) fn sort_by_keys<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::List(list), Value::List(keys)] => sorted(list, keys),
        other => no_overload("@sortByAssociatedKeys", other),
    }
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Res<'a> {
    let (items, keys) = (items(list)?, items(keys)?);
    if items.len() != keys.len() {
        let (a, b) = (items.len(), keys.len());
        return Err(format!("@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {a} and {b} elements respectively").into());
    }
    let Some(first) = keys.first() else { return Ok(Value::list(items)) };
    if !first.is_ordered() {
        return Err("list elements must be comparable".into());
    }
    if keys.iter().any(|key| key.type_name() != first.type_name()) {
        return Err("list elements must have the same type".into());
    }
    let mut both: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(items).collect();
    both.sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(both.into_iter().map(|(_, item)| item).collect()))
}

fn all_in<'a>(list: &List<'a>, part: &List<'a>) -> Result<bool, EvalError> {
    for item in part.iter() {
        if !in_list(list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn sets_contains<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(list), Value::List(part)] = args else { return no_overload("sets.contains", args) };
    all_in(list, part).map(Value::Bool)
}

pub(crate) fn sets_equivalent<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(a), Value::List(b)] = args else { return no_overload("sets.equivalent", args) };
    Ok(Value::Bool(all_in(a, b)? && all_in(b, a)?))
}

pub(crate) fn sets_intersects<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::List(a), Value::List(b)] = args else { return no_overload("sets.intersects", args) };
    for item in a.iter() {
        if in_list(b, &item?).unwrap_or(false) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
