//! Field paths and field errors, with upstream's words (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde_json::{Value, json};

/// Where in an object: `spec.containers[0].env[name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub fn root() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self([&*self.0, ".", name].concat()) }
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self([&*self.0, "[", key, "]"].concat())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An empty path prints as Go's `<nil>`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kinds of field error; [`Kind::reason`] is what stands in a Status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl Kind {
    pub fn reason(self) -> &'static str {
        match self {
            Kind::NotFound => "FieldValueNotFound",
            Kind::Required => "FieldValueRequired",
            Kind::Duplicate => "FieldValueDuplicate",
            Kind::Invalid => "FieldValueInvalid",
            Kind::NotSupported => "FieldValueNotSupported",
            Kind::Forbidden => "FieldValueForbidden",
            Kind::TooLong => "FieldValueTooLong",
            Kind::TooMany => "FieldValueTooMany",
            Kind::Internal => "InternalError",
            Kind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::NotFound => "Not found",
            Kind::Required => "Required value",
            Kind::Duplicate => "Duplicate value",
            Kind::Invalid | Kind::TypeInvalid => "Invalid value",
            Kind::NotSupported => "Unsupported value",
            Kind::Forbidden => "Forbidden",
            Kind::TooLong => "Too long",
            Kind::TooMany => "Too many",
            Kind::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub kind: Kind,
    pub field: Path,
    /// The offending value, where the message shows it.
    pub value: Option<Value>,
    pub detail: String,
}

pub type ErrorList = Vec<Error>;

impl Error {
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self { kind: Kind::Required, field: field.clone(), value: None, detail: detail.into() }
    }

    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, field: field.clone(), value: Some(value.into()), detail: detail.into() }
    }

    pub fn type_invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind: Kind::TypeInvalid,
            field: field.clone(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self { kind: Kind::NotFound, field: field.clone(), value: Some(value.into()), detail: String::new() }
    }

    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self { kind: Kind::Duplicate, field: field.clone(), value: Some(value.into()), detail: String::new() }
    }

    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self { kind: Kind::Forbidden, field: field.clone(), value: None, detail: detail.into() }
    }

    /// `supported` in the order in which the message is to name them.
    pub fn not_supported<S: AsRef<str>>(field: &Path, value: impl Into<Value>, supported: &[S]) -> Self {
        let names: Vec<String> = supported.iter().map(|s| go_quote(s.as_ref())).collect();
        let detail =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self { kind: Kind::NotSupported, field: field.clone(), value: Some(value.into()), detail }
    }

    /// `max` in bytes.
    pub fn too_long(field: &Path, max: usize) -> Self {
        let detail = format!("may not be more than {max} bytes");
        Self { kind: Kind::TooLong, field: field.clone(), value: None, detail }
    }

    pub fn too_many(field: &Path, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self { kind: Kind::TooMany, field: field.clone(), value: Some(json!(actual)), detail }
    }

    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self { kind: Kind::Internal, field: field.clone(), value: None, detail: detail.into() }
    }

    /// The message without the field: `Invalid value: "x": must be …`.
    pub fn body(&self) -> String {
        let mut out = self.kind.words().to_owned();
        let shows_value =
            !matches!(self.kind, Kind::Required | Kind::Forbidden | Kind::TooLong | Kind::Internal);
        if let (true, Some(value)) = (shows_value, &self.value) {
            out.push_str(": ");
            out.push_str(&go_value(value));
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value as upstream's messages show it: strings quoted, null as `null`, composites as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(s) => go_quote(s),
        other => other.to_string(),
    }
}

/// Go's `%q` / `strconv.Quote`.
pub fn go_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (0x80..0xa0).contains(&(c as u32)) || c == '\u{ad}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream() {
        let at = Path::new("spec").child("ports").index(0).child("name");
        let check = |error: Error, want: &str| assert_eq!(error.to_string(), want);
        check(Error::required(&at, ""), "spec.ports[0].name: Required value");
        check(
            Error::invalid(&at, "A", "must be small"),
            "spec.ports[0].name: Invalid value: \"A\": must be small",
        );
        check(Error::invalid(&at, 7, "must be 8"), "spec.ports[0].name: Invalid value: 7: must be 8");
        check(
            Error::not_supported(&at, "x", &["a", "b"]),
            "spec.ports[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
        );
        check(Error::duplicate(&at, "x"), "spec.ports[0].name: Duplicate value: \"x\"");
        check(Error::too_many(&at, 9, 8), "spec.ports[0].name: Too many: 9: must have at most 8 items");
    }
}
