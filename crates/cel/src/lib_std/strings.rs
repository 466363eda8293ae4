//! Functions of texts. Positions are in code points.

use super::{Res, no_overload};
use crate::env::Activation;
use crate::value::{List, Text, Value};

type Host<'h, 'a> = &'h dyn Activation<'a>;

fn out_of_range<'a>(index: i64) -> Res<'a> {
    Err(format!("index out of range: {index}").into())
}

fn texts<'a>(all: impl Iterator<Item = impl Into<String>>) -> Res<'a> {
    Ok(Value::list(all.map(|t| Value::text(t.into())).collect()))
}

pub(crate) fn starts_with<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::String(text), Value::String(start)] => Ok(Value::Bool(text.starts_with(&**start))),
        _ => Err("no such overload".into()),
    }
}

pub(crate) fn ends_with<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::String(text), Value::String(end)] => Ok(Value::Bool(text.ends_with(&**end))),
        _ => Err("no such overload".into()),
    }
}

pub(crate) fn contains<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.contains(&**part))),
        _ => Err("no such overload".into()),
    }
}

pub(crate) fn char_at<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text), Value::Int(index)] = args else { return no_overload("charAt", args) };
    let length = text.chars().count() as i64;
    if *index < 0 || *index > length {
        return out_of_range(*index);
    }
    Ok(Value::text(text.chars().nth(*index as usize).map(String::from).unwrap_or_default()))
}

pub(crate) fn index_of<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, part, from) = match args {
        [Value::List(list), item] => return Ok(Value::Int(position(list, item, false))),
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        other => return no_overload("indexOf", other),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return out_of_range(from);
    }
    let text: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let found = text.windows(part.len()).enumerate().skip(from as usize).find(|(_, w)| *w == part);
    Ok(Value::Int(found.map_or(-1, |(n, _)| n as i64)))
}

pub(crate) fn last_index_of<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, part, from) = match args {
        [Value::List(list), item] => return Ok(Value::Int(position(list, item, true))),
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, Some(*from)),
        other => return no_overload("lastIndexOf", other),
    };
    let text: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    if part.is_empty() {
        return Ok(Value::Int(from.unwrap_or(text.len() as i64)));
    }
    let from = match from {
        Some(from) if from < 0 => return out_of_range(from),
        Some(from) if from >= text.len() as i64 => return Ok(Value::Int(-1)),
        Some(from) => from as usize,
        None => text.len(),
    };
    let found = text.windows(part.len()).enumerate().take(from + 1).filter(|(_, w)| *w == part).last();
    Ok(Value::Int(found.map_or(-1, |(n, _)| n as i64)))
}

fn position<'a>(list: &List<'a>, item: &Value<'a>, last: bool) -> i64 {
    let mut found = -1;
    for (n, own) in list.iter().enumerate() {
        if own.is_ok_and(|own| own.equals(item).unwrap_or(false)) {
            found = n as i64;
            if !last {
                break;
            }
        }
    }
    found
}

pub(crate) fn lower_ascii<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("lowerAscii", args) };
    Ok(Value::text(text.to_ascii_lowercase()))
}

pub(crate) fn upper_ascii<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("upperAscii", args) };
    Ok(Value::text(text.to_ascii_uppercase()))
}

pub(crate) fn trim<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("trim", args) };
    Ok(Value::text(text.trim()))
}

/// The longest text that a function may make, in bytes: what it is made of is metered only afterwards.
const MAX_MADE: usize = 64 << 20;

pub(crate) fn replace<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, old, new, limit) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(limit)] => {
            (text, old, new, *limit)
        }
        other => return no_overload("replace", other),
    };
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(&**old).count() };
    let times = usize::try_from(limit).map_or(found, |limit| found.min(limit));
    if text.len().saturating_add(times.saturating_mul(new.len())) > MAX_MADE {
        return Err("the text would be too long".into());
    }
    Ok(Value::text(text.replacen(&**old, new, times)))
}

pub(crate) fn split<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, by, limit) = match args {
        [Value::String(text), Value::String(by)] => (text, by, -1),
        [Value::String(text), Value::String(by), Value::Int(limit)] => (text, by, *limit),
        other => return no_overload("split", other),
    };
    let limit = match limit {
        0 => return Ok(Value::list(Vec::new())),
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if !by.is_empty() {
        return texts(text.splitn(limit, &**by));
    }
    // into code points
    let mut parts: Vec<String> = text.chars().take(limit).map(String::from).collect();
    let used: usize = parts.iter().map(String::len).sum();
    if let (Some(last), true) = (parts.last_mut(), used < text.len()) {
        last.push_str(&text[used..]);
    }
    texts(parts.into_iter())
}

pub(crate) fn substring<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        other => return no_overload("substring", other),
    };
    let length = text.chars().count() as i64;
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(format!("invalid substring range. start: {start}, end: {end}").into());
    }
    let end = end.unwrap_or(length);
    for index in [start, end] {
        if index < 0 || index > length {
            return out_of_range(index);
        }
    }
    Ok(Value::text(text.chars().skip(start as usize).take((end - start) as usize).collect::<String>()))
}

pub(crate) fn join<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (list, by) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(by)] => (list, &**by),
        other => return no_overload("join", other),
    };
    let mut out = String::new();
    for (n, item) in list.iter().enumerate() {
        if n > 0 {
            out.push_str(by);
        }
        match item? {
            Value::String(text) => out.push_str(&text),
            other => return Err(format!("join: invalid input: {}", other.shown()).into()),
        }
        if out.len() > MAX_MADE {
            return Err("the text would be too long".into());
        }
    }
    Ok(Value::String(Text::from(out)))
}

pub(crate) fn quote<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("strings.quote", args) };
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(Value::text(out))
}

pub(crate) fn escape_key<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text)] = args else { return no_overload("jsonpatch.escapeKey", args) };
    Ok(Value::text(text.replace('~', "~0").replace('/', "~1")))
}
