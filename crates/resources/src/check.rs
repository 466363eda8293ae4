//! Short ways to say what is wrong with a field, and checks that many kinds share.

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value};

use crate::names;

/// Said of negative numbers.
pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";
/// Said of a changed field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// One method per kind of error.
pub(crate) trait Errors {
    fn invalid(&mut self, at: &Path, value: impl Into<Value>, detail: impl Into<String>);
    fn required(&mut self, at: &Path, detail: impl Into<String>);
    fn forbidden(&mut self, at: &Path, detail: impl Into<String>);
    fn duplicate(&mut self, at: &Path, value: impl Into<Value>);
    fn not_found(&mut self, at: &Path, value: impl Into<Value>);
    fn unsupported(&mut self, at: &Path, value: impl Into<Value>, supported: &[&str]);
    fn too_long(&mut self, at: &Path, max: usize);
    fn too_many(&mut self, at: &Path, actual: usize, max: usize);
    /// Invalid, with a value whose text is given as upstream shows it (the fields of a Go struct, in their order).
    fn invalid_shown(&mut self, at: &Path, shown: impl std::fmt::Display, detail: &str);
    /// Duplicate, likewise.
    fn duplicate_shown(&mut self, at: &Path, shown: impl std::fmt::Display);
    /// Unsupported, likewise.
    fn unsupported_shown(&mut self, at: &Path, shown: impl std::fmt::Display, supported: &[&str]);
    /// Invalid, once for each message.
    fn each(&mut self, at: &Path, value: impl Into<Value> + Clone, messages: Vec<String>);
    /// The number, if there is one, must not be negative.
    fn not_negative(&mut self, at: &Path, value: Option<i64>);
    /// The text must be one of these; "" counts as a value.
    fn one_of(&mut self, at: &Path, value: &str, supported: &[&str]);
    /// The two must be equal.
    fn immutable(&mut self, at: &Path, new: &Value, old: &Value);
    /// Likewise, where the message shows an internal struct.
    fn immutable_as(&mut self, kind: &'static str, at: &Path, new: &Value, old: &Value);
}

impl Errors for ErrorList {
    fn invalid(&mut self, at: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(Error::invalid(at, value, detail));
    }

    fn required(&mut self, at: &Path, detail: impl Into<String>) {
        self.push(Error::required(at, detail));
    }

    fn forbidden(&mut self, at: &Path, detail: impl Into<String>) {
        self.push(Error::forbidden(at, detail));
    }

    fn duplicate(&mut self, at: &Path, value: impl Into<Value>) {
        self.push(Error::duplicate(at, value));
    }

    fn not_found(&mut self, at: &Path, value: impl Into<Value>) {
        self.push(Error::not_found(at, value));
    }

    fn unsupported(&mut self, at: &Path, value: impl Into<Value>, supported: &[&str]) {
        self.push(Error::not_supported(at, value, supported));
    }

    fn too_long(&mut self, at: &Path, max: usize) {
        self.push(Error::too_long(at, max));
    }

    fn too_many(&mut self, at: &Path, actual: usize, max: usize) {
        self.push(Error::too_many(at, actual, max));
    }

    fn invalid_shown(&mut self, at: &Path, shown: impl std::fmt::Display, detail: &str) {
        let mut error = Error::invalid(at, Value::Null, format!("{shown}: {detail}"));
        error.value = None;
        self.push(error);
    }

    fn duplicate_shown(&mut self, at: &Path, shown: impl std::fmt::Display) {
        let mut error = Error::duplicate(at, Value::Null);
        error.detail = shown.to_string();
        error.value = None;
        self.push(error);
    }

    fn unsupported_shown(&mut self, at: &Path, shown: impl std::fmt::Display, supported: &[&str]) {
        let mut error = Error::not_supported(at, Value::Null, supported);
        error.detail = format!("{shown}: {}", error.detail);
        error.value = None;
        self.push(error);
    }

    fn each(&mut self, at: &Path, value: impl Into<Value> + Clone, messages: Vec<String>) {
        for message in messages {
            self.invalid(at, value.clone(), message);
        }
    }

    fn not_negative(&mut self, at: &Path, value: Option<i64>) {
        if let Some(value) = value.filter(|v| *v < 0) {
            self.invalid(at, value, NEGATIVE);
        }
    }

    fn one_of(&mut self, at: &Path, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.unsupported(at, value, supported);
        }
    }

    fn immutable(&mut self, at: &Path, new: &Value, old: &Value) {
        if !same(new, old) {
            self.invalid(at, new.clone(), IMMUTABLE);
        }
    }

    fn immutable_as(&mut self, kind: &'static str, at: &Path, new: &Value, old: &Value) {
        if !same(new, old) {
            self.invalid_shown(at, crate::internal::compact(kind, new), IMMUTABLE);
        }
    }
}

