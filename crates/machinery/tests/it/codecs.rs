use machinery::codec::{cbor, json, proto, yaml};
use machinery::schema::{self, Schema};
use machinery::{GroupVersionKind, Value};
use proptest::prelude::*;

use crate::generate::Dice;

/// A kind, and an object of it as a client might write it.
fn object(seed: u64) -> (GroupVersionKind, &'static Schema, Value) {
    let mut dice = Dice(seed);
    let count = schema::kinds().count();
    let (gvk, schema) = schema::kinds().nth(dice.roll(count)).unwrap();
    let mut value = dice.typed(schema, 5);
    if schema.field("apiVersion").is_some() {
        value["apiVersion"] = gvk.api_version().into();
        value["kind"] = gvk.kind.as_str().into();
    }
    (gvk, schema, value)
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode_any(value, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_comes_back(seed: u64) {
        let value = Dice(seed).json(5);
        prop_assert_eq!(json::decode_any(&bytes_of(&value)).unwrap(), value.clone());
        let mut text = String::new();
        yaml::encode(&value, &mut text);
        let back = json::decode_any(&yaml::to_json(text.as_bytes()).unwrap().text).unwrap();
        prop_assert_eq!(&back, &value, "{}", text);
    }

    #[test]
    fn objects_keep_their_form(seed: u64) {
        let (gvk, schema, value) = object(seed);
        let read = |bytes: &[u8]| json::Document::parse(bytes).unwrap().decode(schema, true).unwrap();
        let first = read(&bytes_of(&value));
        prop_assert!(first.strict.is_empty(), "{} {:?}", gvk, first.strict);
        let mut out = Vec::new();
        json::encode(schema, &first.value, &mut out);
        prop_assert_eq!(&read(&out).value, &first.value, "reading what was written");
        let converted = json::convert(schema, value, true).unwrap();
        prop_assert_eq!(&converted.value, &first.value, "reading values as reading text");
        let mut stored = first.value.clone();
        schema::normalize(schema, &mut stored);
        let mut twice = stored.clone();
        schema::normalize(schema, &mut twice);
        prop_assert_eq!(&twice, &stored, "normal form is final");
        let mut wire = Vec::new();
        cbor::encode(Some(schema), &stored, &mut wire);
        prop_assert_eq!(&read(&cbor::to_json(&wire).unwrap()).value, &stored, "CBOR");
    }

    #[test]
    fn protobuf_keeps_stored_objects(seed: u64) {
        let (gvk, schema, value) = object(seed);
        // tables and the like have no protobuf form
        let in_proto = |s: &schema::Struct| s.fields.iter().any(|f| f.tag != 0);
        prop_assume!(schema.as_struct().is_some_and(in_proto) && !gvk.kind.contains("Table"));
        let mut stored = json::convert(schema, value, false).unwrap().value;
        schema::normalize(schema, &mut stored);
        let mut wire = Vec::new();
        proto::encode(schema, &stored, &mut wire);
        let back = proto::decode(&wire, schema).unwrap();
        let mut normal = back.clone();
        schema::normalize(schema, &mut normal);
        prop_assert_eq!(&normal, &back, "{} decodes to the normal form", gvk);
        let mut again = Vec::new();
        proto::encode(schema, &back, &mut again);
        prop_assert_eq!(again, wire, "{}", gvk);
    }

    #[test]
    fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let (_, schema, _) = object(seed);
        if let Ok(document) = json::Document::parse(&bytes) {
            let _ = document.decode(schema, true);
            let _ = document.type_meta();
        }
        let _ = yaml::to_json(&bytes);
        let _ = cbor::to_json(&bytes);
        let _ = proto::decode_message(&bytes, schema);
        let _ = proto::open(&bytes);
    }

    #[test]
    fn decoders_survive_damage(seed: u64, at: usize, with: u8) {
        let (_, schema, value) = object(seed);
        let damage = |mut bytes: Vec<u8>| {
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = with;
            }
            bytes
        };
        let text = damage(bytes_of(&value));
        let ours = json::Document::parse(&text);
        prop_assert_eq!(ours.is_ok(), serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() || std::str::from_utf8(&text).is_err() && ours.is_ok());
        if let Ok(document) = ours {
            let _ = document.decode(schema, true);
        }
        let mut wire = Vec::new();
        proto::encode(schema, &value, &mut wire);
        let _ = proto::decode(&damage(wire), schema);
        let mut wire = Vec::new();
        cbor::encode(Some(schema), &value, &mut wire);
        let _ = cbor::to_json(&damage(wire));
        let mut text = String::new();
        yaml::encode(&value, &mut text);
        let _ = yaml::to_json(&damage(text.into_bytes()));
    }
}
