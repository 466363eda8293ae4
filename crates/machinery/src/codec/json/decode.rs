//! Reading well-formed text into values, by a schema or without one. Follows Go's decoder: the first type error is
//! kept and reading goes on; a value with a parser of its own (a time, a quantity) that fails ends it.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Number, Value};

use super::{Decoded, Error, TypeMeta};
use crate::codec::time::{self, Precision};
use crate::field::go_quote;
use crate::schema::{self, Other, Schema, Shape, Struct, Zero};

/// Nesting that we follow; a limit of the stack, well beyond any object.
const MAX_DEPTH: usize = 512;
/// As many strict errors as upstream keeps.
const MAX_STRICT: usize = 100;

pub(super) fn typed(text: &str, schema: &Schema, strict: bool) -> Result<Decoded, Error> {
    let mut reader = Reader::new(text, strict);
    let go = match schema.as_struct().and_then(|s| s.id) {
        Some(id) => Go { text: id.short_name(), package: id.package(), elements: 0 },
        None => Go::ANY,
    };
    let value = reader.value(schema, go)?;
    if let Some(error) = reader.saved {
        return Err(Error::Invalid(error));
    }
    let value = value.unwrap_or_else(|| zero_value(schema));
    Ok(Decoded { value, strict: reader.strict_errors })
}

/// One value that stands on its own.
pub(super) fn leaf(text: &str, schema: &Schema) -> Result<Option<Value>, Error> {
    let mut reader = Reader::new(text, false);
    let value = reader.value(schema, Go::ANY)?;
    reader.saved.map_or(Ok(value), |error| Err(Error::Invalid(error)))
}

pub(super) fn untyped(text: &str, strict: bool) -> Result<Decoded, Error> {
    let mut reader = Reader::new(text, strict);
    let value = reader.any()?;
    match reader.saved {
        Some(error) => Err(Error::Invalid(error)),
        None => Ok(Decoded { value, strict: reader.strict_errors }),
    }
}

/// Lists that mean something else when they are given empty than when they are not given at all: to forget all
/// managers; no policies rather than the default ones.
pub(super) fn says_something(name: &str, value: &Value) -> bool {
    matches!(name, "managedFields" | "policies") && value.is_array()
}

/// Go's standard decoder reads this part: keys in any case, the last one wins.
pub(super) fn type_meta(text: &str) -> Result<TypeMeta, Error> {
    let mut reader = Reader::new(text, false);
    let mut out = TypeMeta::default();
    let mut first_error = None;
    reader.blanks();
    match reader.peek() {
        b'{' => {}
        b'n' => return Ok(out),
        c => {
            let into = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
            let what = value_word(c);
            return Err(Error::Invalid(format!(
                "json: cannot unmarshal {what} into Go value of type {into}"
            )));
        }
    }
    reader.at += 1;
    while let Some(key) = reader.next_key() {
        let target = match &*key {
            k if k.eq_ignore_ascii_case("kind") => ("kind", &mut out.kind),
            k if k.eq_ignore_ascii_case("apiVersion") => ("apiVersion", &mut out.api_version),
            _ => {
                reader.skip();
                continue;
            }
        };
        match reader.peek() {
            b'"' => *target.1 = reader.string().into_owned(),
            b'n' => reader.skip(),
            c => {
                let (name, what) = (target.0, value_word(c));
                let message =
                    format!("json: cannot unmarshal {what} into Go struct field .{name} of type string");
                first_error.get_or_insert(Error::Invalid(message));
                reader.skip();
            }
        }
    }
    first_error.map_or(Ok(out), Err)
}

/// A Go type: of an element, `elements` levels into a written one.
#[derive(Clone, Copy)]
struct Go {
    text: &'static str,
    package: &'static str,
    elements: u8,
}

impl Go {
    const ANY: Go = Go { text: "interface{}", package: "", elements: 0 };

    fn element(self) -> Go {
        Go { elements: self.elements.saturating_add(1), ..self }
    }

