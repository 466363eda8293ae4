//! Writing messages. A message is written from its end to its beginning, so that the length of what is nested is known
//! when it is needed; the bytes are turned round once at the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::PREFIX;
use crate::codec::json::encode_any;
use crate::codec::time::{self, Precision};
use crate::schema::{Field, Other, Schema, Shape, Struct, Wire};

/// The message of an object, without an envelope.
pub fn encode_message(schema: &Schema, value: &Value) -> Vec<u8> {
    let mut out = Backwards { bytes: Vec::with_capacity(1024) };
    out.body(schema, Some(value));
    out.bytes.reverse();
    out.bytes
}

/// Appends an envelope around a message.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8], out: &mut Vec<u8>) {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 8);
    push_field(1, api_version.as_bytes(), &mut meta);
    push_field(2, kind.as_bytes(), &mut meta);
    out.reserve(raw.len() + meta.len() + 24);
    out.extend_from_slice(&PREFIX);
    push_field(1, &meta, out);
    push_field(2, raw, out);
    push_field(3, b"", out);
    push_field(4, b"", out);
}

/// Appends a field that has a length: a string, bytes or a message.
pub fn push_field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    push_varint(u64::from(tag) << 3 | 2, out);
    push_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The message of a watch event (`WatchEvent`); `object` in its envelope. In a stream, four bytes of length (big endian)
/// stand before each.
pub fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    push_field(1, object, &mut raw);
    let mut out = Vec::with_capacity(raw.len() + kind.len() + 16);
    push_field(1, kind.as_bytes(), &mut out);
    push_field(2, &raw, &mut out);
    out
}

struct Backwards {
    bytes: Vec<u8>,
}

