//! What a schema does to a value: zero values, the form on the wire, pruning, defaults.

use serde_json::{Map, Value};

use super::node::{Field, Schema, Shape, Struct};

/// What stands on the wire for a field that is not set.
#[derive(Clone, Debug, PartialEq)]
pub enum Zero {
    Absent,
    Null,
    Value(Value),
}

/// What upstream writes for a field that is not set: nothing, null (a list without `omitempty`), or a zero value
/// (`status: {}`).
pub fn zero(field: &Field) -> Zero {
    if field.omit_zero {
        return Zero::Absent;
    }
    let shape = field.schema.shape();
    let always =
        matches!(shape, Shape::Struct(_) | Shape::Time | Shape::MicroTime | Shape::Raw | Shape::Json);
    let always = always || matches!(shape, Shape::Quantity | Shape::IntOrString | Shape::Duration);
    if field.omit_empty && (field.pointer || !always) {
        return Zero::Absent;
    }
    if field.pointer { Zero::Null } else { zero_of(&field.schema) }
}

/// The zero value of a type, as it stands on the wire.
pub(crate) fn zero_of(schema: &Schema) -> Zero {
    Zero::Value(match schema.shape() {
        Shape::Bool => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString | Shape::Float => 0.into(),
        Shape::String => "".into(),
        Shape::Quantity => "0".into(),
        Shape::Duration => "0s".into(),
        Shape::Struct(s) => {
            let mut map = Map::new();
            fill(s, &mut map);
            Value::Object(map)
        }
        _ => return Zero::Null,
    })
}

/// Adds what stands on the wire for fields that are not set.
pub(crate) fn fill(s: &Struct, map: &mut Map<String, Value>) {
    for at in always(s) {
        let field = &s.fields[usize::from(*at)];
        if map.get(&*field.name).is_some_and(|v| !v.is_null()) {
            continue;
        }
        let value = match zero(field) {
            Zero::Value(value) => value,
            Zero::Null | Zero::Absent => Value::Null,
        };
        map.insert(field.name.to_string(), value);
    }
}

fn always(s: &Struct) -> &[u16] {
    s.always.get_or_init(|| {
        let found = s.fields.iter().enumerate().filter(|(_, f)| s.id.is_some() && zero(f) != Zero::Absent);
        found.filter_map(|(at, _)| u16::try_from(at).ok()).collect()
    })
}