    fn name(self) -> String {
        let (mut text, mut package) = (self.text, self.package);
        for _ in 0..self.elements {
            (text, package) = schema::go_element(text, package);
        }
        match text {
            "interface{}" => text.into(),
            _ => schema::go_type(text, package),
        }
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    /// A key as it stands in the text, quotes included.
    Key(usize, usize),
    Index(usize),
}

struct Reader<'a> {
    text: &'a str,
    data: &'a [u8],
    at: usize,
    depth: usize,
    strict: bool,
    strict_errors: Vec<String>,
    /// Where we are, for strict errors.
    path: Vec<Step<'a>>,
    /// The first type error.
    saved: Option<String>,
    /// The struct that the innermost field belongs to, and the fields on the way, for type errors.
    in_struct: &'static str,
    fields: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, strict: bool) -> Self {
        Self {
            text,
            data: text.as_bytes(),
            at: 0,
            depth: 0,
            strict,
            strict_errors: Vec::new(),
            path: Vec::new(),
            saved: None,
            in_struct: "",
            fields: Vec::new(),
        }
    }

    /// None: null, or a value of the wrong type (the error is saved): the zero value.
    fn value(&mut self, schema: &'a Schema, go: Go) -> Result<Option<Value>, Error> {
        self.blanks();
        let c = self.peek();
        let shape = schema.shape();
        if c == b'n' && !matches!(shape, Shape::Any) {
            self.skip();
            return Ok(None);
        }
        Ok(match (shape, c) {
            (Shape::Any, _) => Some(self.any()?),
            (Shape::Raw | Shape::Json | Shape::Fields, _) => Some(self.opaque()?),
            (Shape::Struct(s), b'{') => Some(Value::Object(self.structure(s, Map::new())?)),
            (Shape::Map(of), b'{') => Some(self.map(&of.value, go)?),
            (Shape::List(list), b'[') => Some(self.list(&list.item, go)?),
            (Shape::Bool, b't' | b'f') => {
                self.skip();
                Some(Value::Bool(c == b't'))
            }
            (Shape::String, b'"') => Some(Value::String(self.string().into_owned())),
            (Shape::Bytes, b'"') => self.base64(),
            (Shape::Int32 | Shape::Int64, b'-' | b'0'..=b'9') => self.integer(shape, go),
            (Shape::Float, b'-' | b'0'..=b'9') => self.float(go),
            (Shape::Quantity, _) => Some(self.quantity()?),
            (Shape::Time, _) => self.time(Precision::Seconds)?,
            (Shape::MicroTime, _) => self.time(Precision::Micros)?,
            (Shape::Duration, _) => Some(self.duration()?),
            (Shape::IntOrString, _) => Some(self.int_or_string()?),
            (Shape::Either(inner, other), _) => self.either(inner, *other)?,
            _ => {
                self.mismatch(value_word(c), &go.name());
                self.skip();
                None
            }
        })
    }

    fn structure(&mut self, s: &'a Struct, mut map: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        self.descend()?;
        self.at += 1;
        let outer = (self.in_struct, self.fields.len(), self.path.len());
        let mut seen: u128 = 0;
        while let Some(key) = self.next_key() {
            let Some(at) = s.position(&key) else {
                if self.strict {
                    self.strict_error("unknown", &key);
                }
                self.skip();
                continue;
            };
            let field = &s.fields[at];
            let bit = 1u128 << (at % 128);
            if self.strict && seen & bit != 0 {
                self.strict_error("duplicate", &field.name);
            }
            let again = seen & bit != 0;
            seen |= bit;
            self.in_struct = s.go_name();
            if !field.embedded.is_empty() {
                self.fields.extend_from_slice(&field.embedded);
            }
            self.fields.push(&field.name);
            if self.strict {
                self.path.push(Step::Name(&field.name));
            }
            let go = Go { text: field.go, package: field.package, elements: 0 };
            // an object that is given twice is merged, as in Go
            let value = match (again, field.schema.shape(), self.peek(), map.get_mut(&*field.name)) {
                (true, Shape::Struct(inner), b'{', Some(Value::Object(before))) => {
                    let before = std::mem::take(before);
                    Some(Value::Object(self.structure(inner, before)?))
                }
                _ => self.value(&field.schema, go)?,
            };
            self.in_struct = outer.0;
            self.fields.truncate(outer.1);
            self.path.truncate(outer.2);
            match value {
                Some(value) if schema::is_empty(field, &value) && !says_something(&field.name, &value) => {
                    drop(map.remove(&*field.name));
                }
                Some(value) => drop(map.insert(key.into(), value)),
                None if again => drop(map.remove(&*field.name)),
                None => {}
            }
        }
        schema::fill(s, &mut map);
        self.depth -= 1;
        Ok(map)
    }

    fn map(&mut self, of: &'a Schema, go: Go) -> Result<Value, Error> {
        self.descend()?;
        self.at += 1;
        let mut map = Map::new();
        let outer = self.path.len();
        loop {
            let start = self.key_start();
            let Some(key) = self.next_key() else { break };
            if self.strict {
                if map.contains_key(&*key) {
                    self.strict_error("duplicate", &key);
                }
                self.path.push(Step::Key(start, self.at));
            }
            let value = self.value(of, go.element())?;
            self.path.truncate(outer);
            // upstream shows no bytes as empty here, and null elsewhere
            let none = || if matches!(of.shape(), Shape::Bytes) { "".into() } else { zero_value(of) };
            map.insert(key.into(), value.unwrap_or_else(none));
        }
        self.depth -= 1;
        Ok(Value::Object(map))
    }

    fn list(&mut self, item: &'a Schema, go: Go) -> Result<Value, Error> {
        self.descend()?;
        self.at += 1;
        let mut items = Vec::new();
        while self.next_item() {
            if self.strict {
                self.path.push(Step::Index(items.len()));
            }
            let value = self.value(item, go.element())?;
            if self.strict {
                self.path.pop();
            }
            items.push(value.unwrap_or_else(|| zero_value(item)));
        }
        self.depth -= 1;
        Ok(Value::Array(items))
    }

    /// A value without a schema.
    fn any(&mut self) -> Result<Value, Error> {
        self.blanks();
        let value = match self.peek() {
            b'{' => {
                self.descend()?;
                self.at += 1;
                let mut map = Map::new();
                let outer = self.path.len();
                loop {
                    let start = self.key_start();
                    let Some(key) = self.next_key() else { break };
                    if self.strict {
                        if map.contains_key(&*key) {
                            self.strict_error("duplicate", &key);
                        }
                        self.path.push(Step::Key(start, self.at));
                    }
                    let value = self.any()?;
                    self.path.truncate(outer);
                    map.insert(key.into(), value);
                }
                self.depth -= 1;
                Value::Object(map)
            }
            b'[' => {
                self.descend()?;
                self.at += 1;
                let mut items = Vec::new();
                while self.next_item() {
                    if self.strict {
                        self.path.push(Step::Index(items.len()));
                    }
                    items.push(self.any()?);
                    if self.strict {
                        self.path.pop();
                    }
                }
                self.depth -= 1;
                Value::Array(items)
            }
            b'"' => Value::String(self.string().into_owned()),
            b'-' | b'0'..=b'9' => {
                let text = self.token();
                match number(text) {
                    Some(number) => Value::Number(number),
                    None => {
                        let what = format!("number {text}");
                        self.mismatch(&what, "float64");
                        Value::Null
                    }
                }
            }
            c => {
                self.skip();
                match c {
                    b't' => Value::Bool(true),
                    b'f' => Value::Bool(false),
                    _ => Value::Null,
                }
            }
        };
        Ok(value)
    }

    /// A value whose insides are not looked at.
    fn opaque(&mut self) -> Result<Value, Error> {
        let strict = std::mem::replace(&mut self.strict, false);
        let value = self.any();
        self.strict = strict;
        value
    }

    fn integer(&mut self, shape: &Shape, go: Go) -> Option<Value> {
        let text = self.token();
        match (shape, text.parse::<i64>()) {
            (Shape::Int64, Ok(n)) => Some(n.into()),
            (_, Ok(n)) if i32::try_from(n).is_ok() => Some(n.into()),
            _ => {
                self.mismatch(&format!("number {text}"), &go.name());
                None
            }
        }
    }

    /// A whole number is kept as one: it is written the same.
    fn float(&mut self, go: Go) -> Option<Value> {
        let text = self.token();
        match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Some(match number(text) {
                Some(number) => whole(number),
                None => Value::Null,
            }),
            _ => {
                self.mismatch(&format!("number {text}"), &go.name());
                None
            }
        }
    }

    fn base64(&mut self) -> Option<Value> {
        let text = self.string();
        match normal_base64(&text) {
            Ok(Cow::Borrowed(_)) => Some(Value::String(text.into_owned())),
            Ok(Cow::Owned(text)) => Some(Value::String(text)),
            Err(message) => {
                self.saved.get_or_insert(message);
                None
            }
        }
    }

    fn quantity(&mut self) -> Result<Value, Error> {
        let text = self.raw();
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).trim();
        let quantity = text.parse::<crate::quantity::Quantity>();
        let quantity = quantity.map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(Value::String(quantity.to_string()))
    }

    fn time(&mut self, precision: Precision) -> Result<Option<Value>, Error> {
        let text = self.own_string()?;
        let canonical = time::canonical(&text, precision).map_err(Error::Invalid)?;
        Ok(canonical.map(Value::String))
    }

    fn duration(&mut self) -> Result<Value, Error> {
        let text = self.own_string()?;
        let nanos = time::parse_duration(&text).map_err(Error::Invalid)?;
        Ok(Value::String(time::print_duration(nanos)))
    }

    fn int_or_string(&mut self) -> Result<Value, Error> {
        match self.peek() {
            b'"' => Ok(Value::String(self.string().into_owned())),
            c @ (b'-' | b'0'..=b'9') => {
                let text = self.token();
                let number = text.parse::<i32>().map(Value::from);
                number.map_err(|_| self.type_error(&format!("{} {text}", value_word(c)), "int32"))
            }
            c => Err(self.type_error(value_word(c), "int32")),
        }
    }

    fn either(&mut self, inner: &'a Schema, other: Other) -> Result<Option<Value>, Error> {
        const STRINGS: Go = Go { text: "[]string", package: "", elements: 0 };
        let strict = std::mem::replace(&mut self.strict, false);
        let value = match (self.peek(), other) {
            (b'{', _) => self.value(inner, Go::ANY),
            (b'[', Other::List) => self.list(inner, Go::ANY).map(Some),
            (b'[', Other::Strings) => {
                static STRING: Schema = Schema::STRING;
                self.list(&STRING, STRINGS).map(Some)
            }
            (c @ (b't' | b'f'), Other::Bool) => {
                self.skip();
                Ok(Some(Value::Bool(c == b't')))
            }
            (_, Other::Bool) => Err(Error::Invalid("boolean or JSON schema expected".into())),
            _ => {
                self.skip();
                Ok(None)
            }
        };
        self.strict = strict;
        value
    }

    /// A string that a type with a parser of its own takes.
    fn own_string(&mut self) -> Result<Cow<'a, str>, Error> {
        match self.peek() {
            b'"' => Ok(self.string()),
            c => Err(self.type_error(value_word(c), "string")),
        }
    }

    fn mismatch(&mut self, what: &str, go: &str) {
        if self.saved.is_none() {
            self.saved = Some(self.type_message(what, go));
        }
    }

    fn type_error(&self, what: &str, go: &str) -> Error {
        Error::Invalid(self.type_message(what, go))
    }

    fn type_message(&self, what: &str, go: &str) -> String {
        if self.fields.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {go}");
        }
        let (of, fields) = (self.in_struct, self.fields.join("."));
        format!("json: cannot unmarshal {what} into Go struct field {of}.{fields} of type {go}")
    }

    fn strict_error(&mut self, what: &str, name: &str) {
        if self.strict_errors.len() >= MAX_STRICT {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) => push_name(&mut path, name),
                Step::Key(from, to) => push_name(&mut path, &unquote(key_in(&self.text[*from..*to]))),
                Step::Index(at) => path.push_str(&format!("[{at}]")),
            }
        }
        push_name(&mut path, name);
        let message = format!("{what} field {}", go_quote(&path));
        if !self.strict_errors.contains(&message) {
            self.strict_errors.push(message);
        }
    }

    fn descend(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Syntax("exceeded max depth".into()));
        }
        Ok(())
    }

    // What follows walks over text that is known to be well-formed.

    fn peek(&self) -> u8 {
        self.data.get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while let b' ' | b'\n' | b'\r' | b'\t' = self.peek() {
            self.at += 1;
        }
    }

    /// Where the next key will begin.
    fn key_start(&mut self) -> usize {
        while let b' ' | b'\n' | b'\r' | b'\t' | b',' = self.peek() {
            self.at += 1;
        }
        self.at
    }

    /// The next key of an object, with its colon and the blanks behind it; None at the end, which is taken.
    fn next_key(&mut self) -> Option<Cow<'a, str>> {
        self.key_start();
        if self.peek() != b'"' {
            self.at += 1;
            return None;
        }
        let key = self.string();
        self.blanks();
        self.at += 1;
        self.blanks();
        Some(key)
    }

    /// Is there another item? The end is taken.
    fn next_item(&mut self) -> bool {
        self.key_start();
        let more = self.peek() != b']' && self.at < self.data.len();
        if !more {
            self.at += 1;
        }
        more
    }

    fn string(&mut self) -> Cow<'a, str> {
        let start = self.at + 1;
        let plain =
            self.data[start.min(self.data.len())..].iter().take_while(|b| !matches!(b, b'"' | b'\\')).count();
        if self.data.get(start + plain) == Some(&b'"') {
            self.at = start + plain + 1;
            return Cow::Borrowed(self.text.get(start..start + plain).unwrap_or(""));
        }
        unquote(self.string_token())
    }

    /// With its quotes.
    fn string_token(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        loop {
            match self.data.get(self.at) {
                Some(b'"') | None => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or("\"\"")
    }

    /// A number or a word.
    fn token(&mut self) -> &'a str {
        let start = self.at;
        while let b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'E' = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or("")
    }

    /// Any value, as it stands.
    fn raw(&mut self) -> &'a str {
        self.blanks();
        let start = self.at;
        self.skip();
        self.text.get(start..self.at).unwrap_or("")
    }

    fn skip(&mut self) {
        self.blanks();
        let mut depth = 0usize;
        loop {
            match self.peek() {
                b'"' => drop(self.string_token()),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {
                    self.at += 1;
                    continue;
                }
                _ => drop(self.token()),
            }
            if depth == 0 || self.at >= self.data.len() {
                return;
            }
        }
    }
}

