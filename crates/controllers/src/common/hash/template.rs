//! A pod template as the text that upstream hashes.
//!
//! The text shows the value with the types of the Go struct that holds it, every field in the order of its
//! declaration, absent ones too (`%#v` of `github.com/davecgh/go-spew`). `pod-template.shape` holds these facts, a type a
//! line: `TYPE: FIELD TYPE, …` for a struct (`FIELD:KEY` where the JSON key is not the field's name with a small first
//! letter, `FIELD:+` where its fields stand inline), `TYPE: =TYPE` for another name of a scalar or map.
//!
//! Two things that templates do not have are shown as absent: a creation time, and quantities beyond 64 bits.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

struct Field {
    name: &'static str,
    /// None: the fields stand inline.
    key: Option<String>,
    ty: &'static str,
}

enum Shape {
    /// Another type under a name of its own.
    Named(&'static str),
    Struct(Vec<Field>),
}

/// Gives the text to `out`, piece by piece.
pub fn write(template: &Value, out: &mut dyn FnMut(&str)) {
    show("v1.PodTemplateSpec", Some(template), true, out);
}

fn shapes() -> &'static HashMap<&'static str, Shape> {
    static SHAPES: OnceLock<HashMap<&'static str, Shape>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let lines = include_str!("pod-template.shape").lines();
        lines.filter_map(|line| line.split_once(": ")).map(|(name, shape)| (name, parse(shape))).collect()
    })
}

fn parse(shape: &'static str) -> Shape {
    if let Some(kind) = shape.strip_prefix('=') {
        return Shape::Named(kind);
    }
    let fields = shape.split(", ").filter_map(|field| field.split_once(' ')).map(|(name, ty)| {
        match name.split_once(':') {
            Some((name, "+")) => Field { name, key: None, ty },
            Some((name, key)) => Field { name, key: Some(key.to_owned()), ty },
            None => Field { name, key: Some(name[..1].to_ascii_lowercase() + &name[1..]), ty },
        }
    });
    Shape::Struct(fields.collect())
}

fn show(ty: &'static str, value: Option<&Value>, typed: bool, out: &mut dyn FnMut(&str)) {
    let value = value.filter(|value| !value.is_null());
    if let Some(to) = ty.strip_prefix('*') {
        out("(");
        out(ty);
        out(")");
        return match value {
            Some(value) => show(to, Some(value), false, out),
            None => out("<nil>"),
        };
    }
    if typed {
        out("(");
        out(ty);
        out(")");
    }
    if let Some(of) = ty.strip_prefix("[]") {
        return list(of, value, out);
    }
    if let Some((_, of)) = ty.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return map(of, value, out);
    }
    match ty {
        "v1.Time" => out("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}"),
        "resource.Quantity" => quantity(value, out),
        "intstr.IntOrString" => int_or_string(value, out),
        _ => match shapes().get(ty) {
            Some(Shape::Struct(fields)) => {
                out("{");
                for (n, field) in fields.iter().enumerate() {
                    out(if n == 0 { "" } else { " " });
                    out(field.name);
                    out(":");
                    let inner = match &field.key {
                        Some(key) => value.and_then(|value| value.get(key)),
                        None => value,
                    };
                    show(field.ty, inner, true, out);
                }
                out("}");
            }
            Some(Shape::Named(of)) => show(of, value, false, out),
            None => scalar(ty, value, out),
        },
    }
}

fn list(of: &'static str, value: Option<&Value>, out: &mut dyn FnMut(&str)) {
    // On its way through protobuf an empty list becomes an absent one; maps likewise.
    let Some(items) = value.and_then(Value::as_array).filter(|items| !items.is_empty()) else {
        return out("<nil>");
    };
    out("[");
    for (n, item) in items.iter().enumerate() {
        out(if n == 0 { "" } else { " " });
        show(of, Some(item), false, out);
    }
    out("]");
}

fn map(of: &'static str, value: Option<&Value>, out: &mut dyn FnMut(&str)) {
    let Some(entries) = value.and_then(Value::as_object).filter(|map| !map.is_empty()) else {
        return out("<nil>");
    };
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.as_str());
    out("map[");
    for (n, (key, value)) in entries.into_iter().enumerate() {
        out(if n == 0 { "" } else { " " });
        out(key);
        out(":");
        show(of, Some(value), false, out);
    }
    out("]");
}

fn scalar(kind: &str, value: Option<&Value>, out: &mut dyn FnMut(&str)) {
    match (kind, value) {
        (_, Some(Value::String(text))) => out(text),
        (_, Some(scalar)) => out(&scalar.to_string()),
        ("string", None) => {}
        ("bool", None) => out("false"),
        (_, None) => out("0"),
    }
}

fn int_or_string(value: Option<&Value>, out: &mut dyn FnMut(&str)) {
    let (ty, number, text) = match value {
        Some(Value::String(text)) => (1, 0, text.as_str()),
        other => (0, other.and_then(Value::as_i64).unwrap_or(0), ""),
    };
    out(&format!("{{Type:(intstr.Type){ty} IntVal:(int32){number} StrVal:(string){text}}}"));
}

fn quantity(value: Option<&Value>, out: &mut dyn FnMut(&str)) {
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let Held { value, scale, text, format } = hold(&text);
    out(&format!(
        "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} \
         d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){text} Format:(resource.Format){format}}}"
    ));
}

/// What the Go value of a quantity holds.
#[derive(Debug, Default, PartialEq)]
struct Held<'a> {
    value: i64,
    scale: i32,
    /// The text, kept only where it is sure to be canonical.
    text: &'a str,
    format: &'static str,
}

/// `text` is canonical: the server has written it.
fn hold(text: &str) -> Held<'_> {
    if text.is_empty() {
        return Held::default();
    }
    if text == "0" {
        return Held { text, format: "DecimalSI", ..Held::default() };
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let Ok(number) = digits.parse::<i64>() else {
        return Held { text, format: "DecimalSI", ..Held::default() };
    };
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|unit| *unit == suffix);
    if let Some(place) = binary {
        let value = number.checked_mul(1 << (10 * (place + 1))).unwrap_or(i64::MAX);
        return Held { value, scale: 0, text: if number & 7 == 0 { "" } else { text }, format: "BinarySI" };
    }
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"].iter().position(|unit| *unit == suffix);
    let (scale, format) = match decimal {
        Some(place) => (3 * place as i32 - 9, "DecimalSI"),
        None => (suffix[1..].parse().unwrap_or(0), "DecimalExponent"),
    };
    let kept = scale % 3 == 0 && !digits.ends_with("000");
    Held { value: number, scale, text: if kept { text } else { "" }, format }
}
