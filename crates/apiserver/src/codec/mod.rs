//! Where bytes become objects and objects bytes: what the pipeline needs of `machinery`'s codecs, patches and managed
//! fields, with upstream's words around their errors.

mod decode;
mod managed;
mod patch;
mod stored;

pub use decode::{check_merged, check_patched, decode_apply, decode_options, decode_request, settle};
pub use managed::{ScaleFields, keep_times, managed_apply, managed_review, managed_update};
pub use patch::{Patch, patch_as};
pub use stored::{convert, decode_for_cache, decode_stored, encode_stored};

use bytes::Bytes;
pub use machinery::codec::proto::ENVELOPE_END;
use machinery::codec::{cbor, proto};
use machinery::schema::{self, Schema};
use machinery::{Get, GroupVersion, GroupVersionKind, Value};

use crate::cache::Entry;

use crate::front::negotiate::Encoding;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Other(String),
}

/// The type of a kind, those of object metadata (Status, PartialObjectMetadata, …) included.
pub fn schema_of(gvk: &GroupVersionKind) -> Option<&'static Schema> {
    schema::of_kind(gvk)
        .or_else(|| schema::of_type(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{}", gvk.kind)))
}

fn gvk_of(value: &Value) -> GroupVersionKind {
    GroupVersion::parse(value.text("apiVersion")).unwrap_or_default().kind(value.text("kind"))
}

/// An object (or list, Status, …) in an encoding other than JSON.
pub fn encode(value: &Value, encoding: Encoding) -> Result<Bytes, String> {
    match encoding {
        Encoding::Proto => {
            let gvk = gvk_of(value);
            let schema = schema_of(&gvk).ok_or_else(|| format!("object {gvk} has no protobuf form"))?;
            let mut out = Vec::new();
            proto::encode(schema, value, &mut out);
            Ok(out.into())
        }
        Encoding::Yaml => {
            let mut out = String::new();
            machinery::codec::yaml::encode(value, &mut out);
            Ok(out.into())
        }
        Encoding::Cbor => {
            let mut out = Vec::new();
            cbor::encode(cbor_schema(value), value, &mut out);
            Ok(out.into())
        }
        Encoding::Json => Err(format!("no encoder for {}", encoding.media_type())),
    }
}

/// The type by which CBOR knows what are bytes; none for custom resources.
fn cbor_schema(value: &Value) -> Option<&'static Schema> {
    schema_of(&gvk_of(value))
}

/// One watch event as a frame of a stream.
pub fn encode_event(kind: &str, object: &Value, encoding: Encoding) -> Result<Bytes, String> {
    if encoding == Encoding::Cbor {
        let mut out = Vec::new();
        cbor::encode_event(kind, cbor_schema(object), object, &mut out);
        return Ok(out.into());
    }
    Ok(proto_frame(kind, &encode(object, encoding)?))
}

/// An event of an encoded object: four bytes of length, then the message.
pub fn proto_frame(kind: &str, object: &[u8]) -> Bytes {
    let event = proto::watch_event(kind, object);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out.into()
}

/// The protobuf message of a cached object in its home's version, made once.
pub fn proto_message(entry: &Entry, gvk: &GroupVersionKind) -> Option<Bytes> {
    let schema = schema_of(gvk)?;
    let make = || Bytes::from(proto::encode_message(schema, &entry.parse()));
    Some(entry.proto.get_or_init(make).clone())
}

/// A message in its envelope.
pub fn proto_envelope(gvk: &GroupVersionKind, message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 64);
    proto::envelope(&gvk.api_version(), &gvk.kind, message, &mut out);
    out.into()
}

/// What stands before the items of a list of messages; each then follows by [`push_item`], and behind the last
/// [`ENVELOPE_END`].
pub fn proto_list_head(gvk: &GroupVersionKind, metadata: &Value, items: &[Bytes]) -> Bytes {
    let mut list_meta = Vec::new();
    if let Some(schema) = schema::of_type("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") {
        proto::push_field(1, &proto::encode_message(schema, metadata), &mut list_meta);
    }
    let mut scratch = Vec::with_capacity(10);
    let mut len = list_meta.len();
    for message in items {
        scratch.clear();
        proto::push_head(2, message.len(), &mut scratch);
        len += scratch.len() + message.len();
    }
    let mut head = Vec::with_capacity(list_meta.len() + 64);
    proto::envelope_head(&gvk.api_version(), &gvk.kind, len, &mut head);
    head.extend_from_slice(&list_meta);
    head.into()
}

/// Appends an item of a list.
pub fn push_item(message: &[u8], out: &mut Vec<u8>) {
    proto::push_field(2, message, out);
}

/// Brings an object into the form that upstream's types have on the wire.
pub fn normalize(gvk: &GroupVersionKind, object: &mut Value) {
    if let Some(schema) = machinery::schema::of_kind(gvk) {
        machinery::schema::normalize(schema, object);
    }
}

/// The same before managed fields are tracked.
pub fn normalize_unstored(gvk: &GroupVersionKind, object: &mut Value) {
    if let Some(schema) = machinery::schema::of_kind(gvk) {
        machinery::schema::normalize_unstored(schema, object);
    }
}
