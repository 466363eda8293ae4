//! `"…".format([…])`, and the check of its literals.

use super::{Res, convert, no_overload};
use crate::env::{Activation, EvalError};
use crate::value::{Value, time};

/// Digits behind the point, unless told.
const PRECISION: usize = 6;
/// Longer fractions are not made.
const MAX_PRECISION: usize = 1000;

/// What a clause asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex { upper: bool },
    Octal,
}

impl Clause {
    /// What it says of a type that it does not take.
    pub(crate) fn refusal(self, ty: &str) -> String {
        let what = match self {
            Clause::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Clause::Decimal => "decimal clause can only be used on integers",
            Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
            Clause::Scientific(_) => "scientific clause can only be used on doubles",
            Clause::Binary => "only integers and bools can be formatted as binary",
            Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
            Clause::Octal => "octal clause can only be used on integers",
        };
        format!("{what}, was given {ty}")
    }
}

/// Walks through a format text: `text` gets what stands between the clauses, `clause` each clause with the number of its
/// argument.
pub(crate) fn walk<E: From<String>>(
    format: &str,
    arguments: usize,
    mut text: impl FnMut(&str),
    mut clause: impl FnMut(usize, Clause) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = format;
    let mut argument = 0;
    while let Some(at) = rest.find('%') {
        text(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text("%");
            rest = after;
            continue;
        }
        if argument >= arguments {
            return Err(format!("index {argument} out of range").into());
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned().into());
        }
        let fail = |why: String| E::from(format!("could not parse formatting clause: {why}"));
        let mut precision = PRECISION;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            if digits == after.len() {
                return Err(fail(
                    "error while parsing precision: could not find end of precision specifier".into(),
                ));
            }
            precision = after[..digits].parse().map_err(|_| {
                let number = machinery::field::go_quote(&after[..digits]);
                let why = if digits == 0 { "invalid syntax" } else { "value out of range" };
                fail(format!("error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {number}: {why}"))
            })?;
            rest = &after[digits..];
        }
        let precision = precision.min(MAX_PRECISION);
        let Some(letter) = rest.chars().next() else { return Err(fail("unexpected end of string".into())) };
        let kind = match letter {
            's' => Clause::Text,
            'd' => Clause::Decimal,
            'f' => Clause::Fixed(precision),
            'e' => Clause::Scientific(precision),
            'b' => Clause::Binary,
            'x' => Clause::Hex { upper: false },
            'X' => Clause::Hex { upper: true },
            'o' => Clause::Octal,
            other => return Err(fail(format!("unrecognized formatting clause \"{other}\""))),
        };
        rest = &rest[letter.len_utf8()..];
        clause(argument, kind)?;
        argument += 1;
    }
    text(rest);
    Ok(())
}

pub(crate) fn format<'a>(args: &[Value<'a>], _: &dyn Activation<'a>) -> Res<'a> {
    let [Value::String(text), Value::List(list)] = args else { return no_overload("format", args) };
    let out = std::cell::RefCell::new(String::new());
    walk::<EvalError>(
        text,
        list.len(),
        |part| out.borrow_mut().push_str(part),
        |n, clause| {
            let value = list.get(n).unwrap_or_else(|| Err("no such overload".into()))?;
            let shown = show(&value, clause).map_err(|why| format!("error during formatting: {why}"))?;
            out.borrow_mut().push_str(&shown);
            Ok(())
        },
    )?;
    Ok(Value::text(out.into_inner()))
}

