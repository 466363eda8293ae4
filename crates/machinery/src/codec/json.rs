//! JSON, as upstream's API server reads and writes it.
//!
//! ```
//! use machinery::{GroupVersionKind, codec::json::Document, schema};
//! let document = Document::parse(br#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"},"dta":1}"#).unwrap();
//! let meta = document.type_meta().unwrap();
//! assert_eq!((&*meta.api_version, &*meta.kind), ("v1", "ConfigMap"));
//! let schema = schema::of_kind(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
//! let decoded = document.decode(schema, true).unwrap();
//! assert_eq!(decoded.strict, ["unknown field \"dta\""]);
//! ```
//!
//! Reading is case-sensitive, keeps integers, drops unknown fields, and with `strict` reports unknown and duplicate
//! ones: [`strict_message`] for `fieldValidation=Strict`, each on its own as a warning for `Warn`. Type errors have Go's
//! words. Nesting deeper than 512 is refused (upstream: 10,000).
//!
//! Writing ([`encode`]) has upstream's field order, and escapes as Go does; no final newline.

mod convert;
mod decode;
mod encode;
mod scan;
mod settle;

use std::borrow::Cow;

use serde_json::Value;

use crate::schema::Schema;

pub use convert::{convert, convert_changed};
pub(crate) use decode::whole;
pub(crate) use encode::go_float;
pub use encode::{encode, encode_any, encode_string};
pub use settle::settle;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON of the wrong shape, or a value that does not parse.
    #[error("{0}")]
    Invalid(String),
}

/// Well-formed JSON text.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    text: Cow<'a, str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

#[derive(Clone, Debug)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "kind"`; in order of appearance, at most 100. Only with `strict`.
    pub strict: Vec<String>,
}

/// What upstream says of an object with strict errors.
pub fn strict_message(errors: &[String]) -> String {
    format!("strict decoding error: {}", errors.join(", "))
}

/// Reads any JSON into a value, as into Go's `interface{}`.
pub fn decode_any(bytes: &[u8]) -> Result<Value, Error> {
    Ok(Document::parse(bytes)?.decode_any(false)?.value)
}

impl<'a> Document<'a> {
    /// Checks the syntax. Bytes that are not UTF-8 read as U+FFFD, as Go has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        scan::check(bytes).map_err(Error::Syntax)?;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(scan::replace_invalid(bytes)),
        };
        Ok(Self { text })
    }

    /// `apiVersion` and `kind`, "" where absent. The error is the part behind
    /// `couldn't get version/kind; json parse error: `; so is the one of [`Document::parse`].
    pub fn type_meta(&self) -> Result<TypeMeta, Error> {
        decode::type_meta(&self.text)
    }

    /// Reads an object of a built-in type.
    pub fn decode(&self, schema: &Schema, strict: bool) -> Result<Decoded, Error> {
        decode::typed(&self.text, schema, strict)
    }

    /// Reads anything: custom resources before pruning. Unknown fields are for [`crate::schema::prune`] to find; the
    /// strict errors are the duplicate ones.
    pub fn decode_any(&self, strict: bool) -> Result<Decoded, Error> {
        decode::untyped(&self.text, strict)
    }
}

#[cfg(test)]
mod tests;
