//! Validation of values by a schema, in the order of upstream's validators: type, combinations, string, format, number,
//! list, enumeration, object.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::{formats, lists};
use crate::codec::json::go_float;
use crate::field::{Error, ErrorList, Path};
use crate::value::Get;

/// A schema made ready: patterns are compiled.
#[derive(Debug)]
pub struct Validator {
    open_api: Value,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    types: Vec<String>,
    nullable: bool,
    format: String,
    maximum: Option<Number>,
    minimum: Option<Number>,
    exclusive_maximum: bool,
    exclusive_minimum: bool,
    multiple_of: Option<Number>,
    max_length: Option<i64>,
    min_length: Option<i64>,
    /// As written, and compiled; the error if it does not compile.
    pattern: Option<(String, Result<Regex, String>)>,
    max_items: Option<i64>,
    min_items: Option<i64>,
    unique_items: bool,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
    required: Vec<String>,
    values: Vec<Value>,
    properties: BTreeMap<String, Node>,
    additional: Additional,
    items: Option<Box<Node>>,
    list_keys: Option<Vec<String>>,
    all_of: Vec<Node>,
    one_of: Vec<Node>,
    any_of: Vec<Node>,
    not: Option<Box<Node>>,
}

#[derive(Debug, Default)]
enum Additional {
    #[default]
    Open,
    Closed,
    Schema(Box<Node>),
}

impl Validator {
    /// Of `openAPIV3Schema` of a version.
    pub fn new(open_api: &Value) -> Self {
        Self { open_api: open_api.clone(), root: Node::new(open_api) }
    }

    /// Checks an object. `old`: the object before an update; what is as it was may be wrong.
    pub fn object(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        found(self.root.validate("", object, old), &Path::root())
    }

    /// Checks any value of the schema, which stands at a path.
    pub fn value(&self, value: &Value, at: &Path) -> ErrorList {
        found(self.root.validate("", value, None), at)
    }

    /// Checks `status` alone, as an update of the status subresource does.
    pub fn status(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let (Some(schema), Some(status)) = (self.root.properties.get("status"), object.get("status")) else {
            return Vec::new();
        };
        let old = old.map(|o| o.at("status"));
        found(schema.validate("", status, old), &Path::new("status"))
    }

    /// Doubles in sets and keyed lists. An object that had some before an update may keep them.
    pub fn lists(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let run = |object: &Value| {
            let mut out = ErrorList::new();
            lists::check(&self.open_api, object, &Path::root(), &mut out);
            out
        };
        match old {
            Some(old) if !run(old).is_empty() => Vec::new(),
            _ => run(object),
        }
    }
}

/// An error at a path of upstream's validator; those without a path are of the whole object.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    Required(String),
    Enum(String, Value, Vec<String>),
    TooLong(String, i64),
    TooMany(String, usize, i64),
    Type(String, String, String),
    Invalid(String, Value, String),
    General(String),
}

#[derive(Default)]
struct Outcome {
    faults: Vec<Fault>,
    /// How much of the schema was looked at: tells which alternative came closest.
    matched: usize,
}