/// The fields of an object in this order, as the types with names for JSON show.
pub(crate) fn shown(object: &Value, fields: &[&str]) -> String {
    let given = fields.iter().filter(|field| object.has(field));
    let parts: Vec<String> =
        given.map(|field| format!("{}:{}", Value::from(*field), object.at(field))).collect();
    format!("{{{}}}", parts.join(","))
}

/// Equal, where absent, null, "" and the empty list are the same.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    fn empty(v: &Value) -> bool {
        match v {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        }
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| y.get(k).map_or(empty(v), |w| same(v, w)))
                && y.iter().all(|(k, w)| x.contains_key(k) || empty(w))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(v, w)| same(v, w)),
        _ => a == b || (empty(a) && empty(b)),
    }
}

/// Labels, label selectors' `matchLabels`, node selectors.
pub(crate) fn labels(labels: &Value, at: &Path, errors: &mut ErrorList) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.each(at, key.as_str(), names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.each(at, value, names::label_value(value));
    }
}

pub(crate) fn label_name(name: &str, at: &Path, errors: &mut ErrorList) {
    errors.each(at, name, names::qualified_name(name));
}

/// A `metav1.LabelSelector`; absent is good.
pub(crate) fn label_selector(selector: &Value, at: &Path, errors: &mut ErrorList) {
    label_selector_with(selector, at, false, errors);
}

/// `lax_values`: values that are no label values are accepted, as they were on an old object.
pub(crate) fn label_selector_with(selector: &Value, at: &Path, lax_values: bool, errors: &mut ErrorList) {
    labels(selector.at("matchLabels"), &at.child("matchLabels"), errors);
    for (i, term) in selector.list("matchExpressions").iter().enumerate() {
        let at = at.child("matchExpressions").index(i);
        let values = term.list("values");
        match term.text("operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    errors.required(
                        &at.child("values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.forbidden(&at.child("values"), detail);
                }
            }
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        label_name(term.text("key"), &at.child("key"), errors);
        if lax_values {
            continue;
        }
        for (j, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            errors.each(&at.child("values").index(j), value, names::label_value(value));
        }
    }
}

/// No terms at all.
pub(crate) fn selector_is_empty(selector: &Value) -> bool {
    selector.map("matchLabels").is_none_or(|m| m.is_empty()) && selector.list("matchExpressions").is_empty()
}

/// Does a good label selector select these labels? The empty selector selects everything.
pub(crate) fn selector_matches(selector: &Value, labels: &Value) -> bool {
    let has = |key: &str| labels.get(key).and_then(Value::as_str);
    selector.map("matchLabels").into_iter().flatten().all(|(k, v)| has(k) == v.as_str())
        && selector.list("matchExpressions").iter().all(|term| {
            let value = has(term.text("key"));
            let among = || term.list("values").iter().any(|v| v.as_str() == value);
            match term.text("operator") {
                "In" => value.is_some() && among(),
                "NotIn" => value.is_none() || !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// `metav1.Condition` list.
pub(crate) fn conditions(conditions: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        let kind = condition.text("type");
        if seen.contains(&kind) {
            errors.duplicate(&at.child("type"), kind);
        } else {
            seen.push(kind);
        }
        label_name(kind, &at.child("type"), errors);
        errors.one_of(&at.child("status"), condition.text("status"), &["False", "True", "Unknown"]);
        if let Some(n) = condition.int("observedGeneration").filter(|n| *n < 0) {
            errors.invalid(&at.child("observedGeneration"), n, "must be greater than or equal to zero");
        }
        if condition.text("lastTransitionTime").is_empty() {
            errors.required(&at.child("lastTransitionTime"), "");
        }
        let reason = condition.text("reason");
        if reason.is_empty() {
            errors.required(&at.child("reason"), "");
        } else {
            if !good_reason(reason) {
                let message = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
                let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
                let pattern = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
                errors.invalid(&at.child("reason"), reason, names::regex_error(message, pattern, &examples));
            }
            if reason.len() > 1024 {
                errors.too_long(&at.child("reason"), 1024);
            }
        }
        if condition.text("message").len() > 32 * 1024 {
            errors.too_long(&at.child("message"), 32 * 1024);
        }
    }
}

fn good_reason(reason: &str) -> bool {
    let bytes = reason.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b',' | b':'))
}

/// `domain/path`, such as `acme.io/foo`.
pub(crate) fn domain_prefixed_path(text: &str, at: &Path, errors: &mut ErrorList) {
    if text.is_empty() {
        return errors.required(at, "");
    }
    let (host, path) = match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
        _ => return errors.invalid(at, text, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    };
    errors.each(at, host, names::dns1123_subdomain(host));
    let good = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(good) {
        let pattern = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        errors.invalid(at, path, names::regex_error("Invalid path", pattern, &[]));
    }
}
