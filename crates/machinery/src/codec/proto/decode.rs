//! Reading messages. Unknown fields are passed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::PREFIX;
use crate::codec::json::{decode_any, whole};
use crate::codec::time::{self, Instant, Precision};
use crate::quantity::Quantity;
use crate::schema::{self, Field, Other, Schema, Shape, Struct, Wire};

/// Messages deeper than this are refused.
const MAX_DEPTH: usize = 200;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("empty data")]
    Empty,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("empty body")]
    NoBody,
    #[error("unexpected EOF")]
    Cut,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongType { wire: u8, field: String },
    #[error("proto: illegal tag 0 (wire type {0})")]
    TagZero(u8),
    #[error("exceeded max depth")]
    TooDeep,
    /// A value that does not parse.
    #[error("{0}")]
    Value(String),
}

/// An opened envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The message of the object.
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

/// Opens the envelope of an object.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let body = match bytes.strip_prefix(&PREFIX) {
        _ if bytes.is_empty() => return Err(Error::Empty),
        None => return Err(Error::NoPrefix),
        Some([]) => return Err(Error::NoBody),
        Some(body) => body,
    };
    let mut out = Envelope::default();
    let mut reader = Reader { data: body };
    while let Some((tag, content)) = reader.next()? {
        let bytes = content.bytes();
        let text = || bytes.and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("");
        match (tag, bytes) {
            (1, Some(bytes)) => {
                let mut meta = Reader { data: bytes };
                while let Some((tag, content)) = meta.next()? {
                    let text = content.bytes().and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("");
                    match tag {
                        1 => out.api_version = text,
                        2 => out.kind = text,
                        _ => {}
                    }
                }
            }
            (2, Some(bytes)) => out.raw = bytes,
            (3, _) => out.content_encoding = text(),
            (4, _) => out.content_type = text(),
            _ => {}
        }
    }
    Ok(out)
}

pub(super) fn message(schema: &Schema, bytes: &[u8]) -> Result<Value, Error> {
    Ok(body(schema, bytes, Way { depth: 0, fields: false })?.unwrap_or(Value::Null))
}

/// The same with the sets of `metadata.managedFields` as strings of the JSON that they are, checked but not read.
pub(super) fn message_with_text(schema: &Schema, bytes: &[u8]) -> Result<Value, Error> {
    Ok(body(schema, bytes, Way { depth: 0, fields: true })?.unwrap_or(Value::Null))
}

/// How a message is read.
#[derive(Clone, Copy)]
struct Way {
    /// Messages around this one.
    depth: usize,
    /// `FieldsV1` stay text.
    fields: bool,
}

