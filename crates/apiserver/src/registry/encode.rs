//! Objects and lists as answers, in the encoding and shape that the client accepts.

use bytes::{Bytes, BytesMut};
use machinery::{Get, Status, Value};

use super::{Call, storage, table};
use crate::cache::Entry;
use crate::front::negotiate::{Accepted, Encoding, Offer, Shape};
use crate::front::respond::{self, Answer};
use crate::kinds::Resource;

/// `{"kind":…,"apiVersion":…,` and the bare bytes.
pub fn full(prefix: &[u8], bare: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(prefix.len() + bare.len());
    out.extend_from_slice(prefix);
    out.extend_from_slice(&bare[1..]);
    out.freeze()
}

/// An object from the cache: bytes are copied where the shape allows it.
pub fn entry_answer(call: &Call, status: u16, entry: &Entry, accepted: &Accepted) -> Result<Answer, Status> {
    let resource = &call.resource;
    let plain = accepted.shape == Shape::Object && accepted.encoding == Encoding::Json;
    if plain && !accepted.pretty && !resource.converts() {
        let body = full(&resource.prefix, &entry.bare);
        return Ok(respond::bytes(status, "application/json", body));
    }
    if accepted.shape == Shape::Object
        && accepted.encoding == Encoding::Proto
        && entry.revision != 0
        && !resource.converts()
        && let Some(message) = crate::codec::proto_message(entry, &resource.gvk())
    {
        let body = crate::codec::proto_envelope(&resource.gvk(), &message);
        return Ok(respond::bytes(status, Encoding::Proto.media_type(), body));
    }
    let object = storage::from_entry(resource, entry);
    shaped(call, status, object, accepted)
}

/// An object in hand, negotiated now.
pub fn object_answer(call: &Call, status: u16, object: Value) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    shaped(call, status, object, &accepted)
}

fn shaped(call: &Call, status: u16, object: Value, accepted: &Accepted) -> Result<Answer, Status> {
    let value = match &accepted.shape {
        Shape::Object => object,
        // a Status is shown as it is
        _ if object.text("kind") == "Status" && object.text("apiVersion") == "v1" => object,
        Shape::Table(version) if object.text("kind") == "Scale" => {
            let meta = machinery::json!({"resourceVersion": machinery::meta::resource_version(&object)});
            table::of_scale(version, object, meta, call.now)
        }
        Shape::Table(version) => {
            let include = table::Include::parse(&call.query)?;
            let meta = machinery::json!({"resourceVersion": machinery::meta::resource_version(&object)});
            table::make(call, version, &[object], meta, include, true)
        }
        Shape::Metadata { list: true, .. } => return Err(wrong_shape(call, true)),
        Shape::Metadata { version, .. } => partial(object, version),
    };
    Ok(respond::value(status, &value, accepted))
}

/// 406 to one who wants the metadata of one object where there is a list, or the other way round.
pub fn wrong_shape(call: &Call, wants_list: bool) -> Status {
    let kind = call.resource.stored_kind();
    let package = match kind.group.split('.').next().unwrap_or("") {
        _ if call.resource.custom.is_some() => "unstructured",
        "" => "core",
        "internal" => "apiserverinternal",
        first => first,
    };
    let name = if call.resource.custom.is_some() { "Unstructured" } else { kind.kind.as_str() };
    let message = if wants_list {
        format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list (*{package}.{name})"
        )
    } else {
        format!(
            "you requested PartialObjectMetadata, but the requested object is a list (*{package}.{name}List)"
        )
    };
    Status::new(406, "NotAcceptable", message)
}

/// PartialObjectMetadata of an object.
pub fn partial(mut object: Value, version: &str) -> Value {
    let mut metadata = object.unset("metadata").unwrap_or_default();
    let group = object.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    for name in resources::strategy(group, object.text("kind")).hidden_annotations {
        let Some(annotations) = metadata.child_if("annotations") else { break };
        annotations.unset(name);
        if annotations.as_object().is_some_and(|a| a.is_empty()) {
            metadata.unset("annotations");
        }
    }
    machinery::json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}

/// An entry's bare JSON in the version of a resource.
pub fn bare(resource: &Resource, entry: &Entry, revision: i64) -> Bytes {
    if !resource.converts() {
        return if revision == entry.revision { entry.bare.clone() } else { entry.bare_at(revision) };
    }
    let mut object = storage::from_entry(resource, entry);
    object.child("metadata").set("resourceVersion", revision.to_string());
    object.unset("kind");
    object.unset("apiVersion");
    respond::json(&object, false)
}