impl Outcome {
    fn fault(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.matched += other.matched;
        other.faults.into_iter().for_each(|f| self.fault(f));
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

fn found(outcome: Outcome, root: &Path) -> ErrorList {
    let at = |path: &str| match path.trim_start_matches('.') {
        "" => root.clone(),
        path => root.child(path),
    };
    let error = |fault: Fault| match fault {
        Fault::Required(path) => Error::required(&at(&path), ""),
        Fault::Enum(path, value, values) => Error::not_supported(&at(&path), value, &values),
        Fault::TooLong(path, max) => Error::too_long(&at(&path), usize::try_from(max).unwrap_or(0)),
        Fault::TooMany(path, actual, max) => {
            Error::too_many(&at(&path), actual, usize::try_from(max).unwrap_or(0))
        }
        Fault::Type(path, value, message) => Error::type_invalid(&at(&path), value, message),
        Fault::Invalid(path, value, message) => Error::invalid(&at(&path), value, message),
        Fault::General(message) => Error::invalid(root, "", message),
    };
    outcome.faults.into_iter().map(error).collect()
}

impl Node {
    fn new(from: &Value) -> Self {
        let number = |key: &str| from.get(key).and_then(Value::as_number).cloned();
        let nodes = |key: &str| from.list(key).iter().map(Node::new).collect();
        let int_or_string = from.flag("x-kubernetes-int-or-string") == Some(true);
        let types = match from.text("type") {
            _ if int_or_string => vec!["integer".to_owned(), "string".to_owned()],
            "" => Vec::new(),
            kind => vec![kind.to_owned()],
        };
        let format = from.text("format");
        let known = match types.first().map(String::as_str) {
            _ if types.len() == 2 => formats::check(format, "").is_some(),
            None | Some("string") => formats::check(format, "").is_some(),
            Some("integer") => matches!(format, "int32" | "int64"),
            Some("number") => matches!(format, "float" | "double"),
            _ => false,
        };
        let pattern = from.text("pattern");
        let keyed = from.text("x-kubernetes-list-type") == "map";
        let keys = from.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
        Self {
            types,
            nullable: from.flag("nullable") == Some(true),
            format: if known { format.to_owned() } else { String::new() },
            maximum: number("maximum"),
            minimum: number("minimum"),
            exclusive_maximum: from.flag("exclusiveMaximum") == Some(true),
            exclusive_minimum: from.flag("exclusiveMinimum") == Some(true),
            multiple_of: number("multipleOf"),
            max_length: from.int("maxLength"),
            min_length: from.int("minLength"),
            pattern: (!pattern.is_empty())
                .then(|| (pattern.to_owned(), Regex::new(pattern).map_err(|e| e.to_string()))),
            max_items: from.int("maxItems"),
            min_items: from.int("minItems"),
            unique_items: from.flag("uniqueItems") == Some(true),
            max_properties: from.int("maxProperties"),
            min_properties: from.int("minProperties"),
            required: from.list("required").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            values: from.list("enum").to_vec(),
            properties: from
                .map("properties")
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Node::new(schema)))
                .collect(),
            additional: match from.at("additionalProperties") {
                Value::Bool(false) => Additional::Closed,
                schema @ Value::Object(_) => Additional::Schema(Box::new(Node::new(schema))),
                _ => Additional::Open,
            },
            items: from.get("items").filter(|i| i.is_object()).map(|i| Box::new(Node::new(i))),
            list_keys: keyed.then(|| keys.map(str::to_owned).collect()),
            all_of: nodes("allOf"),
            one_of: nodes("oneOf"),
            any_of: nodes("anyOf"),
            not: from.get("not").filter(|n| n.is_object()).map(|n| Box::new(Node::new(n))),
        }
    }

    fn validate(&self, path: &str, value: &Value, old: Option<&Value>) -> Outcome {
        let mut out = Outcome::default();
        self.check_type(path, value, &mut out);
        out.matched += 1;
        if value.is_null() {
            self.check_enum(path, value, &mut out);
        } else {
            self.check_combinations(path, value, old, &mut out);
            match value {
                Value::String(text) => {
                    self.check_string(path, text, &mut out);
                    if !self.format.is_empty() && formats::check(&self.format, text) == Some(false) {
                        out.fault(type_fault(path, &self.format, text));
                    }
                }
                Value::Number(number) => self.check_number(path, number, &mut out),
                Value::Array(items) => self.check_list(path, items, old, &mut out),
                _ => {}
            }
            self.check_enum(path, value, &mut out);
            if let Value::Object(map) = value {
                self.check_object(path, map, old, &mut out);
            }
        }
        out.matched += 1;
        // ratcheting: what an update did not touch may stay wrong
        if old == Some(value) {
            out.faults.clear();
        }
        out
    }

    fn check_type(&self, path: &str, value: &Value, out: &mut Outcome) {
        let has = |kind: &str| self.types.iter().any(|t| t == kind);
        let (kind, format) = match value {
            Value::Null => {
                if !self.types.is_empty() && !has("null") && !self.nullable {
                    out.fault(type_fault(path, &self.types.join(","), "null"));
                }
                return;
            }
            Value::Bool(_) => ("boolean", ""),
            Value::Number(n) if n.is_f64() => ("number", "float64"),
            Value::Number(_) => ("integer", "int64"),
            Value::String(_) => ("string", ""),
            Value::Array(_) => ("array", ""),
            Value::Object(_) => ("object", ""),
        };
        if self.types.is_empty() && self.format.is_empty() {
            return;
        }
        let whole = value.as_f64().is_some_and(|f| f.fract() == 0.0);
        let converts = (kind == "number" && whole && has("integer")) || (kind == "integer" && has("number"));
        let sequence = matches!(kind, "string" | "array");
        if !sequence && !self.format.is_empty() && !(has(kind) || format == self.format || converts) {
            out.fault(type_fault(path, &self.format, format));
            return;
        }
        if !(has("number") || has("integer")) && !self.format.is_empty() && sequence {
            return;
        }
        if !(has(kind) || converts) {
            out.fault(type_fault(path, &self.types.join(","), kind));
        }
    }

