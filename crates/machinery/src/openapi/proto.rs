//! The protobuf form of the documents, which client-go reads: gnostic's messages, by a table of their fields.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

static TABLE: &str = include_str!("proto.txt");

/// Encodes an OpenAPI v2 document.
pub fn v2(document: &Value) -> Vec<u8> {
    message("2.Document", document)
}

/// Encodes an OpenAPI v3 document.
pub fn v3(document: &Value) -> Vec<u8> {
    message("3.Document", document)
}

struct Field {
    name: &'static str,
    /// What the field must be, for a choice.
    value: Option<&'static str>,
    number: u64,
    kind: &'static str,
    list: bool,
}

enum Shape {
    Object(Vec<Field>),
    Choice(Vec<Field>),
    Each(Field),
    ByKind(Vec<Field>),
}

fn shapes() -> &'static HashMap<&'static str, Shape> {
    static SHAPES: OnceLock<HashMap<&'static str, Shape>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.filter_map(|line| line.split_once(' ')).map(|(name, rest)| (name, shape(rest))).collect()
    })
}

fn shape(rest: &'static str) -> Shape {
    let fields = |text: &'static str| text.split_whitespace().filter_map(field).collect();
    match rest.split_once(' ') {
        Some(("?", rest)) => Shape::Choice(fields(rest)),
        Some(("~", rest)) => Shape::ByKind(fields(rest)),
        Some(("=", rest)) => {
            let (number, kind) = rest.split_once(':').unwrap_or(("1", rest));
            let number = number.parse().unwrap_or(1);
            Shape::Each(Field { name: "", value: None, number, kind, list: true })
        }
        _ => Shape::Object(fields(rest)),
    }
}

fn field(text: &'static str) -> Option<Field> {
    let mut parts = text.split(':');
    let (name, number, kind) = (parts.next()?, parts.next()?.parse().ok()?, parts.next().unwrap_or(""));
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    Some(Field { name, value, number, kind: kind.trim_end_matches('+'), list: kind.ends_with('+') })
}

fn message(name: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match shapes().get(name) {
        Some(Shape::Object(fields)) => object(fields, value, &mut out),
        Some(Shape::Choice(options)) => {
            let fits = |option: &&Field| match (option.name, option.value) {
                ("", _) => true,
                (name, None) => value.get(name).is_some(),
                (name, Some(wanted)) => value.get(name).and_then(Value::as_str) == Some(wanted),
            };
            if let Some(option) = options.iter().find(fits) {
                put(option.number, option.kind, value, true, &mut out);
            }
        }
        Some(Shape::Each(field)) => match value {
            Value::Array(items) => {
                items.iter().for_each(|item| put(field.number, field.kind, item, true, &mut out));
            }
            one => put(field.number, field.kind, one, true, &mut out),
        },
        Some(Shape::ByKind(options)) => {
            let kind = match value {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                _ => "object",
            };
            if let Some(option) = options.iter().find(|option| option.name == kind) {
                put(option.number, option.kind, value, true, &mut out);
            }
        }
        None => {}
    }
    out
}

fn object(fields: &[Field], value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    for field in fields {
        match field.name {
            "x" | "*" => {
                let extension = field.name == "x";
                let known = |key: &str| fields.iter().any(|f| f.name == key);
                let mut entries: Vec<_> = map
                    .iter()
                    .filter(|(key, _)| match fields.iter().any(|f| f.name == "x") {
                        true => key.starts_with("x-") == extension && !known(key),
                        false => !known(key),
                    })
                    .collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    put(1, "s", &Value::from(key.as_str()), false, &mut entry);
                    put(2, if extension { "a" } else { field.kind }, value, true, &mut entry);
                    bytes(field.number, &entry, out);
                }
            }
            name => match map.get(name) {
                Some(Value::Array(items)) if field.list => {
                    items.iter().for_each(|item| put(field.number, field.kind, item, true, out));
                }
                Some(value) => put(field.number, field.kind, value, false, out),
                None => {}
            },
        }
    }
}

/// One field. Values that are protobuf's zero are left out unless `always`.
fn put(number: u64, kind: &str, value: &Value, always: bool, out: &mut Vec<u8>) {
    match kind {
        "s" => {
            let text = value.as_str().unwrap_or("");
            if always || !text.is_empty() {
                bytes(number, text.as_bytes(), out);
            }
        }
        "b" => {
            let on = value == &Value::Bool(true);
            if always || on {
                varint(number << 3, out);
                varint(u64::from(on), out);
            }
        }
        "i" => {
            let number_given = value.as_i64().unwrap_or(0);
            if always || number_given != 0 {
                varint(number << 3, out);
                varint(number_given as u64, out);
            }
        }
        "d" => {
            let given = value.as_f64().unwrap_or(0.0);
            if always || given != 0.0 {
                varint(number << 3 | 1, out);
                out.extend(given.to_le_bytes());
            }
        }
        "a" => {
            let mut yaml = String::new();
            crate::codec::yaml::encode(value, &mut yaml);
            let mut any = Vec::new();
            bytes(2, yaml.as_bytes(), &mut any);
            bytes(number, &any, out);
        }
        name => bytes(number, &message(name, value), out),
    }
}

fn bytes(number: u64, content: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
