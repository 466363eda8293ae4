//! Kubernetes objects as data with a schema, and everything that can be done to them without I/O.
//!
//! Entry types: [`Value`] (an object), [`field::Path`] and [`field::Error`] (what is wrong with it), [`status::Status`]
//! (how the API says so). What this crate deliberately does not know: tokio, files, clocks, logging, kinds by name.

pub mod apply;
pub mod codec;
pub mod crd;
pub mod field;
pub mod gvk;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod regexp;
pub mod schema;
pub mod select;
pub mod status;
#[cfg(test)]
mod testdata;
pub mod value;

pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use serde_json::{Map, Value, json};
pub use status::Status;
pub use value::Get;
