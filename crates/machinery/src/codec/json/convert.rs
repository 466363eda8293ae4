//! Reading a value by a schema, as upstream turns unstructured content into its Go types. The messages differ from
//! those for bytes.

use serde_json::{Map, Value};

use super::{Decoded, Error, decode, encode_any};
use crate::schema::{self, Other, Schema, Shape, Struct, Zero};

/// Brings a value into the form of a built-in type: what is not in the type is dropped (and with `strict` named,
/// ordered as text), zero values come and go as their types have it.
pub fn convert(schema: &Schema, value: Value, strict: bool) -> Result<Decoded, Error> {
    convert_changed(schema, None, value, strict)
}

/// The same; what is as it was in `old`, which is in that form, is not looked at.
pub fn convert_changed(
    schema: &Schema,
    old: Option<&Value>,
    value: Value,
    strict: bool,
) -> Result<Decoded, Error> {
    let mut converter = Converter { strict, path: String::new(), unknown: Vec::new() };
    let value = converter.value(schema, old, value).map_err(Error::Invalid)?;
    let mut errors = converter.unknown;
    errors.sort_unstable();
    Ok(Decoded { value: value.unwrap_or_else(|| zero(schema)), strict: errors })
}

struct Converter {
    strict: bool,
    /// Where we are, if strict.
    path: String,
    unknown: Vec<String>,
}

impl Converter {
    /// None: the zero value.
    fn value(&mut self, schema: &Schema, old: Option<&Value>, value: Value) -> Result<Option<Value>, String> {
        if old == Some(&value) {
            return Ok(Some(value));
        }
        let shape = schema.shape();
        if value.is_null() && !matches!(shape, Shape::Any) {
            return Ok(None);
        }
        Ok(Some(match (shape, value) {
            (Shape::Any | Shape::Raw | Shape::Json | Shape::Fields, value) => value,
            (Shape::Struct(s), Value::Object(map)) => Value::Object(self.structure(s, old, map)?),
            (Shape::Struct(_), other) => return Err(format!("cannot restore struct from: {}", kind(&other))),
            (Shape::Map(of), Value::Object(map)) => {
                let mut out = Map::new();
                for (key, value) in map {
                    // upstream's paths leave the keys of maps out
                    let value = self.value(&of.value, old.and_then(|old| old.get(&key)), value)?;
                    out.insert(key, value.unwrap_or_else(|| zero(&of.value)));
                }
                Value::Object(out)
            }
            (Shape::Map(_), other) => return Err(format!("cannot restore map from {}", kind(&other))),
            (Shape::List(list), Value::Array(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    let old = old.and_then(|old| old.get(at));
                    let item = self.below(Step::Index(at), |c| c.value(&list.item, old, item))?;
                    out.push(item.unwrap_or_else(|| zero(&list.item)));
                }
                Value::Array(out)
            }
            (Shape::Bytes, Value::String(text)) => match decode::normal_base64(&text) {
                Ok(text) => Value::String(text.into_owned()),
                Err(error) => return Err(format!("error decoding from json: {error}")),
            },
            (Shape::List(_) | Shape::Bytes, other) => {
                return Err(format!("cannot restore slice from {}", kind(&other)));
            }
            (Shape::Bool, value @ Value::Bool(_)) | (Shape::String, value @ Value::String(_)) => value,
            (Shape::Int32 | Shape::Int64, Value::Number(n)) => self::integer(shape, &n)?,
            (Shape::Float, Value::Number(n)) => decode::whole(n),
            (Shape::String, Value::Number(n)) if !n.is_f64() => {
                return Err("cannot convert int64 to string".into());
            }
            (Shape::Either(_, Other::Bool), value @ Value::Bool(_)) => value,
            (Shape::Bool, _) => return Err("unrecognized type: bool".into()),
            (Shape::String, _) => return Err("unrecognized type: string".into()),
            (Shape::Int32, _) => return Err("unrecognized type: int32".into()),
            (Shape::Int64, _) => return Err("unrecognized type: int64".into()),
            (Shape::Float, _) => return Err("unrecognized type: float64".into()),
            (_, value) => return leaf(schema, &value),
        }))
    }

    fn structure(
        &mut self,
        s: &Struct,
        old: Option<&Value>,
        mut map: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        let mut out = Map::new();
        if self.strict {
            for key in map.keys().filter(|key| s.field(key).is_none()) {
                let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
                self.unknown.push(format!("unknown field \"{path}\""));
            }
        }
        for field in &s.fields {
            let Some(value) = map.remove(&*field.name) else { continue };
            let old = old.and_then(|old| old.get(&*field.name));
            let Some(value) = self.below(Step::Name(&field.name), |c| c.value(&field.schema, old, value))?
            else {
                continue;
            };
            if !schema::is_empty(field, &value) || decode::says_something(&field.name, &value) {
                out.insert(field.name.to_string(), value);
            }
        }
        schema::fill(s, &mut out);
        Ok(out)
    }

    fn below<T>(&mut self, step: Step, run: impl FnOnce(&mut Self) -> T) -> T {
        if !self.strict {
            return run(self);
        }
        let len = self.path.len();
        match step {
            Step::Name(name) => {
                if len > 0 {
                    self.path.push('.');
                }
                self.path.push_str(name);
            }
            Step::Index(at) => self.path.push_str(&format!("[{at}]")),
        }
        let out = run(self);
        self.path.truncate(len);
        out
    }
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// Types with a parser of their own read the value's JSON.
pub(super) fn leaf(schema: &Schema, value: &Value) -> Result<Option<Value>, String> {
    let mut bytes = Vec::new();
    encode_any(value, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    decode::leaf(&text, schema).map_err(|e| e.to_string())
}

fn integer(shape: &Shape, number: &serde_json::Number) -> Result<Value, String> {
    let name = if matches!(shape, Shape::Int32) { "int32" } else { "int64" };
    let whole = match (number.as_i64(), number.as_f64()) {
        (Some(n), _) => n,
        (None, Some(f)) if f.fract() == 0.0 => f as i64,
        _ => return Err(format!("cannot convert float64 to {name}")),
    };
    // as Go converts: what does not fit is cut off
    Ok(if matches!(shape, Shape::Int32) { Value::from(whole as i32) } else { whole.into() })
}

fn zero(schema: &Schema) -> Value {
    match schema::zero_of(schema) {
        Zero::Value(value) => value,
        Zero::Null | Zero::Absent => Value::Null,
    }
}

/// A Go kind.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map",
        Value::Array(_) => "slice",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Null => "invalid",
    }
}