fn show(value: &Value<'_>, clause: Clause) -> Result<String, String> {
    let refused = || clause.refusal(value.type_name());
    Ok(match (clause, value) {
        (Clause::Text, _) => of_text(value)?,
        (Clause::Decimal, Value::Int(_) | Value::Uint(_)) => convert::text_of(value).unwrap_or_default(),
        (Clause::Fixed(digits), _) => fixed(double(value).ok_or_else(refused)?, digits),
        (Clause::Scientific(digits), _) => scientific(double(value).ok_or_else(refused)?, digits),
        (Clause::Binary, Value::Int(n)) => signed(*n, |n| format!("{n:b}")),
        (Clause::Binary, Value::Uint(n)) => format!("{n:b}"),
        (Clause::Binary, Value::Bool(b)) => u8::from(*b).to_string(),
        (Clause::Octal, Value::Int(n)) => signed(*n, |n| format!("{n:o}")),
        (Clause::Octal, Value::Uint(n)) => format!("{n:o}"),
        (Clause::Hex { upper }, _) => {
            let hex = match value {
                Value::Int(n) => signed(*n, |n| format!("{n:x}")),
                Value::Uint(n) => format!("{n:x}"),
                Value::String(text) => text.bytes().map(|b| format!("{b:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
                _ => return Err(refused()),
            };
            if upper { hex.to_uppercase() } else { hex }
        }
        _ => return Err(refused()),
    })
}

fn signed(n: i64, show: fn(u64) -> String) -> String {
    format!("{}{}", if n < 0 { "-" } else { "" }, show(n.unsigned_abs()))
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(n) => Some(*n),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn no_number(n: f64) -> Option<String> {
    match n {
        n if n.is_nan() => Some("NaN".into()),
        n if n.is_infinite() => Some(if n > 0.0 { "∞".into() } else { "-∞".into() }),
        _ => None,
    }
}

/// As in English: thousands are set apart.
fn fixed(n: f64, digits: usize) -> String {
    if let Some(text) = no_number(n) {
        return text;
    }
    let plain = format!("{:.digits$}", n.abs());
    let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), None), |(w, f)| (w, Some(f)));
    let mut out = String::from(if n.is_sign_negative() { "-" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn scientific(n: f64, digits: usize) -> String {
    if let Some(text) = no_number(n) {
        return text;
    }
    // upstream takes the precision for a width
    let width = digits;
    let plain = format!("{n:.PRECISION$e}");
    let (digits, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let raised = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or('⁰'),
    };
    let sign = if exponent < 0 { "-" } else { "" };
    let exponent: String = format!("{sign}{:02}", exponent.abs()).chars().map(raised).collect();
    format!("{:>width$}", format!("{digits}×10{exponent}"))
}

/// What `%s` shows.
fn of_text(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Null => Ok("null".into()),
        Value::List(_) | Value::Map(_) => nested(value),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Type(_) => convert::text_of(value).ok_or_else(|| {
            "could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string".into()
        }),
        other => Err(Clause::Text.refusal(other.type_name())),
    }
}

/// What stands in lists and maps: as literals.
fn nested(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => machinery::field::go_quote(text),
        Value::Bytes(_) => format!("b{}", machinery::field::go_quote(&of_text(value)?)),
        Value::Timestamp(at) => format!("timestamp(\"{at}\")"),
        Value::Duration(nanos) => format!("duration(\"{}\")", time::seconds_text(*nanos)),
        Value::Double(n) if n.is_nan() => "\"NaN\"".into(),
        Value::Double(n) if n.is_infinite() => {
            if *n > 0.0 {
                "\"+Inf\"".into()
            } else {
                "\"-Inf\"".into()
            }
        }
        Value::Double(n) => format!("{n:.PRECISION$}"),
        Value::List(list) => {
            let mut items = Vec::with_capacity(list.len());
            for item in list.iter() {
                items.push(nested(&item.map_err(|e| e.to_string())?)?);
            }
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.len());
            for key in map.keys() {
                let shown = match &key {
                    Value::String(text) => machinery::field::go_quote(text),
                    Value::Bool(_) | Value::Int(_) | Value::Uint(_) => of_text(&key)?,
                    other => {
                        return Err(format!(
                            "no formatting function for map key of type {}",
                            other.type_name()
                        ));
                    }
                };
                let value = map.find(&key).map_err(|e| e.to_string())?;
                let value = value.ok_or_else(|| format!("could not find key: {shown}"))?;
                entries.push((shown, nested(&value)?));
            }
            entries.sort();
            let entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Type(_) => of_text(value)?,
        other => return Err(format!("no formatting function for {}", other.type_name())),
    })
}
