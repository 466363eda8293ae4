//! Writing JSON straight into a buffer.

use serde_json::{Map, Number, Value};

use crate::schema::{Schema, Shape, Struct};

/// Writes an object of a schema: built-in types in upstream's field order (fields that the type does not have come
/// last), custom resources with sorted keys. No newline at the end.
pub fn encode(schema: &Schema, value: &Value, out: &mut Vec<u8>) {
    match (schema.shape(), value) {
        (Shape::Struct(s), Value::Object(map)) if s.id.is_some() => encode_struct(s, map, out),
        (Shape::Map(of), Value::Object(map)) => {
            encode_map(map, out, |value, out| encode(&of.value, value, out))
        }
        (Shape::List(list), Value::Array(items)) => {
            encode_list(items, out, |v, out| encode(&list.item, v, out))
        }
        (Shape::Either(inner, _), Value::Array(items)) => {
            encode_list(items, out, |v, out| encode(inner, v, out))
        }
        (Shape::Either(inner, _), value @ Value::Object(_)) => encode(inner, value, out),
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

/// Writes a string, escaped as Go's encoder does for HTML.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, b) in bytes.iter().enumerate() {
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

fn encode_struct(s: &Struct, map: &Map<String, Value>, out: &mut Vec<u8>) {
    // places of the fields present, in wire order
    let mut present: [(u16, &str, &Value); 64] = [(0, "", &Value::Null); 64];
    if map.len() > present.len() {
        return encode_map(map, out, encode_any);
    }
    let mut count = 0;
    for (name, value) in map {
        let at = s.position(name).and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX);
        present[count] = (at, name, value);
        count += 1;
    }
    let present = &mut present[..count];
    present.sort_unstable_by_key(|(at, _, _)| *at);
    out.push(b'{');
    for (n, (at, name, value)) in present.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        encode_string(name, out);
        out.push(b':');
        match s.fields.get(usize::from(*at)) {
            Some(field) => encode(&field.schema, value, out),
            None => encode_any(value, out),
        }
    }
    out.push(b'}');
}

fn encode_map(map: &Map<String, Value>, out: &mut Vec<u8>, each: impl Fn(&Value, &mut Vec<u8>)) {
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

fn encode_list(items: &[Value], out: &mut Vec<u8>, each: impl Fn(&Value, &mut Vec<u8>)) {
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