impl Backwards {
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes.iter().rev());
    }

    fn varint(&mut self, value: u64) {
        let start = self.bytes.len();
        push_varint(value, &mut self.bytes);
        self.bytes[start..].reverse();
    }

    /// The key of a field, to be written behind (before) its value.
    fn key(&mut self, tag: u32, wire: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire));
    }

    /// Length and key, around what was written since `start`.
    fn close(&mut self, start: usize, tag: u32) {
        self.varint((self.bytes.len() - start) as u64);
        self.key(tag, 2);
    }

    fn number(&mut self, tag: u32, value: i64) {
        self.varint(value as u64);
        self.key(tag, 0);
    }

    fn text(&mut self, tag: u32, text: &str) {
        let start = self.bytes.len();
        self.raw(text.as_bytes());
        self.close(start, tag);
    }

    fn structure(&mut self, s: &Struct, map: Option<&Map<String, Value>>) {
        for (tag, wire) in s.wire().iter().rev() {
            match wire {
                Wire::Inline(at) => {
                    let inline = &s.inlines[usize::from(*at)];
                    let Some(inner) = inline.schema.as_struct() else { continue };
                    let used = || map.is_some_and(|m| inner.fields.iter().any(|f| m.contains_key(&*f.name)));
                    if inline.pointer && !used() {
                        continue;
                    }
                    let start = self.bytes.len();
                    self.structure(inner, map);
                    self.close(start, *tag);
                }
                Wire::Field(at) => {
                    let field = &s.fields[usize::from(*at)];
                    let value = map.and_then(|m| m.get(&*field.name)).filter(|v| !v.is_null());
                    self.field(field, *tag, value);
                }
            }
        }
    }

    fn field(&mut self, field: &Field, tag: u32, value: Option<&Value>) {
        match (field.schema.shape(), value) {
            (Shape::List(list), Some(value)) if list.wrapped => self.nested(&field.schema, tag, Some(value)),
            (Shape::List(list), Some(Value::Array(items))) => {
                for item in items.iter().rev() {
                    self.value(&list.item, tag, Some(item));
                }
            }
            (Shape::Map(of), Some(Value::Object(map))) => {
                for (key, value) in map.iter().rev() {
                    let start = self.bytes.len();
                    self.value(&of.value, 2, Some(value));
                    self.text(1, key);
                    self.close(start, tag);
                }
            }
            (Shape::List(_) | Shape::Map(_) | Shape::Bytes, None) => {}
            (_, None) if field.pointer => {}
            (_, value) => self.value(&field.schema, tag, value),
        }
    }

    /// One value; None is the zero value.
    fn value(&mut self, schema: &Schema, tag: u32, value: Option<&Value>) {
        match schema.shape() {
            Shape::String => self.text(tag, value.and_then(Value::as_str).unwrap_or("")),
            Shape::Bool => self.number(tag, i64::from(value.and_then(Value::as_bool).unwrap_or(false))),
            Shape::Int32 | Shape::Int64 => self.number(tag, value.and_then(Value::as_i64).unwrap_or(0)),
            Shape::Float => {
                self.raw(&value.and_then(Value::as_f64).unwrap_or(0.0).to_le_bytes());
                self.key(tag, 1);
            }
            Shape::Bytes => {
                let text = value.and_then(Value::as_str).unwrap_or("");
                let start = self.bytes.len();
                self.raw(&STANDARD.decode(text).unwrap_or_default());
                self.close(start, tag);
            }
            _ => self.nested(schema, tag, value),
        }
    }

    fn nested(&mut self, schema: &Schema, tag: u32, value: Option<&Value>) {
        let start = self.bytes.len();
        self.body(schema, value);
        self.close(start, tag);
    }

    /// The inside of a message.
    fn body(&mut self, schema: &Schema, value: Option<&Value>) {
        let text = || value.and_then(Value::as_str).unwrap_or("");
        match schema.shape() {
            Shape::Struct(s) => self.structure(s, value.and_then(Value::as_object)),
            Shape::Quantity => self.text(1, if text().is_empty() { "0" } else { text() }),
            Shape::Time => self.time(text(), Precision::Seconds),
            Shape::MicroTime => self.time(text(), Precision::Micros),
            Shape::Duration => self.number(1, time::parse_duration(text()).unwrap_or(0)),
            Shape::IntOrString => {
                let is_text = value.is_some_and(Value::is_string);
                self.text(3, text());
                self.number(2, value.and_then(Value::as_i64).unwrap_or(0));
                self.number(1, i64::from(is_text));
            }
            Shape::Raw | Shape::Json | Shape::Fields => {
                if let Some(value) = value.filter(|v| !v.is_null()) {
                    let mut json = Vec::new();
                    encode_any(value, &mut json);
                    let start = self.bytes.len();
                    self.raw(&json);
                    self.close(start, 1);
                }
            }
            Shape::Either(inner, other) => self.either(inner, *other, value),
            Shape::List(list) => {
                for item in value.and_then(Value::as_array).into_iter().flatten().rev() {
                    self.value(&list.item, 1, Some(item));
                }
            }
            _ => {}
        }
    }

    fn either(&mut self, inner: &Schema, other: Other, value: Option<&Value>) {
        let object = value.filter(|v| v.is_object());
        match other {
            Other::Bool => {
                if object.is_some() {
                    self.nested(inner, 2, object);
                }
                // a schema means yes
                let allows = object.is_some() || value == Some(&Value::Bool(true));
                self.number(1, i64::from(allows));
            }
            Other::List | Other::Strings => {
                for item in value.and_then(Value::as_array).into_iter().flatten().rev() {
                    match other {
                        Other::List => self.nested(inner, 2, Some(item)),
                        _ => self.text(2, item.as_str().unwrap_or("")),
                    }
                }
                if object.is_some() {
                    self.nested(inner, 1, object);
                }
            }
        }
    }

    fn time(&mut self, text: &str, precision: Precision) {
        let Ok(instant) = time::parse(text, precision) else { return };
        if instant == time::ZERO {
            return;
        }
        let nanos = if precision == Precision::Micros { i64::from(instant.nanos) } else { 0 };
        self.number(2, nanos);
        self.number(1, instant.seconds);
    }
}