impl Way {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// The value of a message; None: null.
fn body(schema: &Schema, bytes: &[u8], way: Way) -> Result<Option<Value>, Error> {
    if way.depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    Ok(Some(match schema.shape() {
        Shape::Struct(s) => {
            let mut map = Map::new();
            structure(s, bytes, &mut map, way)?;
            Value::Object(map)
        }
        Shape::Quantity => {
            let mut text = String::new();
            each(bytes, |tag, content| {
                if let (1, Some(bytes)) = (tag, content.bytes()) {
                    text = String::from_utf8_lossy(bytes).into_owned();
                }
                Ok(())
            })?;
            let quantity = if text.is_empty() { Ok(Quantity::ZERO) } else { text.trim().parse() };
            Value::String(quantity.map_err(|e| Error::Value(e.to_string()))?.to_string())
        }
        Shape::Time => return instant(bytes, Precision::Seconds),
        Shape::MicroTime => return instant(bytes, Precision::Micros),
        Shape::Duration => Value::String(time::print_duration(numbers(bytes)?[0])),
        Shape::IntOrString => {
            let mut text = String::new();
            each(bytes, |tag, content| {
                if let (3, Some(bytes)) = (tag, content.bytes()) {
                    text = String::from_utf8_lossy(bytes).into_owned();
                }
                Ok(())
            })?;
            let [kind, number] = numbers(bytes)?;
            if kind == 1 { Value::String(text) } else { Value::from(number as i32) }
        }
        Shape::Raw | Shape::Json | Shape::Fields => {
            let mut value = None;
            each(bytes, |tag, content| {
                if let (1, Some(bytes)) = (tag, content.bytes()) {
                    value = match schema.shape() {
                        Shape::Fields if way.fields => text(bytes)?,
                        _ => embedded(bytes)?,
                    };
                }
                Ok(())
            })?;
            return Ok(value);
        }
        Shape::Either(inner, other) => return either(inner, *other, bytes, way),
        Shape::List(list) => {
            let mut items = Vec::new();
            each(bytes, |tag, content| {
                if tag == 1 {
                    items.push(one(&list.item, content, "items", way)?);
                }
                Ok(())
            })?;
            Value::Array(items)
        }
        _ => return Ok(None),
    }))
}

fn structure(s: &Struct, bytes: &[u8], map: &mut Map<String, Value>, way: Way) -> Result<(), Error> {
    if way.depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let wire = s.wire();
    let mut reader = Reader { data: bytes };
    while let Some((tag, content)) = reader.next()? {
        let Ok(at) = wire.binary_search_by_key(&tag, |(tag, _)| *tag) else { continue };
        match wire[at].1 {
            Wire::Inline(at) => {
                let inline = &s.inlines[usize::from(at)];
                if let (Some(inner), Some(bytes)) = (inline.schema.as_struct(), content.bytes()) {
                    structure(inner, bytes, map, way.deeper())?;
                }
            }
            Wire::Field(at) => field(&s.fields[usize::from(at)], content, map, way)?,
        }
    }
    schema::fill(s, map);
    Ok(())
}

fn field(field: &Field, content: Content, map: &mut Map<String, Value>, way: Way) -> Result<(), Error> {
    let name = || field.name.to_string();
    match field.schema.shape() {
        Shape::List(list) if !list.wrapped => {
            let item = one(&list.item, content, &field.name, way)?;
            match map.entry(name()).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(items) => items.push(item),
                other => *other = Value::Array(vec![item]),
            }
        }
        Shape::Map(of) => {
            let Some(bytes) = content.bytes() else { return Err(content.wrong(&field.name)) };
            let (mut key, mut value) = (String::new(), None);
            each(bytes, |tag, content| {
                match (tag, content.bytes()) {
                    (1, Some(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
                    (2, _) => value = Some(one(&of.value, content, &field.name, way)?),
                    _ => {}
                }
                Ok(())
            })?;
            let value = value.unwrap_or_else(|| zero(&of.value));
            match map.entry(name()).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(entries) => drop(entries.insert(key, value)),
                other => *other = Value::Object(Map::from_iter([(key, value)])),
            }
        }
        _ => {
            let value = one(&field.schema, content, &field.name, way)?;
            if value.is_null() || schema::is_empty(field, &value) {
                map.remove(&*field.name);
            } else {
                map.insert(name(), value);
            }
        }
    }
    Ok(())
}

/// One value of a field.
fn one(schema: &Schema, content: Content, field: &str, way: Way) -> Result<Value, Error> {
    let wrong = || content.wrong(field);
    Ok(match schema.shape() {
        Shape::String => String::from_utf8_lossy(content.bytes().ok_or_else(wrong)?).into_owned().into(),
        Shape::Bytes => STANDARD.encode(content.bytes().ok_or_else(wrong)?).into(),
        Shape::Bool => Value::Bool(content.number().ok_or_else(wrong)? != 0),
        Shape::Int32 => Value::from(content.number().ok_or_else(wrong)? as i32),
        Shape::Int64 => Value::from(content.number().ok_or_else(wrong)?),
        Shape::Float => match content {
            Content::Fixed64(bits) => {
                serde_json::Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, whole)
            }
            _ => return Err(wrong()),
        },
        _ => {
            let bytes = content.bytes().ok_or_else(wrong)?;
            body(schema, bytes, way.deeper())?.unwrap_or_else(|| zero(schema))
        }
    })
}

