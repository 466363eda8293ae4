//! Writing messages. A message is written from its end to its beginning, so that the length of what is nested is known
//! when it is needed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::PREFIX;
use crate::codec::json::encode_any;
use crate::codec::time::{self, Precision};
use crate::schema::{Field, Other, Schema, Shape, Struct, Wire};

/// The message of an object, without an envelope.
pub fn encode_message(schema: &Schema, value: &Value) -> Vec<u8> {
    let mut out = Backwards::new();
    out.body(schema, Some(value));
    out.finish()
}

/// Appends an envelope around a message.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8], out: &mut Vec<u8>) {
    out.reserve(raw.len() + api_version.len() + kind.len() + 32);
    envelope_head(api_version, kind, raw.len(), out);
    out.extend_from_slice(raw);
    out.extend_from_slice(ENVELOPE_END);
}

/// Appends what stands in an envelope before a message of this many bytes; [`ENVELOPE_END`] stands behind it.
pub fn envelope_head(api_version: &str, kind: &str, len: usize, out: &mut Vec<u8>) {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 8);
    push_field(1, api_version.as_bytes(), &mut meta);
    push_field(2, kind.as_bytes(), &mut meta);
    out.extend_from_slice(&PREFIX);
    push_field(1, &meta, out);
    push_head(2, len, out);
}

/// What stands behind the message in an envelope: no content encoding, no content type.
pub const ENVELOPE_END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// Appends a field that has a length: a string, bytes or a message.
pub fn push_field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    push_head(tag, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends what stands before the bytes of such a field: at most ten bytes.
pub fn push_head(tag: u32, len: usize, out: &mut Vec<u8>) {
    push_varint(u64::from(tag) << 3 | 2, out);
    push_varint(len as u64, out);
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

/// A buffer that is filled from its end.
struct Backwards {
    bytes: Vec<u8>,
    /// What is written begins here.
    start: usize,
}

impl Backwards {
    fn new() -> Self {
        const FIRST: usize = 8 * 1024;
        Self { bytes: vec![0; FIRST], start: FIRST }
    }

    fn finish(self) -> Vec<u8> {
        self.bytes[self.start..].to_vec()
    }

    /// Bytes written so far.
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() > self.start {
            let len = self.len();
            let mut larger = vec![0; (self.bytes.len() * 2).max(len + bytes.len() * 2)];
            let start = larger.len() - len;
            larger[start..].copy_from_slice(&self.bytes[self.start..]);
            (self.bytes, self.start) = (larger, start);
        }
        let end = self.start;
        self.start -= bytes.len();
        self.bytes[self.start..end].copy_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        let mut digits = [0; 10];
        let mut count = 0;
        loop {
            let more = value >= 0x80;
            digits[count] = value as u8 & 0x7f | u8::from(more) << 7;
            count += 1;
            value >>= 7;
            if !more {
                break;
            }
        }
        self.raw(&digits[..count]);
    }

    /// The key of a field, to be written behind (before) its value.
    fn key(&mut self, tag: u32, wire: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire));
    }

    /// Length and key, around what was written since there were so many bytes.
    fn close(&mut self, before: usize, tag: u32) {
        self.varint((self.len() - before) as u64);
        self.key(tag, 2);
    }

    fn number(&mut self, tag: u32, value: i64) {
        self.varint(value as u64);
        self.key(tag, 0);
    }

    fn text(&mut self, tag: u32, text: &str) {
        let before = self.len();
        self.raw(text.as_bytes());
        self.close(before, tag);
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
                    let before = self.len();
                    self.structure(inner, map);
                    self.close(before, *tag);
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
                    let before = self.len();
                    self.value(&of.value, 2, Some(value));
                    self.text(1, key);
                    self.close(before, tag);
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
                let before = self.len();
                self.raw(&STANDARD.decode(text).unwrap_or_default());
                self.close(before, tag);
            }
            _ => self.nested(schema, tag, value),
        }
    }

    fn nested(&mut self, schema: &Schema, tag: u32, value: Option<&Value>) {
        let before = self.len();
        self.body(schema, value);
        self.close(before, tag);
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
                    let before = self.len();
                    self.raw(&json);
                    self.close(before, 1);
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
