//! Values in the store, and the shapes of a kind's versions.

use bytes::Bytes;
use machinery::{Get, GroupVersion, Value};

use super::Error;
use crate::kinds::{Home, Resource};

/// A stored value, whatever version it was stored in, as an object of the home's version.
pub fn decode_stored(home: &Home, value: &[u8]) -> Result<Value, Error> {
    let mut object: Value = serde_json::from_slice(value)?;
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

/// The stored form: `prefix` and `tail` are the prepared JSON around the resource version.
pub fn encode_stored(_home: &Home, _object: &Value, prefix: &[u8], tail: &Bytes) -> Bytes {
    crate::cache::stored_json(prefix, tail)
}

/// Changes the shape between the versions of a kind.
pub fn convert(resource: &Resource, object: &mut Value, from: &str, to: &str) {
    (resource.strategy.convert)(object, from, to);
}
