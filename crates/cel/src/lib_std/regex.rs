//! Regular expressions, in Go's (RE2's) syntax.

use std::borrow::Cow;
use std::cell::RefCell;

use regex::{Regex, RegexBuilder};

use super::Res;
use crate::env::{Activation, EvalError};
use crate::value::Value;

type Host<'h, 'a> = &'h dyn Activation<'a>;

/// Bytes of a compiled pattern.
const MAX_SIZE: usize = 10 << 20;
const MAX_REMEMBERED: usize = 32;

thread_local! {
    static LAST: RefCell<Vec<(String, Regex)>> = const { RefCell::new(Vec::new()) };
}

/// # Errors
/// As Go says it: `error parsing regexp: …`.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    let known =
        LAST.with_borrow(|last| last.iter().find(|(p, _)| p == pattern).map(|(_, regex)| regex.clone()));
    if let Some(regex) = known {
        return Ok(regex);
    }
    if let Some(what) = forbidden(pattern) {
        return Err(format!("error parsing regexp: {what}").into());
    }
    let build = RegexBuilder::new(&translate(pattern)).size_limit(MAX_SIZE).build();
    let regex = build.map_err(|error| EvalError::from(explain(pattern, &error)))?;
    LAST.with_borrow_mut(|last| {
        if last.len() == MAX_REMEMBERED {
            last.remove(0);
        }
        last.push((pattern.to_owned(), regex.clone()));
    });
    Ok(regex)
}

/// Go's `\d`, `\s`, `\w` and `\b` are of ASCII, `\z` is its end of text, `\Q…\E` quotes.
fn translate(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains('\\') && !pattern.contains("[[") && !pattern.contains('&') && !pattern.contains('~')
    {
        return Cow::Borrowed(pattern);
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str(if class { "0-9" } else { "[0-9]" }),
                Some('D') => out.push_str("[^0-9]"),
                Some('s') => out.push_str(if class { r"\t\n\x0C\r " } else { r"[\t\n\x0C\r ]" }),
                Some('S') => out.push_str(r"[^\t\n\x0C\r ]"),
                Some('w') => out.push_str(if class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('b') if !class => out.push_str(r"(?-u:\b)"),
                Some('Q') => {
                    let mut quoted = String::new();
                    while let Some(c) = chars.next() {
                        if c == '\\' && chars.peek() == Some(&'E') {
                            chars.next();
                            break;
                        }
                        quoted.push(c);
                    }
                    out.push_str(&regex::escape(&quoted));
                }
                Some('/') => out.push('/'),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str(r"\]");
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            // no sets of sets in Go
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What Go does not take: repetitions of repetitions, and of more than a thousand.
fn forbidden(pattern: &str) -> Option<String> {
    let (mut at, mut class, mut repeated): (usize, bool, Option<usize>) = (0, false, None);
    while let Some(c) = pattern[at..].chars().next() {
        let start = at;
        at += c.len_utf8();
        if c == '\\' {
            at += pattern[at..].chars().next().map_or(0, char::len_utf8);
            repeated = None;
            continue;
        }
        if class {
            class = c != ']';
            repeated = None;
            continue;
        }
        if c == '[' {
            class = true;
            if pattern[at..].starts_with('^') {
                at += 1;
            }
            if pattern[at..].starts_with(']') {
                at += 1;
            }
            continue;
        }
        let counted = if c == '{' { counted(&pattern[start..]) } else { None };
        if let Some((length, counts)) = counted {
            at = start + length;
            if counts.iter().any(|n| *n > 1000) || counts.windows(2).any(|pair| pair[0] > pair[1]) {
                return Some(format!("invalid repeat count: `{}`", &pattern[start..at]));
            }
        } else if !matches!(c, '*' | '+' | '?') {
            repeated = None;
            continue;
        }
        if let Some(first) = repeated {
            return Some(format!("invalid nested repetition operator: `{}`", &pattern[first..at]));
        }
        repeated = Some(start);
        // lazy
        if pattern[at..].starts_with('?') {
            at += 1;
        }
    }
    None
}

/// The length of `{n,m}`, and its numbers.
fn counted(text: &str) -> Option<(usize, Vec<u64>)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let mut counts = vec![number(low)?];
    if !high.is_empty() {
        counts.push(number(high)?);
    }
    Some((end + 1, counts))
}

/// The error in Go's words, as far as they can be told.
fn explain(pattern: &str, error: &regex::Error) -> String {
    let said = error.to_string();
    let has = |text: &str| said.contains(text);
    let what = if has("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if has("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if has("unclosed character class") {
        let from = pattern.find('[').unwrap_or(0);
        format!("missing closing ]: `{}`", &pattern[from..])
    } else if has("repetition operator missing expression") {
        let at = pattern.find(['*', '+', '?']).unwrap_or(0);
        format!("missing argument to repetition operator: `{}`", &pattern[at..=at])
    } else if has("look-around") || has("look-ahead") {
        let from = pattern.find("(?").unwrap_or(0);
        let end = (from + 3).min(pattern.len());
        format!("invalid or unsupported Perl syntax: `{}`", pattern.get(from..end).unwrap_or(pattern))
    } else if has("invalid character class range") {
        format!("invalid character class range: `{pattern}`")
    } else if has("unrecognized escape") || has("incomplete escape") {
        let from = pattern.find('\\').unwrap_or(0);
        let rest: String = pattern[from..].chars().take(2).collect();
        match rest.chars().count() {
            2 => format!("invalid escape sequence: `{rest}`"),
            _ => "trailing backslash at end of expression: ``".to_owned(),
        }
    } else {
        format!("invalid syntax: `{pattern}`")
    };
    format!("error parsing regexp: {what}")
}

pub(crate) fn matches<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    match args {
        [Value::String(text), Value::String(pattern)] => Ok(Value::Bool(compile(pattern)?.is_match(text))),
        // upstream says so where the pattern is a constant, as it mostly is
        _ => Err("no such overload".into()),
    }
}

fn illegal(error: EvalError) -> EvalError {
    format!("Illegal regex: {error}").into()
}

pub(crate) fn find<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let [Value::String(text), Value::String(pattern)] = args else {
        return Err("no such overload".into());
    };
    let regex = compile(pattern).map_err(illegal)?;
    Ok(Value::text(regex.find(text).map_or("", |found| found.as_str())))
}

pub(crate) fn find_all<'a>(args: &[Value<'a>], _: Host<'_, 'a>) -> Res<'a> {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return Err("no such overload".into()),
    };
    let regex = compile(pattern).map_err(illegal)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut previous = usize::MAX;
    for part in regex.find_iter(text) {
        if found.len() == limit {
            break;
        }
        // Go leaves out what is empty right behind a match
        if !(part.is_empty() && part.start() == previous) {
            found.push(Value::text(part.as_str()));
        }
        previous = part.end();
    }
    Ok(Value::list(found))
}