fn zero_value(schema: &Schema) -> Value {
    match schema::zero_of(schema) {
        Zero::Value(value) => value,
        Zero::Null | Zero::Absent => Value::Null,
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// The quoted key in `"key" : `.
fn key_in(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\n', '\r', '\t']);
    text.strip_suffix(':').unwrap_or(text).trim_end_matches([' ', '\n', '\r', '\t'])
}

fn value_word(first: u8) -> &'static str {
    match first {
        b'{' => "object",
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "bool",
        b'n' => "null",
        _ => "number",
    }
}

/// As Go's decoder that preserves integers: an int64 if it is one, else a float.
fn number(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(n) => Some(n.into()),
        Err(_) => text.parse::<f64>().ok().and_then(Number::from_f64),
    }
}

/// A float that is a whole number, as an integer.
pub(crate) fn whole(number: Number) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(n) if number.is_f64() && n.fract() == 0.0 && n.abs() < EXACT => Value::from(n as i64),
        _ => Value::Number(number),
    }
}

/// Base64 as Go writes it, from what Go reads: line breaks are passed over.
pub(crate) fn normal_base64(text: &str) -> Result<Cow<'_, str>, String> {
    const STRICT: GeneralPurpose = GeneralPurpose::new(
        &ALPHABET,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
            .with_decode_allow_trailing_bits(true),
    );
    let clean: Cow<str> =
        if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() };
    match STRICT.decode(&*clean) {
        Ok(bytes) => {
            let again = STRICT.encode(bytes);
            Ok(if again == text { Cow::Borrowed(text) } else { Cow::Owned(again) })
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", base64_error_at(text))),
    }
}

