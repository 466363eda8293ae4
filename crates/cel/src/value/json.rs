//! From JSON by its schema, and back.

use std::sync::Arc;

use base64::Engine;
use serde_json::{Map as JsonMap, Value as Json};

use super::{Key, List, Map, Text, Timestamp, Value, time};
use crate::EvalError;
use crate::schema::{Format, Kind, ListType, Schema};

/// Values within a value: more do not fit into a request.
const MAX_VALUES: u32 = 3 << 20;

impl<'a> Value<'a> {
    /// Reads data by its schema.
    ///
    /// # Errors
    /// Data that is not as its schema says.
    pub fn from_json(json: &'a Json, schema: &'a Schema) -> Result<Value<'a>, EvalError> {
        if json.is_null() {
            return if schema.nullable {
                Ok(Value::Null)
            } else {
                Err("invalid data, got null for schema with nullable=false".into())
            };
        }
        if schema.int_or_string {
            return match json {
                Json::String(text) => Ok(Value::String(Text::Borrowed(text))),
                Json::Number(n) if n.is_i64() => Ok(Value::Int(n.as_i64().unwrap_or(0))),
                _ => Err("invalid data, expected XIntOrString value to be either a string or integer".into()),
            };
        }
        match schema.kind {
            Kind::Object => match json {
                Json::Object(entries) => Ok(Value::Map(Map::Json { entries, schema: Some(schema) })),
                _ => Err("invalid data, expected a map for the provided schema with type=object".into()),
            },
            Kind::Array => match json {
                Json::Array(items) => match &schema.list_type {
                    _ if schema.items.is_none() => {
                        Err("invalid array type, expected Items with a non-empty Schema".into())
                    }
                    ListType::Wrong(other) => Err(format!(
                        "invalid x-kubernetes-list-type, expected 'map', 'set' or 'atomic' but got {other}"
                    )
                    .into()),
                    _ => Ok(Value::List(List::Json { items, schema: Some(schema) })),
                },
                _ => Err("invalid data, expected an array for the provided schema with type=array".into()),
            },
            Kind::String => match json {
                Json::String(text) => of_text(text, schema.format),
                other => Err(format!("invalid data, expected string, got {}", go_type(other)).into()),
            },
            Kind::Number => match json.as_f64() {
                Some(number) => Ok(Value::Double(number)),
                None => Err(format!("invalid data, expected float, got {}", go_type(json)).into()),
            },
            Kind::Integer => match json.as_i64() {
                Some(number) => Ok(Value::Int(number)),
                None => Err(format!("invalid data, expected int, got {}", go_type(json)).into()),
            },
            Kind::Boolean => match json {
                Json::Bool(b) => Ok(Value::Bool(*b)),
                other => Err(format!("invalid data, expected bool, got {}", go_type(other)).into()),
            },
            Kind::None | Kind::Other if schema.preserve_unknown => Ok(Value::Unknown(json)),
            Kind::None | Kind::Other => Err("invalid type, expected object, array, number, integer, boolean or string, or no type with x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ".into()),
        }
    }

    /// Reads data of no known schema (`object` in admission policies).
    pub fn from_dynamic(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => Value::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Text::Borrowed(text)),
            Json::Array(items) => Value::List(List::Json { items, schema: None }),
            Json::Object(entries) => Value::Map(Map::Json { entries, schema: None }),
        }
    }

    /// As JSON, as audit annotations, patches and applied objects need it: bytes in base64, timestamps and durations as
    /// text, objects as maps.
    ///
    /// # Errors
    /// A value that has no JSON form, a map whose key is no text, or more values than an object can have.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        self.made_json(&mut { MAX_VALUES })
    }

    /// `left`: how many values it may have yet; parts may be shared, so that it is larger than it looks.
    fn made_json(&self, left: &mut u32) -> Result<Json, EvalError> {
        *left = left.checked_sub(1).ok_or("the value is too large")?;
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Uint(n) => Json::from(*n),
            Value::Double(n) => Json::from(*n),
            Value::String(text) => Json::from(&**text),
            Value::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Timestamp(at) => Json::from(at.to_string()),
            Value::Duration(nanos) => Json::from(time::seconds_text(*nanos)),
            Value::List(List::Json { items, .. }) => Json::Array(items.to_vec()),
            Value::List(list) => {
                Json::Array(list.iter().map(|item| item?.made_json(left)).collect::<Result<_, EvalError>>()?)
            }
            Value::Map(Map::Json { entries, .. }) => Json::Object((*entries).clone()),
            Value::Map(Map::Entries(entries)) => {
                let mut out = JsonMap::new();
                for (key, value) in entries.iter() {
                    match key.key() {
                        Some(Key::String(key)) => out.insert(key.into(), value.made_json(left)?),
                        _ => return Err(format!("map key {} is not a string", key.shown()).into()),
                    };
                }
                Json::Object(out)
            }
            Value::Object(object) => {
                let mut out = JsonMap::new();
                for (name, value) in &object.fields {
                    out.insert(name.to_string(), value.made_json(left)?);
                }
                Json::Object(out)
            }
            Value::Optional(Some(value)) => value.made_json(left)?,
            Value::Unknown(json) => (*json).clone(),
            Value::Quantity(quantity) => Json::from(quantity.to_string()),
            other => return Err(format!("no JSON form of {}", other.type_name()).into()),
        })
    }
}

fn of_text(text: &str, format: Format) -> Result<Value<'_>, EvalError> {
    Ok(match format {
        Format::None => Value::String(Text::Borrowed(text)),
        Format::Duration => match time::parse_any_duration(text) {
            Some(nanos) => Value::Duration(nanos),
            None => {
                return Err(format!("Invalid duration {text}: unable to parse \"{text}\" as duration").into());
            }
        },
        Format::Date => match Timestamp::parse_date(text) {
            Some(at) => Value::Timestamp(at),
            None => return Err(format!("Invalid date formatted string {text}").into()),
        },
        Format::DateTime => match Timestamp::parse_loose(text) {
            Some(at) => Value::Timestamp(at),
            None => return Err(format!("Invalid date-time formatted string {text}").into()),
        },
        Format::Byte => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => Value::Bytes(Arc::from(bytes)),
            Err(_) => return Err(format!("Invalid byte formatted string {text}").into()),
        },
    })
}

/// What Go calls a JSON value.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
