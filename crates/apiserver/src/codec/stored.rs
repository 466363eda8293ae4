//! Values in the store, and the shapes of a kind's versions.

use bytes::Bytes;
use machinery::codec::proto;
use machinery::{Get, GroupVersion, Value};

use super::Error;
use crate::kinds::{Home, Resource};

/// A stored value, whatever version it was stored in, as an object of the home's version.
pub fn decode_stored(home: &Home, value: &[u8]) -> Result<Value, Error> {
    decode(home, value, proto::decode)
}

/// The same for an entry of the cache, where nobody looks at the managed fields: each `fieldsV1` may be a string of the
/// JSON that stands there.
pub fn decode_for_cache(home: &Home, value: &[u8]) -> Result<Value, Error> {
    decode(home, value, proto::decode_with_text)
}

type Decode = fn(&[u8], &machinery::schema::Schema) -> Result<Value, proto::Error>;

fn decode(home: &Home, value: &[u8], decode: Decode) -> Result<Value, Error> {
    let mut object: Value = if value.starts_with(&proto::PREFIX) {
        let envelope = proto::open(value).map_err(|e| Error::Other(e.to_string()))?;
        let gvk = GroupVersion::parse(envelope.api_version).unwrap_or_default().kind(envelope.kind);
        let schema = super::schema_of(&gvk).ok_or_else(|| Error::Other(format!("unknown kind {gvk}")))?;
        decode(value, schema).map_err(|e| Error::Other(e.to_string()))?
    } else {
        // serde_json reads no deeper than 128 levels, a request's body may have more
        serde_json::from_slice(value)
            .or_else(|_| machinery::codec::json::decode_any(value))
            .map_err(|e| Error::Other(e.to_string()))?
    };
    if let Some(conversion) = &home.conversion {
        conversion.read_stored(&mut object);
        return Ok(object);
    }
    let stored = object.text("apiVersion").to_owned();
    let want = home.api_version();
    let strategy = resources::strategy(&home.name.group, &home.kind);
    if stored != want {
        if let Ok(gv) = GroupVersion::parse(&stored) {
            (strategy.convert)(&mut object, &gv.version, &home.version);
        }
        object.set("apiVersion", want);
    }
    if !home.custom {
        // What another server stored has only what it was given: defaults are made at each reading, as upstream does.
        (strategy.default)(&mut object, &home.context());
    }
    Ok(object)
}

/// The stored form: protobuf for built-in kinds, JSON for custom ones (`prefix` and `tail` are the prepared JSON around
/// the resource version). The object has no resource version.
pub fn encode_stored(home: &Home, object: &Value, prefix: &[u8], tail: &Bytes) -> Bytes {
    let gvk = GroupVersion::new(&*home.name.group, &*home.version).kind(&*home.kind);
    let schema = if home.custom { None } else { super::schema_of(&gvk) };
    let Some(schema) = schema else { return crate::cache::stored_json(prefix, tail) };
    let mut out = Vec::new();
    proto::encode(schema, object, &mut out);
    out.into()
}

/// Changes the shape between the versions of a kind.
pub fn convert(resource: &Resource, object: &mut Value, from: &str, to: &str) {
    (resource.strategy.convert)(object, from, to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use base64::Engine;

    /// One object of each kind as kube-apiserver 1.36 left it in etcd: `KEY BASE64` a line.
    const UPSTREAM: &str = include_str!("../../tests/data/etcd-1.36.txt");

    /// Written back otherwise, meaning the same: each reading adds a default that the bytes lack, or JSON inside the
    /// object had blanks.
    const OTHERWISE: &[&str] =
        &["controllerrevisions", "deviceclasses", "persistentvolumeclaims", "podgroups", "resourceclaims"];

    #[test]
    fn what_upstream_stored_is_read_and_written_back_byte_for_byte() {
        let all = vec![("api/all".to_owned(), true)];
        let gates =
            ["ClusterTrustBundle", "PodCertificateRequest", "GenericWorkload", "StorageVersionMigrator"];
        let gates = gates.map(|gate| (gate.to_owned(), true)).to_vec();
        let config = Config { runtime_config: all, feature_gates: gates, ..Config::default() };
        let map = crate::kinds::builtin(&config);
        let (mut seen, mut otherwise) = (0, Vec::new());
        for line in UPSTREAM.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
            if key == "/registry/ranges/servicenodeports" {
                continue;
            }
            let home = map.home_of(key).unwrap_or_else(|| panic!("{key} belongs to nobody"));
            let object = decode_stored(home, &value).unwrap_or_else(|e| panic!("{key}: {e}"));
            let (tail, prefix) = (Bytes::new(), Resource::prefix_of(&home.kind, &home.api_version()));
            seen += 1;
            if !value.starts_with(&proto::PREFIX) {
                continue;
            }
            let again = encode_stored(home, &object, &prefix, &tail);
            assert_eq!(decode_stored(home, &again).unwrap(), object, "{key}");
            if again[..] != value[..] {
                otherwise.push(key.split('/').nth(2).unwrap_or_default());
            }
        }
        assert_eq!(otherwise, OTHERWISE);
        assert!(seen >= 60, "{seen}");
    }

    #[test]
    fn definitions_are_stored_in_a_version_of_their_own() {
        let map = crate::kinds::builtin(&Config::default());
        let line = UPSTREAM.lines().find(|l| l.contains("/customresourcedefinitions/")).unwrap();
        let (key, value) = line.split_once(' ').unwrap();
        let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
        let stored: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(stored.text("apiVersion"), "apiextensions.k8s.io/v1beta1");
        let object = decode_stored(map.home_of(key).unwrap(), &value).unwrap();
        assert_eq!(object.text("apiVersion"), "apiextensions.k8s.io/v1");
        let spec = object.at("spec");
        assert!(!spec.has("version") && !spec.has("validation") && !spec.has("preserveUnknownFields"));
        assert!(spec.list("versions").iter().all(|v| v.at("schema").has("openAPIV3Schema")));
    }
}
