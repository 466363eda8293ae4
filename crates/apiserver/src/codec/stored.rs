//! Values in the store, and the shapes of a kind's versions.

use bytes::Bytes;
use machinery::codec::proto;
use machinery::{Get, GroupVersion, Value};

use super::Error;
use crate::kinds::{Home, Resource};

/// A stored value, whatever version it was stored in, as an object of the home's version.
pub fn decode_stored(home: &Home, value: &[u8]) -> Result<Value, Error> {
    let mut object: Value = if value.starts_with(&proto::PREFIX) {
        let envelope = proto::open(value).map_err(|e| Error::Other(e.to_string()))?;
        let gvk = GroupVersion::parse(envelope.api_version).unwrap_or_default().kind(envelope.kind);
        let schema = super::schema_of(&gvk).ok_or_else(|| Error::Other(format!("unknown kind {gvk}")))?;
        proto::decode(value, schema).map_err(|e| Error::Other(e.to_string()))?
    } else {
        serde_json::from_slice(value)?
    };
    let stored = object.text("apiVersion").to_owned();
    let want = home.api_version();
    if stored != want {
        if let Ok(gv) = GroupVersion::parse(&stored) {
            let strategy = resources::strategy(&home.name.group, &home.kind);
            (strategy.convert)(&mut object, &gv.version, &home.version);
        }
        object.set("apiVersion", want);
    }
    Ok(object)
}

/// The stored form: protobuf for built-in kinds, JSON for custom ones (`prefix` and `tail` are the prepared JSON around
/// the resource version).
pub fn encode_stored(home: &Home, object: &Value, prefix: &[u8], tail: &Bytes) -> Bytes {
    let gvk = GroupVersion::new(&*home.name.group, &*home.version).kind(&*home.kind);
    let schema = if home.custom { None } else { super::schema_of(&gvk) };
    let Some(schema) = schema else { return crate::cache::stored_json(prefix, tail) };
    let mut object = object.clone();
    object.child("metadata").unset("resourceVersion");
    let mut out = Vec::new();
    proto::encode(schema, &object, &mut out);
    out.into()
}

/// Changes the shape between the versions of a kind.
pub fn convert(resource: &Resource, object: &mut Value, from: &str, to: &str) {
    (resource.strategy.convert)(object, from, to);
}