/// Would upstream leave this value of a field with `omitempty` out?
pub(crate) fn is_empty(field: &Field, value: &Value) -> bool {
    if !field.omit_empty || (field.pointer && !matches!(field.schema.shape(), Shape::List(_) | Shape::Map(_)))
    {
        return false;
    }
    match (field.schema.shape(), value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => map.is_empty(),
        (Shape::Bool, Value::Bool(false)) => true,
        (Shape::String | Shape::Bytes, Value::String(s)) => s.is_empty(),
        (Shape::Int32 | Shape::Int64, Value::Number(n)) => n.as_i64() == Some(0),
        (Shape::Float, Value::Number(n)) => n.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Brings an object of built-in types into the form that upstream would write after storing it: zero values with
/// `omitempty` vanish, fields without it appear, empty lists and maps without it are null (decoding leaves these: who
/// manages a field depends on them, so call this after managed fields are tracked). Values keep their text. Idempotent. The parts of custom resources that are not built-in types stay as they are.
pub fn normalize(schema: &Schema, value: &mut Value) {
    walk(schema, value, false);
}

/// The same for an object whose managed fields are yet to be tracked: given lists and maps that are empty stay so.
pub fn normalize_unstored(schema: &Schema, value: &mut Value) {
    walk(schema, value, true);
}

fn walk(schema: &Schema, value: &mut Value, keep: bool) {
    match (schema.shape(), value) {
        (Shape::Struct(s), Value::Object(map)) => normalize_struct(s, map, keep),
        (Shape::List(list), Value::Array(items)) => {
            items.iter_mut().for_each(|v| normalize_item(&list.item, v, keep))
        }
        (Shape::Map(of), Value::Object(map)) => {
            map.values_mut().for_each(|v| normalize_item(&of.value, v, keep))
        }
        (Shape::Either(inner, _), Value::Array(items)) => items.iter_mut().for_each(|v| walk(inner, v, keep)),
        (Shape::Either(inner, _), value) => walk(inner, value, keep),
        _ => {}
    }
}

fn normalize_item(schema: &Schema, value: &mut Value, keep: bool) {
    match schema.shape() {
        Shape::Struct(s) if value.is_null() && s.id.is_some() => {
            if let Zero::Value(zero) = zero_of(schema) {
                *value = zero;
            }
        }
        _ => walk(schema, value, keep),
    }
}

fn normalize_struct(s: &Struct, map: &mut Map<String, Value>, keep: bool) {
    let built_in = s.id.is_some();
    map.retain(|name, value| {
        let Some(field) = s.field(name) else { return true };
        walk(&field.schema, value, keep);
        if !built_in {
            return true;
        }
        if is_empty(field, value) || (value.is_null() && zero(field) == Zero::Absent) {
            return false;
        }
        if !keep && becomes_null(field, value) {
            *value = Value::Null;
        }
        true
    });
    fill(s, map);
}

/// An empty list or map does not survive protobuf. Lists and tables are never stored: their `items` and `rows` stay.
fn becomes_null(field: &Field, value: &Value) -> bool {
    match (field.schema.shape(), value) {
        (Shape::List(_), Value::Array(items)) => {
            items.is_empty() && !matches!(&*field.name, "items" | "rows")
        }
        (Shape::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// Takes out what the schema does not know. `x-kubernetes-preserve-unknown-fields` keeps unknown fields but known ones
/// below are pruned still. Returns the paths taken out (`spec.foo`, `spec.items[0].bar`), in order.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut gone = Vec::new();
    prune_at(schema, value, &mut String::new(), &mut gone);
    gone
}

fn prune_at(schema: &Schema, value: &mut Value, path: &mut String, gone: &mut Vec<String>) {
    let len = path.len();
    match (schema.shape(), value) {
        (Shape::Struct(s), Value::Object(map)) => {
            map.retain(|name, value| {
                if len > 0 {
                    path.push('.');
                }
                path.push_str(name);
                let known = s.field(name);
                match known {
                    Some(field) => prune_at(&field.schema, value, path, gone),
                    None if !s.preserve_unknown => gone.push(path.clone()),
                    None => {}
                }
                path.truncate(len);
                known.is_some() || s.preserve_unknown
            });
        }
        (Shape::Map(of), Value::Object(map)) => {
            for (name, value) in map {
                if len > 0 {
                    path.push('.');
                }
                path.push_str(name);
                prune_at(&of.value, value, path, gone);
                path.truncate(len);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            for (at, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{at}]"));
                prune_at(&list.item, item, path, gone);
                path.truncate(len);
            }
        }
        _ => {}
    }
}

/// Fills in the defaults of a custom resource's schema: absent fields, and nulls where null is not allowed. A null that
/// is not allowed and has no default is taken out (`k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting`).
pub fn apply_defaults(schema: &Schema, value: &mut Value) {
    match (schema.shape(), value) {
        (Shape::Struct(s), Value::Object(map)) if s.id.is_none() => {
            for field in &s.fields {
                let absent = match map.get(&*field.name) {
                    None => true,
                    Some(value) => value.is_null() && !field.schema.nullable,
                };
                match &field.schema.default {
                    Some(default) if absent => drop(map.insert(field.name.to_string(), (**default).clone())),
                    _ if absent && matches!(field.schema.shape(), Shape::Any) => {}
                    _ if absent => drop(map.remove(&*field.name)),
                    _ => {}
                }
                if let Some(value) = map.get_mut(&*field.name) {
                    apply_defaults(&field.schema, value);
                }
            }
        }
        (Shape::Map(of), Value::Object(map)) => {
            map.retain(|_, value| {
                if value.is_null() && !of.value.nullable && !matches!(of.value.shape(), Shape::Any) {
                    match &of.value.default {
                        Some(default) => *value = (**default).clone(),
                        None => return false,
                    }
                }
                apply_defaults(&of.value, value);
                true
            });
        }
        (Shape::List(list), Value::Array(items)) => {
            for item in items {
                if let (Value::Null, false, Some(default)) = (&*item, list.item.nullable, &list.item.default)
                {
                    *item = (**default).clone();
                }
                apply_defaults(&list.item, item);
            }
        }
        _ => {}
    }
}
