//! Equality and order.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::{List, Map, Value};
use crate::EvalError;
use crate::schema::{ListType, Schema};

type Answer = Result<bool, EvalError>;

const NO_OVERLOAD: &str = "no such overload";
/// Items of a list; all of them cost more than any budget.
const MAX_ITEMS: usize = 1 << 25;

impl<'a> Value<'a> {
    /// `==`. Numbers are equal by value whatever their types; values of different types are not equal.
    pub(crate) fn equals(&self, other: &Value<'a>) -> Answer {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Null, _) | (_, Value::Null) => false,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
            ) => numbers(self, other) == Some(Ordering::Equal),
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => return lists(a, b),
            (Value::List(List::Json { schema: Some(_), .. } | List::Merged { .. }), _) => {
                return Err(NO_OVERLOAD.into());
            }
            (Value::Map(a), Value::Map(b)) => return maps(a, b),
            (Value::Map(Map::Json { schema: Some(_), .. }), _) => return Err(NO_OVERLOAD.into()),
            (Value::Object(a), Value::Object(b)) => {
                if a.name != b.name || a.fields.len() != b.fields.len() {
                    return Ok(false);
                }
                for (name, value) in &a.fields {
                    match b.fields.iter().find(|(n, _)| n == name) {
                        Some((_, other)) if value.equals(other)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => return a.equals(b),
                _ => false,
            },
            (Value::Quantity(a), Value::Quantity(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a), Value::Cidr(b)) => a == b,
            (Value::Format(a), Value::Format(b)) => a == b,
            (Value::Semver(a), Value::Semver(b)) => a.compare(b) == Ordering::Equal,
            (Value::Unknown(a), other) => other.as_json().is_some_and(|b| same_json(a, b)),
            (
                Value::Quantity(_)
                | Value::Url(_)
                | Value::Ip(_)
                | Value::Cidr(_)
                | Value::Format(_)
                | Value::Semver(_)
                | Value::Authz(_),
                _,
            ) => {
                return Err(NO_OVERLOAD.into());
            }
            _ => false,
        })
    }

    /// The JSON it stands for, if it is JSON.
    fn as_json(&self) -> Option<&'a Json> {
        match self {
            Value::Unknown(json) => Some(json),
            _ => None,
        }
    }

    /// `<` and its like. None: one is not a number.
    pub(crate) fn order(&self, other: &Value<'_>) -> Result<Ordering, EvalError> {
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
                Value::Int(_) | Value::Uint(_) | Value::Double(_),
            ) => numbers(self, other).ok_or_else(|| EvalError::from("NaN values cannot be ordered"))?,
            (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            _ => return Err(NO_OVERLOAD.into()),
        })
    }

    /// Has its type an order at all?
    pub(crate) fn is_ordered(&self) -> bool {
        self.order(self).is_ok() || matches!(self, Value::Double(_))
    }
}

/// None if one is not a number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Int(b)) => double_int(*a, *b),
        (Value::Int(a), Value::Double(b)) => double_int(*b, *a).map(Ordering::reverse),
        (Value::Double(a), Value::Uint(b)) => double_uint(*a, *b),
        (Value::Uint(a), Value::Double(b)) => double_uint(*b, *a).map(Ordering::reverse),
        _ => None,
    }
}

fn double_int(a: f64, b: i64) -> Option<Ordering> {
    if a < i64::MIN as f64 {
        return Some(Ordering::Less);
    }
    if a > i64::MAX as f64 {
        return Some(Ordering::Greater);
    }
    a.partial_cmp(&(b as f64))
}

fn double_uint(a: f64, b: u64) -> Option<Ordering> {
    if a < 0.0 {
        return Some(Ordering::Less);
    }
    if a > u64::MAX as f64 {
        return Some(Ordering::Greater);
    }
    a.partial_cmp(&(b as f64))
}