fn either(inner: &Schema, other: Other, bytes: &[u8], way: Way) -> Result<Option<Value>, Error> {
    let (mut schema, mut allows, mut items) = (None, false, Vec::new());
    each(bytes, |tag, content| {
        match (other, tag, content) {
            (Other::Bool, 1, Content::Number(n)) => allows = n != 0,
            (Other::Bool, 2, Content::Bytes(bytes))
            | (Other::List | Other::Strings, 1, Content::Bytes(bytes)) => {
                schema = body(inner, bytes, way.deeper())?;
            }
            (Other::List, 2, Content::Bytes(bytes)) => items.extend(body(inner, bytes, way.deeper())?),
            (Other::Strings, 2, Content::Bytes(bytes)) => {
                items.push(Value::String(String::from_utf8_lossy(bytes).into_owned()));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (schema, other) {
        (Some(schema), _) if items.is_empty() => Some(schema),
        (None, Other::Bool) => Some(Value::Bool(allows)),
        (None, _) if items.is_empty() => None,
        _ => Some(Value::Array(items)),
    })
}

/// What stands in a `RawExtension`: JSON, or an object in protobuf, or bytes that we cannot read.
fn embedded(bytes: &[u8]) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.starts_with(&PREFIX) {
        let envelope = open(bytes)?;
        let group_version = crate::GroupVersion::parse(envelope.api_version).map_err(Error::Value)?;
        let known = schema::of_kind(&group_version.kind(envelope.kind));
        return known.map(|schema| super::decode(bytes, schema)).transpose();
    }
    decode_any(bytes).map(Some).map_err(|e| Error::Value(e.to_string()))
}

/// JSON as it is written, in a string.
fn text(bytes: &[u8]) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = |e: &dyn std::fmt::Display| Error::Value(e.to_string());
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(&e))?;
    let json: &RawValue = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    Ok(Some(Value::String(json.get().to_owned())))
}

fn instant(bytes: &[u8], precision: Precision) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let [seconds, nanos] = numbers(bytes)?;
    // the years that can be written
    if !(-62_167_219_200..253_402_300_800).contains(&seconds) {
        return Err(Error::Value("Time.MarshalJSON: year outside of range [0,9999]".into()));
    }
    let nanos = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000).unwrap_or(0);
    let instant = Instant { seconds, nanos };
    if instant == time::ZERO {
        return Ok(None);
    }
    Ok(Some(Value::String(time::print(instant, precision))))
}

/// The numbers in fields 1 and 2.
fn numbers(bytes: &[u8]) -> Result<[i64; 2], Error> {
    let mut out = [0; 2];
    each(bytes, |tag, content| {
        if let (1 | 2, Some(number)) = (tag, content.number()) {
            out[tag as usize - 1] = number;
        }
        Ok(())
    })?;
    Ok(out)
}

fn zero(schema: &Schema) -> Value {
    match schema::zero_of(schema) {
        schema::Zero::Value(value) => value,
        _ => Value::Null,
    }
}

fn each<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(u32, Content<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut reader = Reader { data: bytes };
    while let Some((tag, content)) = reader.next()? {
        visit(tag, content)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Number(i64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Content::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn number(self) -> Option<i64> {
        match self {
            Content::Number(number) => Some(number),
            _ => None,
        }
    }

    fn wrong(self, field: &str) -> Error {
        let wire = match self {
            Content::Number(_) => 0,
            Content::Fixed64(_) => 1,
            Content::Bytes(_) => 2,
            Content::Fixed32 => 5,
        };
        let mut chars = field.chars();
        let upper = chars.next().map(|c| c.to_ascii_uppercase());
        Error::WrongType { wire, field: upper.into_iter().chain(chars).collect() }
    }
}

struct Reader<'a> {
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(u32, Content<'a>)>, Error> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = (key & 7) as u8;
        let tag = u32::try_from(key >> 3).map_err(|_| Error::Overflow)?;
        if tag == 0 {
            return Err(Error::TagZero(wire));
        }
        let content = match wire {
            0 => Content::Number(self.varint()? as i64),
            1 => {
                let bytes = self.take(8)?;
                Content::Fixed64(bytes.try_into().map_or(0, u64::from_le_bytes))
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Error::Overflow)?;
                Content::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            3 | 4 => return Err(Error::WireType(wire)),
            other => return Err(Error::WireType(other)),
        };
        Ok(Some((tag, content)))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (b, rest) = self.data.split_first().ok_or(Error::Cut)?;
            self.data = rest;
            value |= u64::from(b & 0x7f) << shift;
            if *b < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.data.split_at_checked(len).ok_or(Error::Cut)?;
        self.data = rest;
        Ok(taken)
    }
}
