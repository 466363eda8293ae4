//! Writing YAML in the style of `go-yaml` v2: blocks, two blanks of indentation, lists not indented below their key, text
//! folded at 80 columns.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::resolve::{Plain, resolve};
use crate::codec::json::go_float;

const INDENT: usize = 2;
const WIDTH: usize = 80;
/// Longer keys are written behind a question mark.
const SIMPLE_KEY: usize = 128;

/// Writes a document, keys sorted with numbers in them by value, a newline at the end.
pub fn encode(value: &Value, out: &mut String) {
    let mut writer = Writer { out, column: 0, fresh: true };
    writer.node(value, 0, false);
    writer.end_line();
}

struct Writer<'a> {
    out: &'a mut String,
    /// In characters.
    column: usize,
    /// Nothing but indentation and indicators (`- `) stands on this line.
    fresh: bool,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn end_line(&mut self) {
        if self.column > 0 {
            self.out.push('\n');
            self.column = 0;
        }
        self.fresh = true;
    }

    /// Goes to a column, on a new line unless this one is fresh and not yet there.
    fn indent(&mut self, to: usize) {
        if !self.fresh || self.column > to {
            self.end_line();
        }
        let missing = to.saturating_sub(self.column);
        self.out.extend(std::iter::repeat_n(' ', missing));
        self.column += missing;
        self.fresh = true;
    }

    /// A value behind `key:` or `- ` or on its own; blocks are indented to `indent`.
    fn node(&mut self, value: &Value, indent: usize, spaced: bool) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in sorted(map) {
                    self.indent(indent);
                    self.entry(key, value, indent);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    self.indent(indent);
                    self.put("-");
                    match item {
                        Value::Object(map) if !map.is_empty() => {}
                        Value::Array(items) if !items.is_empty() => {}
                        _ => self.put(" "),
                    }
                    self.node(item, indent + INDENT, true);
                }
            }
            scalar => {
                let indent = if spaced { indent } else { indent + INDENT };
                self.scalar(scalar, indent);
            }
        }
    }

    fn entry(&mut self, key: &str, value: &Value, indent: usize) {
        let simple = !key.contains('\n') && key.len() <= SIMPLE_KEY;
        if simple {
            self.key(key);
            self.fresh = false;
            self.put(":");
        } else {
            self.put("? ");
            self.text(key, indent + INDENT);
            self.fresh = false;
            self.indent(indent);
            self.put(":");
            self.fresh = true;
        }
        match value {
            Value::Object(map) if !map.is_empty() => self.node(value, indent + INDENT, false),
            // behind `:` on a line of its own, a list is a block of its own
            Value::Array(items) if !items.is_empty() => {
                self.node(value, if simple { indent } else { indent + INDENT }, false);
            }
            scalar => {
                self.put(" ");
                self.scalar(scalar, indent + INDENT);
            }
        }
    }

    fn key(&mut self, key: &str) {
        let form = Form::of(key);
        match is_text(key) {
            true if form.plain => self.put(key),
            true if form.single => self.single(key, None),
            _ => self.double(key, None),
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.put("null"),
            Value::Bool(flag) => self.put(if *flag { "true" } else { "false" }),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => self.put(&format_float(float)),
                None => self.put(&number.to_string()),
            },
            Value::String(text) => self.text(text, indent),
            Value::Array(_) => self.put("[]"),
            Value::Object(_) => self.put("{}"),
        }
        self.fresh = false;
    }

    fn text(&mut self, text: &str, indent: usize) {
        let form = Form::of(text);
        if text.contains('\n') {
            if form.block { self.literal(text, indent) } else { self.double(text, Some(indent)) }
        } else if !is_text(text) {
            self.double(text, Some(indent));
        } else if form.plain {
            self.folded(text, indent, |at| at > 0 && at + 1 < text.len(), false);
        } else if form.single {
            self.single(text, Some(indent));
        } else {
            self.double(text, Some(indent));
        }
    }

    /// Plain or single-quoted text; breaks at blanks beyond the width, `may` says where.
    fn folded(&mut self, text: &str, indent: usize, may: impl Fn(usize) -> bool, quoted: bool) {
        let mut after_blank = false;
        let bytes = text.as_bytes();
        let mut start = 0;
        for (at, c) in text.char_indices() {
            let next_blank = bytes.get(at + 1) == Some(&b' ');
            if c == ' ' && !after_blank && self.column > WIDTH && may(at) && !next_blank {
                self.out.push_str(&text[start..at]);
                start = at + 1;
                self.fresh = false;
                self.end_line();
                self.indent(indent);
            } else if c == '\'' && quoted {
                self.out.push_str(&text[start..at]);
                self.out.push_str("''");
                start = at + 1;
                self.column += 2;
            } else {
                self.column += 1;
            }
            after_blank = c == ' ';
        }
        self.out.push_str(&text[start..]);
    }

    fn single(&mut self, text: &str, indent: Option<usize>) {
        self.put("'");
        let last = text.len();
        self.folded(text, indent.unwrap_or(0), |at| indent.is_some() && at > 0 && at + 1 < last, true);
        self.put("'");
    }

    fn double(&mut self, text: &str, indent: Option<usize>) {
        self.put("\"");
        let mut after_blank = false;
        for (at, c) in text.char_indices() {
            let inside = at > 0 && at + c.len_utf8() < text.len();
            if let (' ', false, true, true, Some(indent)) =
                (c, after_blank, self.column > WIDTH, inside, indent)
            {
                self.fresh = false;
                self.end_line();
                self.indent(indent);
                if text.as_bytes().get(at + 1) == Some(&b' ') {
                    self.put("\\");
                }
                after_blank = true;
                continue;
            }
            after_blank = c == ' ';
            match escape(c) {
                Some(escaped) => self.put(&escaped),
                None => {
                    self.out.push(c);
                    self.column += 1;
                }
            }
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put(&INDENT.to_string());
        }
        if !text.ends_with('\n') {
            self.put("-");
        } else if text == "\n" || text.ends_with("\n\n") {
            self.put("+");
        }
        self.fresh = false;
        self.end_line();
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if line.is_empty() {
                self.out.push('\n');
                self.column = 0;
            } else {
                self.indent(indent);
                self.put(line);
                self.fresh = false;
                self.end_line();
            }
        }
        // a text that ends without a newline leaves its line open
        if !text.ends_with('\n') && self.out.ends_with('\n') {
            self.out.pop();
            self.column = 1;
            self.fresh = false;
        }
    }
}

