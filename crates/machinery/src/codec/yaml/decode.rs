//! Reading YAML: the parser's events become values, scalars mean what YAML 1.1 says.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

use super::resolve::{Plain, resolve};
use crate::codec::json::encode_any;
use crate::field::go_quote;
use crate::patch::go_print;

const MAX_DEPTH: usize = 512;

/// Why text is no YAML, with upstream's words: `yaml: line 2: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A document as JSON text.
#[derive(Clone, Debug)]
pub struct Json {
    pub text: Vec<u8>,
    /// Keys that were set twice: what upstream reports for strict reading, one message for all.
    pub duplicates: Option<String>,
}

/// Reads the first document; no document is `null`.
pub fn to_json(bytes: &[u8]) -> Result<Json, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let leads = |byte: &u8| matches!(byte, 0xc2..=0xf4);
        Error(match (error.error_len(), bytes.get(error.valid_up_to())) {
            (None, _) => "yaml: incomplete UTF-8 octet sequence".into(),
            (_, Some(byte)) if leads(byte) => "yaml: invalid trailing UTF-8 octet".into(),
            _ => "yaml: invalid leading UTF-8 octet".into(),
        })
    })?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) {
        return Err(Error("yaml: control characters are not allowed".into()));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        text,
        anchors: HashMap::new(),
        duplicates: Vec::new(),
        depth: 0,
        decoded: 0,
        aliased: 0,
    };
    let value = reader.document()?;
    let mut out = Vec::with_capacity(bytes.len());
    encode_any(&value, &mut out);
    let duplicates = (!reader.duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n  {}", reader.duplicates.join("\n  ")));
    Ok(Json { text: out, duplicates })
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    text: &'a str,
    /// Values and their sizes in nodes.
    anchors: HashMap<usize, (Value, usize)>,
    duplicates: Vec<String>,
    depth: usize,
    decoded: usize,
    aliased: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Err(error)) => return Err(self.syntax(&error)),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
            }
        }
    }

    fn document(&mut self) -> Result<Value, Error> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
                event => {
                    let value = self.node(event, span)?;
                    // what follows the first document is checked no further than its end
                    self.next()?;
                    return Ok(value);
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Value, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error(format!("yaml: exceeded max depth of {MAX_DEPTH}")));
        }
        let before = self.decoded;
        self.decoded += 1;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref())?),
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (Event::StreamEnd, _) => {
                            return Err(Error("yaml: did not find expected node content".into()));
                        }
                        (event, span) => items.push(self.node(event, span)?),
                    }
                }
                (anchor, Value::Array(items))
            }
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(id) => {
                let found = self.anchors.get(&id).cloned();
                let Some((value, size)) = found else {
                    let name = span.slice(self.text).unwrap_or("*").trim_start_matches('*');
                    return Err(Error(format!("yaml: anchor '{name}' value contains itself")));
                };
                self.decoded += size;
                self.aliased += size;
                self.check_aliases()?;
                (0, value)
            }
            _ => (0, Value::Null),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.decoded - before));
        }
        self.depth -= 1;
        Ok(value)
    }

    /// Upstream's bound on what aliases may blow a document up to.
    fn check_aliases(&self) -> Result<(), Error> {
        const LOW: f64 = 400_000.0;
        const HIGH: f64 = 4_000_000.0;
        let (aliased, decoded) = (self.aliased as f64, self.decoded as f64);
        let allowed = if decoded <= LOW {
            0.99
        } else if decoded >= HIGH {
            0.10
        } else {
            0.99 - 0.89 * (decoded - LOW) / (HIGH - LOW)
        };
        if self.aliased > 100 && self.decoded > 1000 && aliased / decoded > allowed {
            return Err(Error("yaml: document contains excessive aliasing".into()));
        }
        Ok(())
    }

    fn mapping(&mut self) -> Result<Value, Error> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let merge = match &event {
                Event::MappingEnd => break,
                Event::StreamEnd => return Err(Error("yaml: did not find expected key".into())),
                Event::Scalar(text, ScalarStyle::Plain, _, None) => resolve(text) == Plain::Merge,
                _ => false,
            };
            let key = self.node(event, span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            if merge {
                merges.push(value);
                continue;
            }
            let shown = match &key {
                Value::String(text) => go_quote(text),
                other => other.to_string(),
            };
            let key = key_text(key, &value)?;
            if map.contains_key(&key) {
                self.duplicates.push(format!("line {line}: key {shown} already set in map"));
            }
            map.insert(key, value);
        }
        for merge in merges {
            let maps = match merge {
                Value::Array(items) => items,
                one => vec![one],
            };
            for from in maps {
                let Value::Object(from) = from else {
                    return Err(Error(
                        "yaml: map merge requires map or sequence of maps as the value".into(),
                    ));
                };
                for (key, value) in from {
                    map.entry(key).or_insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }

    /// The parser's error in the words of libyaml.
    fn syntax(&self, error: &ScanError) -> Error {
        let info = error.info();
        let tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
        let line = match self.text.lines().position(tab) {
            Some(at) if info.contains("tab") => at + 1,
            _ => error.marker().line(),
        };
        let last = self.text.trim_end().chars().next_back();
        let open = matches!(last, Some('[' | '{' | ',' | ':') | None);
        let unclosed = info.contains("unclosed bracket") || info.contains("EOF while parsing a flow");
        // errors of libyaml's parser count lines from nought, those of its scanner from one; line nought is not shown
        let (message, by_parser): (Cow<str>, bool) = match info {
            _ if unclosed && open => ("did not find expected node content".into(), true),
            i if unclosed && i.contains('{') => ("did not find expected ',' or '}'".into(), true),
            _ if unclosed => ("did not find expected ',' or ']'".into(), true),
            i if i.contains("tab") => ("found a tab character that violates indentation".into(), false),
            i if i.contains("simple key expected") || i.contains("simple key is no longer") => {
                ("could not find expected ':'".into(), false)
            }
            i if i.contains("unclosed quote") => ("found unexpected end of stream".into(), false),
            i if i.starts_with("unexpected character") => {
                ("found character that cannot start any token".into(), false)
            }
            i if i.contains("unknown anchor") => {
                let rest = self.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
                let name = rest.split('*').nth(1).unwrap_or("");
                let end = name
                    .find(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_'))
                    .unwrap_or(name.len());
                return Error(format!("yaml: unknown anchor '{}' referenced", &name[..end]));
            }
            i => match i.split_once(", ") {
                Some((context, message)) if context.starts_with("while ") => {
                    (message.to_owned().into(), context.starts_with("while parsing"))
                }
                _ => (i.to_owned().into(), false),
            },
        };
        let shown = if by_parser || line == 1 { line.saturating_sub(1) } else { line };
        let place = if shown == 0 { String::new() } else { format!("line {shown}: ") };
        Error(format!("yaml: {place}{message}"))
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Error> {
    let core = tag.and_then(|t| t.suffix_in_namespace("tag:yaml.org,2002:"));
    let core = core.as_deref();
    let plain = match (style, core, tag) {
        (_, Some("binary"), _) => {
            let bytes = STANDARD.decode(text.replace(['\n', ' '], ""));
            let bytes =
                bytes.map_err(|_| Error("yaml: !!binary value contains invalid base64 data".into()))?;
            return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        }
        (_, Some("str"), _) | (_, None, Some(_)) => Plain::Text,
        (ScalarStyle::Plain, None, None) | (_, Some(_), _) => resolve(text),
        (_, None, None) => Plain::Text,
    };
    let found = match plain {
        Plain::Null => "null",
        Plain::Bool(_) => "bool",
        Plain::Int(_) | Plain::Uint(_) => "int",
        Plain::Float(_) => "float",
        Plain::Timestamp => "timestamp",
        Plain::Merge => "merge",
        Plain::Text => "str",
    };
    match core {
        None | Some("str") => {}
        Some(wanted) if wanted == found => {}
        Some("float") if found == "int" => {}
        Some(wanted) => return Err(Error(format!("yaml: cannot decode !!{found} `{text}` as a !!{wanted}"))),
    }
    Ok(match plain {
        Plain::Null => Value::Null,
        Plain::Bool(value) => Value::Bool(value),
        Plain::Int(value) => value.into(),
        Plain::Uint(value) => value.into(),
        Plain::Float(value) => match Number::from_f64(value) {
            Some(number) => Value::Number(number),
            None => {
                let shown = if value.is_nan() {
                    "NaN"
                } else if value > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(Error(format!("json: unsupported value: {shown}")));
            }
        },
        Plain::Merge | Plain::Timestamp | Plain::Text => Value::String(text.to_owned()),
    })
}

/// Keys of JSON are strings.
fn key_text(key: Value, value: &Value) -> Result<String, Error> {
    Ok(match key {
        Value::String(text) => text,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        Value::Number(number) => crate::codec::json::go_float(number.as_f64().unwrap_or_default()),
        other => {
            let (kind, shown) = match &other {
                Value::Null => ("%!s(<nil>)", "<nil>".to_owned()),
                other => ("map[interface {}]interface {}", go_print(other)),
            };
            let value = go_print(value);
            return Err(Error(format!("unsupported map key of type: {kind}, key: {shown}, value: {value}")));
        }
    })
}
