//! Where bytes become objects and objects bytes: what the pipeline needs of `machinery`'s codecs, patches and managed
//! fields, with upstream's words around their errors.

mod decode;
mod managed;
mod patch;
mod stored;

pub use decode::{check_merged, check_patched, decode_apply, decode_options, decode_request};
pub use managed::{keep_times, managed_apply, managed_update};
pub use patch::{Patch, patch_as};
pub use stored::{convert, decode_stored, encode_stored};

use bytes::Bytes;
use machinery::{GroupVersionKind, Value};

use crate::front::negotiate::Encoding;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Other(String),
}

/// Encodings that answers can be in.
pub fn can_encode(encoding: Encoding) -> bool {
    encoding == Encoding::Json
}

/// An object (or list, Status, …) in an encoding other than JSON.
pub fn encode(value: &Value, encoding: Encoding) -> Result<Bytes, String> {
    let _ = value;
    Err(format!("no encoder for {}", encoding.media_type()))
}

/// One watch event as a frame of a stream.
pub fn encode_event(kind: &str, object: &Value, encoding: Encoding) -> Result<Bytes, String> {
    let _ = (kind, object);
    Err(format!("no encoder for {}", encoding.media_type()))
}

/// Brings an object into the form that upstream's types have on the wire.
pub fn normalize(gvk: &GroupVersionKind, object: &mut Value) {
    if let Some(schema) = machinery::schema::of_kind(gvk) {
        machinery::schema::normalize(schema, object);
    }
}
