//! YAML, as `sigs.k8s.io/yaml` reads and writes it: YAML 1.1 with its booleans (`yes`, `on`), octal numbers and merge
//! keys on the way in; block style with sorted keys on the way out.
//!
//! [`to_json`] turns a document into JSON text that [`crate::codec::json::Document`] then reads by schema; [`encode`]
//! writes a value. Timestamps are strings. Only the first document of a stream is read.

mod decode;
mod encode;
mod resolve;

pub use decode::{Error, Json, to_json};
pub use encode::encode;

#[cfg(test)]
mod tests;
