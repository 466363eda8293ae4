//! Writing JSON straight into a buffer.

use serde_json::{Map, Number, Value};

use crate::schema::{Schema, Shape, Struct};

/// Writes an object of a schema: built-in types in upstream's field order (fields that the type does not have come
/// last), custom resources with sorted keys. No newline at the end.
pub fn encode(schema: &Schema, value: &Value, out: &mut Vec<u8>) {
    typed(schema, value, &mut Vec::with_capacity(64), out);
}

/// The fields that an object has: place in wire order, name, value.
type Present<'a> = Vec<(u16, &'a str, &'a Value)>;

/// `scratch` is a stack: everyone leaves it as found.
fn typed<'a>(schema: &Schema, value: &'a Value, scratch: &mut Present<'a>, out: &mut Vec<u8>) {
    match (schema.shape(), value) {
        (_, Value::String(text)) => encode_string(text, out),
        (Shape::Struct(s), Value::Object(map)) if s.id.is_some() => encode_struct(s, map, scratch, out),
        (Shape::Map(of), Value::Object(map)) => {
            encode_map(map, out, |v, out| typed(&of.value, v, scratch, out))
        }
        (Shape::List(list), Value::Array(items)) => {
            encode_list(items, out, |v, out| typed(&list.item, v, scratch, out));
        }
        (Shape::Either(inner, _), Value::Array(items)) => {
            encode_list(items, out, |v, out| typed(inner, v, scratch, out));
        }
        (Shape::Either(inner, _), value @ Value::Object(_)) => typed(inner, value, scratch, out),
        _ => encode_any(value, out),
    }
}

/// Writes any value, keys sorted.
pub fn encode_any(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => encode_number(number, out),
        Value::String(text) => encode_string(text, out),
        Value::Array(items) => encode_list(items, out, encode_any),
        Value::Object(map) => encode_map(map, out, encode_any),
    }
}

/// Bytes that stand for themselves wherever they are.
static PLAIN: [bool; 256] = {
    let mut table = [true; 256];
    let mut b = 0;
    while b < 256 {
        let special = matches!(b as u8, 0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xa8 | 0xa9);
        table[b] = !special;
        b += 1;
    }
    table
};

/// Writes a string, escaped as Go's encoder does for HTML.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, b) in bytes.iter().enumerate() {
        if PLAIN[usize::from(*b)] {
            continue;
        }
        let short = match b {
            b'"' | b'\\' => *b,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            0..0x20 | b'<' | b'>' | b'&' => b'u',
            // U+2028 and U+2029 are e2 80 a8 and e2 80 a9
            0xa8 | 0xa9 if bytes[..at].ends_with(&[0xe2, 0x80]) => {
                out.extend_from_slice(&bytes[start..at - 2]);
                out.extend_from_slice(if *b == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                start = at + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..at]);
        out.push(b'\\');
        out.push(short);
        if short == b'u' {
            out.extend_from_slice(b"00");
            out.push(HEX[usize::from(b >> 4)]);
            out.push(HEX[usize::from(b & 15)]);
        }
        start = at + 1;
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

fn encode_struct<'a>(s: &Struct, map: &'a Map<String, Value>, scratch: &mut Present<'a>, out: &mut Vec<u8>) {
    let start = scratch.len();
    scratch.extend(map.iter().map(|(name, value)| {
        let at = s.position(name).and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX);
        (at, name.as_str(), value)
    }));
    let end = scratch.len();
    scratch[start..].sort_unstable_by_key(|(at, _, _)| *at);
    out.push(b'{');
    for n in start..end {
        if n > start {
            out.push(b',');
        }
        let (at, name, value) = scratch[n];
        match s.fields.get(usize::from(at)) {
            Some(field) => {
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                typed(&field.schema, value, scratch, out);
            }
            None => {
                encode_string(name, out);
                out.push(b':');
                encode_any(value, out);
            }
        }
    }
    scratch.truncate(start);
    out.push(b'}');
}

fn encode_map<'a>(
    map: &'a Map<String, Value>,
    out: &mut Vec<u8>,
    mut each: impl FnMut(&'a Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (n, (name, value)) in map.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        encode_string(name, out);
        out.push(b':');
        each(value, out);
    }
    out.push(b'}');
}

fn encode_list<'a>(items: &'a [Value], out: &mut Vec<u8>, mut each: impl FnMut(&'a Value, &mut Vec<u8>)) {
    out.push(b'[');
    for (n, value) in items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        each(value, out);
    }
    out.push(b']');
}

fn encode_number(number: &Number, out: &mut Vec<u8>) {
    use std::io::Write;
    // writing into a Vec cannot fail
    let _ = match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => out.write_all(go_float(float).as_bytes()),
        None => write!(out, "{number}"),
    };
}

/// A float as Go's JSON encoder prints it: shortest digits, an exponent only below 1e-6 and from 1e21 on.
pub(crate) fn go_float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent:0>2}"),
            Some((digits, exponent)) => format!("{digits}e-{}", &exponent[1..]),
            None => text,
        };
    }
    format!("{float}")
}