    fn check_combinations(&self, path: &str, value: &Value, old: Option<&Value>, out: &mut Outcome) {
        let closest = |best: &mut Option<Outcome>, result: Outcome| {
            if best.as_ref().is_none_or(|b| result.matched > b.matched) {
                *best = Some(result);
            }
        };
        if !self.any_of.is_empty() {
            let (mut best, mut good) = (None, false);
            for node in &self.any_of {
                let result = node.validate(path, value, old);
                if result.is_valid() {
                    good = true;
                    out.merge(result);
                    break;
                }
                closest(&mut best, result);
            }
            if !good {
                let message = format!("\"{path}\" must validate at least one schema (anyOf)");
                out.fault(Fault::General(message));
                best.into_iter().for_each(|b| out.merge(b));
            }
        }
        if !self.one_of.is_empty() {
            let (mut best, mut first, mut count) = (None, None, 0);
            for node in &self.one_of {
                let result = node.validate(path, value, old);
                if result.is_valid() {
                    count += 1;
                    best = None;
                    first.get_or_insert(result);
                } else if count == 0 {
                    closest(&mut best, result);
                }
            }
            match first {
                Some(first) if count == 1 => out.merge(first),
                _ => {
                    let found = match count {
                        0 => "Found none valid".to_owned(),
                        n => format!("Found {n} valid alternatives"),
                    };
                    let message =
                        format!("\"{path}\" must validate one and only one schema (oneOf). {found}");
                    out.fault(Fault::General(message));
                    best.into_iter().for_each(|b| out.merge(b));
                }
            }
        }
        if !self.all_of.is_empty() {
            let mut count = 0;
            for node in &self.all_of {
                let result = node.validate(path, value, old);
                count += usize::from(result.is_valid());
                out.merge(result);
            }
            if count != self.all_of.len() {
                let none = if count == 0 { ". None validated" } else { "" };
                out.fault(Fault::General(format!("\"{path}\" must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &self.not {
            if not.validate(path, value, None).is_valid() {
                out.fault(Fault::General(format!("\"{path}\" must not validate the schema (not)")));
            }
        }
        out.matched += 1;
    }

    fn check_string(&self, path: &str, text: &str, out: &mut Outcome) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = self.max_length.filter(|max| length > *max) {
            out.fault(Fault::TooLong(path.into(), max));
        } else if let Some(min) = self.min_length.filter(|min| length < *min) {
            let message = format!("{path} in body should be at least {min} chars long");
            out.fault(Fault::Invalid(path.into(), text.into(), message));
        } else if let Some((pattern, compiled)) = &self.pattern {
            let message = match compiled {
                Ok(regex) if regex.is_match(text) => return,
                Ok(_) => format!("{path} in body should match '{pattern}'"),
                Err(e) => format!("{path} in body should match '{pattern}, but pattern is invalid: {e}'"),
            };
            out.fault(Fault::Invalid(path.into(), text.into(), message));
        }
    }

    fn check_number(&self, path: &str, number: &Number, out: &mut Outcome) {
        let float = number.as_f64().unwrap_or(0.0);
        let int = number.as_i64();
        if let ([kind], "int32", Some(n)) = (&self.types[..], &*self.format, int) {
            if kind == "integer" && i32::try_from(n).is_err() {
                let message = format!("Checked value must be of type integer with format int32 in {path}");
                out.fault(Fault::General(message));
            }
        }
        let mut wrong = |message: String| {
            let message = format!("{path} in body {message}");
            out.fault(Fault::Invalid(path.into(), Value::Number(number.clone()), message));
        };
        if let Some(factor) = &self.multiple_of {
            let whole = match (int, factor.as_i64()) {
                (Some(n), Some(factor)) => factor != 0 && n % factor == 0,
                _ => {
                    let factor = factor.as_f64().unwrap_or(1.0);
                    (float / factor).fract() == 0.0
                }
            };
            if !whole {
                wrong(format!("should be a multiple of {}", show(factor)));
            }
        }
        if let Some(min) = &self.minimum {
            let bound = min.as_f64().unwrap_or(0.0);
            match self.exclusive_minimum {
                true if float <= bound => wrong(format!("should be greater than {}", show(min))),
                false if float < bound => wrong(format!("should be greater than or equal to {}", show(min))),
                _ => {}
            }
        }
        if let Some(max) = &self.maximum {
            let bound = max.as_f64().unwrap_or(0.0);
            match self.exclusive_maximum {
                true if float >= bound => wrong(format!("should be less than {}", show(max))),
                false if float > bound => wrong(format!("should be less than or equal to {}", show(max))),
                _ => {}
            }
        }
        out.matched += 1;
    }

    fn check_list(&self, path: &str, items: &[Value], old: Option<&Value>, out: &mut Outcome) {
        if let Some(node) = &self.items {
            for (n, item) in items.iter().enumerate() {
                let before = self.item_before(item, old);
                out.merge(node.validate(&format!("{path}[{n}]"), item, before));
            }
        }
        let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(min) = self.min_items.filter(|min| size < *min) {
            let message = format!("{path} in body should have at least {min} items");
            out.fault(Fault::Invalid(path.into(), size.into(), message));
        }
        if let Some(max) = self.max_items.filter(|max| size > *max) {
            out.fault(Fault::TooMany(path.into(), items.len(), max));
        }
        if self.unique_items && items.iter().enumerate().any(|(n, item)| items[..n].contains(item)) {
            let message = format!("{path} in body shouldn't contain duplicates");
            out.fault(Fault::Invalid(path.into(), Value::String(String::new()), message));
        }
        out.matched += 1;
    }

    /// The item of the old list with the same keys; other lists' items have no before.
    fn item_before<'a>(&self, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
        let keys = self.list_keys.as_ref()?;
        let same = |other: &&Value| keys.iter().all(|k| other.get(k) == item.get(k));
        old?.as_array()?.iter().find(same)
    }

    fn check_enum(&self, path: &str, value: &Value, out: &mut Outcome) {
        let same = |other: &Value| match (other.as_f64(), value.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => other == value,
        };
        if self.values.is_empty() || self.values.iter().any(same) {
            return;
        }
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        out.fault(Fault::Enum(path.into(), value.clone(), self.values.iter().map(text).collect()));
    }

    fn check_object(&self, path: &str, map: &Map<String, Value>, old: Option<&Value>, out: &mut Outcome) {
        let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if let Some(min) = self.min_properties.filter(|min| size < *min) {
            let message = format!("{path} in body should have at least {min} properties");
            out.fault(Fault::Invalid(path.into(), size.into(), message));
        }
        if let Some(max) = self.max_properties.filter(|max| size > *max) {
            out.fault(Fault::TooMany(path.into(), map.len(), max));
        }
        for (key, value) in map.iter().filter(|(key, _)| !self.properties.contains_key(*key)) {
            match &self.additional {
                Additional::Open => {}
                Additional::Closed => {
                    let message = format!("{path}.{key} in body is a forbidden property");
                    out.fault(Fault::Invalid(path.into(), key.as_str().into(), message));
                }
                Additional::Schema(node) => {
                    let before = old.and_then(|o| o.get(key));
                    out.merge(node.validate(&format!("{path}.{key}"), value, before));
                }
            }
        }
        for (name, node) in &self.properties {
            if let Some(value) = map.get(name) {
                let type_meta = path.is_empty() && matches!(&**name, "kind" | "apiVersion");
                let before = old.and_then(|o| o.get(name)).filter(|_| !type_meta);
                out.merge(node.validate(&below(name), value, before));
            }
        }
        for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
            out.fault(Fault::Required(format!("{path}.{name}")));
        }
    }
}

fn type_fault(path: &str, wanted: &str, got: &str) -> Fault {
    let shown = crate::field::go_quote(got);
    Fault::Type(path.into(), got.into(), format!("{path} in body must be of type {wanted}: {shown}"))
}

fn show(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => go_float(float),
        _ => number.to_string(),
    }
}