fn lists<'a>(a: &List<'a>, b: &List<'a>) -> Answer {
    if a.len() != b.len() {
        return Ok(false);
    }
    match list_type(a) {
        Some((ListType::Set, _)) => {
            let items: Vec<Value<'_>> = a.iter().collect::<Result<_, _>>()?;
            let known: std::collections::HashSet<_> = items.iter().filter_map(Value::key).collect();
            for item in b.iter() {
                if !item?.key().is_some_and(|key| known.contains(&key)) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Some((ListType::Map, schema)) => {
            let mut known = std::collections::HashMap::new();
            for item in a.iter() {
                let item = item?;
                known.insert(list_key(&item, schema), item);
            }
            for item in b.iter() {
                let item = item?;
                match known.get(&list_key(&item, schema)) {
                    Some(own) if own.equals(&item)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => {
            // where a schema types the list, an error is the answer; else it is as if the items were equal
            let typed = list_type(a).is_some();
            for (a, b) in a.iter().zip(b.iter()) {
                match a?.equals(&b?) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) if typed => return Err(error),
                    Err(_) => {}
                }
            }
            Ok(true)
        }
    }
}

fn list_type<'a>(list: &List<'a>) -> Option<(ListType, &'a Schema)> {
    match list {
        List::Json { schema: Some(schema), .. } | List::Merged { schema, .. } => {
            Some((schema.list_type.clone(), schema))
        }
        _ => None,
    }
}

/// The values of an item's key fields.
fn list_key(item: &Value<'_>, schema: &Schema) -> Vec<Option<super::Key>> {
    let field = |name: &str| match item {
        Value::Map(Map::Json { entries, .. }) => {
            let escaped = crate::escape::escape(name);
            entries.get(escaped.as_deref().unwrap_or(name)).and_then(|v| Value::from_dynamic(v).key())
        }
        Value::Map(map) => map.find(&Value::text(name)).ok().flatten().and_then(|v| v.key()),
        _ => None,
    };
    schema.list_keys.iter().map(|name| field(name)).collect()
}

impl<'a> List<'a> {
    /// `+`: sets become their union, keyed lists are merged by their keys, others stand one after the other.
    pub(crate) fn plus(&self, other: &List<'a>) -> Result<List<'a>, EvalError> {
        let (kind, schema) = match list_type(self) {
            Some((kind @ (ListType::Set | ListType::Map), schema)) => (kind, schema),
            // what shares its parts may be longer than anything that could be looked at
            _ if self.len().saturating_add(other.len()) > MAX_ITEMS => return Err(EvalError::CostExceeded),
            _ => return Ok(self.clone().concat(other.clone())),
        };
        let mut items: Vec<Value<'a>> = self.iter().collect::<Result<_, _>>()?;
        let key = |item: &Value<'a>| match kind {
            ListType::Set => vec![item.key()],
            _ => list_key(item, schema),
        };
        let mut known: std::collections::HashMap<_, usize> =
            items.iter().enumerate().map(|(n, item)| (key(item), n)).collect();
        for item in other.iter() {
            let item = item?;
            match known.get(&key(&item)) {
                Some(at) if kind == ListType::Map => items[*at] = item,
                Some(_) => {}
                None => {
                    if kind == ListType::Set {
                        known.insert(key(&item), items.len());
                    }
                    items.push(item);
                }
            }
        }
        Ok(List::Merged { items: items.into(), schema })
    }
}

fn maps<'a>(a: &Map<'a>, b: &Map<'a>) -> Answer {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (Map::Json { entries: a, schema: Some(schema) }, Map::Json { entries: b, .. }) = (a, b) {
        // what the schema does not describe is compared as it stands
        for (name, value) in *a {
            if schema.value_schema(name).is_none()
                && let Some(other) = b.get(name)
                && !same_json(value, other)
            {
                return Ok(false);
            }
        }
    }
    let typed = matches!(a, Map::Json { schema: Some(_), .. });
    for key in a.keys() {
        match (a.find(&key)?, b.find(&key)?) {
            (Some(a), Some(b)) => match a.equals(&b) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if typed => return Err(error),
                Err(_) => {}
            },
            (None, None) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// As upstream's semantic equality has it: nothing and emptiness are the same.
fn same_json(a: &Json, b: &Json) -> bool {
    a == b
}
