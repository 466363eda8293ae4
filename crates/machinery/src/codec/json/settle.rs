//! A changed object of a built-in type, brought into the form that decoding its text would give it.

use serde_json::Value;

use super::convert::leaf;
use crate::schema::{self, Schema, Shape, Zero};

/// Makes of `new` what decoding its text strictly would. What is the same in `old`, which is in that form, is not
/// looked at. False: something is wrong with it, and `new` is good for nothing any more; decoding its text says what.
#[must_use]
pub fn settle(schema: &Schema, old: &Value, new: &mut Value) -> bool {
    at(schema, Some(old), new) == Some(Found::Value)
}

#[derive(PartialEq)]
enum Found {
    Value,
    /// The zero value.
    Nothing,
}

/// None: something is wrong.
fn at(schema: &Schema, old: Option<&Value>, new: &mut Value) -> Option<Found> {
    if old == Some(&*new) {
        return Some(Found::Value);
    }
    let shape = schema.shape();
    if new.is_null() && !matches!(shape, Shape::Any) {
        return Some(Found::Nothing);
    }
    match (shape, &mut *new) {
        (Shape::Struct(s), Value::Object(map)) => {
            let mut fine = true;
            map.retain(|name, value| {
                let found = s.field(name).and_then(|field| {
                    let found = at(&field.schema, old.and_then(|old| old.get(name)), value)?;
                    Some(found == Found::Value && !schema::is_empty(field, value))
                });
                fine &= found.is_some();
                found.unwrap_or(false)
            });
            schema::fill(s, map);
            fine.then_some(Found::Value)
        }
        (Shape::Map(of), Value::Object(map)) => {
            let mut all =
                map.iter_mut().map(|(key, value)| item(&of.value, old.and_then(|old| old.get(key)), value));
            all.all(|fine| fine).then_some(Found::Value)
        }
        (Shape::List(list), Value::Array(items)) => {
            let mut all = items
                .iter_mut()
                .enumerate()
                .map(|(at, value)| item(&list.item, old.and_then(|old| old.get(at)), value));
            all.all(|fine| fine).then_some(Found::Value)
        }
        (Shape::Any | Shape::Raw | Shape::Json | Shape::Fields, _)
        | (Shape::Bool, Value::Bool(_))
        | (Shape::String, Value::String(_)) => Some(Found::Value),
        (Shape::Int64, Value::Number(n)) => n.is_i64().then_some(Found::Value),
        (Shape::Int32, Value::Number(n)) => {
            n.as_i64().filter(|n| i32::try_from(*n).is_ok()).map(|_| Found::Value)
        }
        (Shape::Struct(_) | Shape::Map(_) | Shape::List(_), _)
        | (Shape::Bool | Shape::String | Shape::Int32 | Shape::Int64, _) => None,
        _ => match leaf(schema, new).ok()? {
            Some(value) => {
                *new = value;
                Some(Found::Value)
            }
            None => Some(Found::Nothing),
        },
    }
}

fn item(schema: &Schema, old: Option<&Value>, value: &mut Value) -> bool {
    match at(schema, old, value) {
        Some(Found::Value) => true,
        Some(Found::Nothing) => {
            *value = match schema::zero_of(schema) {
                Zero::Value(zero) => zero,
                Zero::Null | Zero::Absent => Value::Null,
            };
            true
        }
        None => false,
    }
}