/// Which styles a text allows.
struct Form {
    plain: bool,
    single: bool,
    block: bool,
}

impl Form {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { plain: true, single: true, block: false };
        }
        let is_break = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let blank_after =
            |rest: &str| rest.chars().next().is_none_or(|c| matches!(c, ' ' | '\t') || is_break(c));
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut lines, mut break_space, mut space_break) = (false, false, false, false);
        let (mut after_blank, mut after_space, mut after_break) = (true, false, false);
        for (at, c) in text.char_indices() {
            let rest = &text[at + c.len_utf8()..];
            let first = at == 0;
            indicators |= match c {
                '#' => first || after_blank,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    first
                }
                '?' => first && blank_after(rest),
                ':' => blank_after(rest),
                '-' => first && blank_after(rest),
                _ => false,
            };
            special |= !is_printable(c) || (is_break(c) && c != '\n');
            if c == ' ' {
                break_space |= after_break;
            } else if is_break(c) {
                lines = true;
                space_break |= after_space;
            }
            after_space = c == ' ';
            after_break = is_break(c);
            after_blank = matches!(c, ' ' | '\t') || is_break(c);
        }
        let edges = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let broken = space_break || special;
        Self {
            plain: !indicators && !edges && !lines && !break_space && !broken,
            single: !break_space && !broken,
            block: !text.ends_with(' ') && !broken,
        }
    }
}

/// Would the plain text be read as a text?
fn is_text(text: &str) -> bool {
    matches!(resolve(text), Plain::Text) && !is_base_60(text)
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: a number for other readers.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = text.split(':');
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let first = parts.next().is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()) && digits(p));
    let mut count = 0;
    let rest = parts.all(|p| {
        count += 1;
        let good = matches!(p.len(), 1 | 2) && p.bytes().all(|b| b.is_ascii_digit());
        good && (p.len() == 1 || p.as_bytes()[0] < b'6')
    });
    first && rest && count > 0 && digits(fraction)
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn escape(c: char) -> Option<String> {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if is_printable(c) => return None,
        c => {
            let code = u32::from(c);
            return Some(match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    Some(format!("\\{short}"))
}

/// Go's `%g` with the shortest digits: an exponent below 1e-4 and from 1e21 on.
fn format_float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && (1e-6..1e-4).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once("e-") {
            Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
            None => text,
        };
    }
    let text = go_float(float);
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_by(|(a, _), (b, _)| natural(a, b));
    entries
}

/// Letters after other characters; runs of digits by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for at in 0..a.len().min(b.len()) {
        if a[at] == b[at] {
            continue;
        }
        return match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
            (true, true) => a[at].cmp(&b[at]),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => digits(&a, &b, at),
        };
    }
    a.len().cmp(&b.len())
}

fn digits(a: &[char], b: &[char], at: usize) -> Ordering {
    // behind a number that has begun, a nought counts
    let begun = (a[at] == '0' || b[at] == '0')
        && a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |text: &[char]| {
        let run: Vec<u64> = text[at..].iter().map_while(|c| c.to_digit(10).map(u64::from)).collect();
        let value = run.iter().fold(u64::from(begun), |n, d| n.wrapping_mul(10).wrapping_add(*d));
        (value, run.len())
    };
    let (left, right) = (number(a), number(b));
    left.0.cmp(&right.0).then(left.1.cmp(&right.1)).then(a[at].cmp(&b[at]))
}