/// Where Go's decoder stops.
fn base64_error_at(text: &str) -> usize {
    let bytes = text.as_bytes();
    let symbol = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let breaks = |b: &u8| matches!(b, b'\r' | b'\n');
    let mut in_quantum = 0;
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        at += 1;
        if breaks(&b) {
            continue;
        }
        if symbol(b) {
            in_quantum = (in_quantum + 1) % 4;
            continue;
        }
        if b != b'=' || in_quantum < 2 {
            return at - 1;
        }
        // padding: one more `=` after two symbols, then nothing
        let mut rest = (at..bytes.len()).filter(|i| !breaks(&bytes[*i]));
        if in_quantum == 2 {
            match rest.next() {
                Some(next) if bytes[next] == b'=' => {}
                Some(next) => return next,
                None => return bytes.len(),
            }
        }
        return rest.next().unwrap_or(bytes.len());
    }
    at - in_quantum
}

/// The text of a string token; escapes that are half of a surrogate pair become U+FFFD.
fn unquote(token: &str) -> Cow<'_, str> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or("");
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or("");
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, tail) = unicode_escape(rest);
                rest = tail;
                c
            }
            other => char::from(other),
        });
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Reads what follows `\u`.
fn unicode_escape(text: &str) -> (char, &str) {
    let hex = |t: &str| t.get(..4).and_then(|h| u32::from_str_radix(h, 16).ok());
    let Some(first) = hex(text) else { return ('\u{fffd}', text) };
    let rest = &text[4..];
    if let Some(c) = char::from_u32(first) {
        return (c, rest);
    }
    let second = rest.strip_prefix("\\u").and_then(hex).filter(|s| (0xdc00..0xe000).contains(s));
    match second {
        Some(second) if first < 0xdc00 => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code).unwrap_or('\u{fffd}'), &rest[6..])
        }
        _ => ('\u{fffd}', rest),
    }
}
