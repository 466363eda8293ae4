use serde_json::{Value, json};

use super::*;
use crate::gvk::GroupVersionKind;
use crate::{schema, testdata};

#[test]
fn published_objects_convert_both_ways() {
    let mut count = 0;
    testdata::round_trips(|name, schema, json, path| {
        let bytes = std::fs::read(path.with_extension("pb")).unwrap();
        let decoded = if name.starts_with("core.v1.WatchEvent") {
            decode_message(open(&bytes).unwrap().raw, schema).unwrap()
        } else {
            decode(&bytes, schema).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        assert_eq!(&decoded, json, "{name}");
        let mut out = Vec::new();
        if name.starts_with("core.v1.WatchEvent") {
            envelope("", "", &encode_message(schema, json), &mut out);
        } else {
            encode(schema, json, &mut out);
        }
        assert!(out == bytes, "{name}:\n got {}\nwant {}", text(&out), text(&bytes));
        count += 1;
    });
    assert!(count == 0 || count == 185, "{count}");
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn bad_bytes_are_named() {
    let schema = schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let bad = |bytes: &[u8]| decode(bytes, schema).unwrap_err().to_string();
    assert_eq!(bad(b""), "empty data");
    assert_eq!(
        bad(b"{}"),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(bad(b"k8s\0"), "empty body");
    assert_eq!(bad(b"k8s\0\x0a\x7f"), "unexpected EOF");
    assert_eq!(bad(b"k8s\0\x0f"), "proto: illegal wireType 7");
    let crd = schema::of_type("apiextensions/v1.JSONSchemaProps").unwrap();
    let mut nested = Vec::new();
    for _ in 0..300 {
        let inner = std::mem::take(&mut nested);
        push_field(28, &inner, &mut nested);
    }
    assert_eq!(decode_message(&nested, crd), Err(Error::TooDeep));
    assert!(decode_message(&[0x0a], schema).is_err());
}

#[test]
fn an_event_holds_an_object() {
    let schema = schema::of_kind(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": ""}});
    let mut bytes = Vec::new();
    encode(schema, &object, &mut bytes);
    let event = schema::of_kind(&GroupVersionKind::new("", "v1", "WatchEvent")).unwrap();
    let decoded: Value = decode_message(&watch_event("ADDED", &bytes), event).unwrap();
    assert_eq!(decoded, json!({"type": "ADDED", "object": object}));
}
