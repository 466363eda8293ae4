//! What must hold for any bytes whatever: no panic, and what is read is written and read again the same. Used by the
//! fuzz targets, and with a fixed seed by `machinery`'s tests.

use std::collections::BTreeMap;

use machinery::apply::{FieldManager, OneVersion, Set, Typed};
use machinery::codec::{cbor, json, proto, yaml};
use machinery::crd::Validator;
use machinery::patch::{json as json_patch, merge, strategic};
use machinery::quantity::Quantity;
use machinery::schema::{self, Schema};
use machinery::select::{FieldSelector, LabelSelector};
use machinery::{Get, GroupVersionKind, Value};

fn pod() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Pod")
}

fn known(gvk: &GroupVersionKind) -> &'static Schema {
    schema::of_kind(gvk).expect("a built-in kind")
}

/// JSON, YAML, protobuf and CBOR, with a schema and without.
pub fn decoders(data: &[u8]) {
    let schema = known(&pod());
    if let Ok(document) = json::Document::parse(data) {
        let _ = document.type_meta();
        if let Ok(any) = document.decode_any(true) {
            let mut text = Vec::new();
            json::encode_any(&any.value, &mut text);
            let again = json::decode_any(&text).expect("what was written is JSON");
            let mut twice = Vec::new();
            json::encode_any(&again, &mut twice);
            // as text: a float without a fraction is read as an integer
            assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&text));
        }
        if let Ok(typed) = document.decode(schema, true) {
            round_trip(schema, &typed.value);
        }
    }
    if let Ok(text) = yaml::to_json(data) {
        let value = json::decode_any(&text.text);
        if let Ok(value) = value {
            let mut out = String::new();
            yaml::encode(&value, &mut out);
            let again = yaml::to_json(out.as_bytes()).expect("what was written is YAML");
            let shown = |value: &Value| {
                let mut text = Vec::new();
                json::encode_any(value, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            };
            let again = json::decode_any(&again.text).expect("JSON");
            assert_eq!(shown(&again), shown(&value), "{out}");
        }
    }
    let _ = proto::open(data);
    if let Ok(value) = proto::decode(data, schema) {
        round_trip(schema, &value);
    }
    if let Ok(value) = proto::decode_message(data, schema) {
        round_trip(schema, &value);
    }
    let _ = cbor::to_json(data);
    let _ = cbor::decode(data);
}

/// A decoded object is the same after a way through each encoding.
fn round_trip(schema: &Schema, value: &Value) {
    let mut text = Vec::new();
    json::encode(schema, value, &mut text);
    let document = json::Document::parse(&text).expect("what was written is JSON");
    let again = document.decode(schema, false).expect("what was written has the type").value;
    assert_eq!(&again, value, "JSON");
    let message = proto::encode_message(schema, value);
    let mut back = proto::decode_message(&message, schema).expect("what was written is protobuf");
    // kind and apiVersion stand in the envelope
    for key in ["kind", "apiVersion"] {
        if let Some(known) = value.get(key) {
            back.set(key, known.clone());
        }
    }
    let mut text = Vec::new();
    json::encode(schema, &back, &mut text);
    let mut want = Vec::new();
    json::encode(schema, value, &mut want);
    let (text, want) = (String::from_utf8_lossy(&text), String::from_utf8_lossy(&want));
    assert_eq!(text, want, "protobuf");
}

fn target() -> Value {
    machinery::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n",
        "labels": {"a": "b"}, "finalizers": ["x/y", "z/w"]},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}]}], "tolerations": [{"key": "k"}]}})
}

/// Every type of patch, applied to an object.
pub fn patches(data: &[u8]) {
    let (gvk, mut object) = (pod(), target());
    let schema = known(&gvk);
    schema::normalize(schema, &mut object);
    if let Ok((patch, _)) = json_patch::Patch::decode(data, true) {
        let _ = patch.apply(&object);
    }
    if let Ok((patch, _)) = merge::decode(data, true) {
        let once = merge::apply(&object, &patch);
        assert_eq!(merge::apply(&once, &patch), once, "a merge patch changes nothing the second time");
    }
    if let Ok((patch, _)) = strategic::decode(data, true)
        && let Ok(merged) = strategic::apply(schema, &object, &patch)
    {
        let _ = json::convert(schema, merged, true);
    }
    let Ok(patch) = json::decode_any(data) else { return };
    let _ = Set::from_fields(&patch);
    let filters = BTreeMap::new();
    let manager = FieldManager {
        typed: Typed::Schema(schema),
        gvk: &gvk,
        subresource: "",
        filters: &filters,
        convert: &OneVersion,
        now: "2026-01-01T00:00:00Z",
    };
    let live = manager.update(&Value::Null, object, "creator");
    let mut patch = patch;
    if patch.is_object() {
        patch.set("apiVersion", "v1");
        patch.set("kind", "Pod");
    }
    if let Ok(applied) = manager.apply(&live, &patch, "applier", true) {
        let again =
            manager.apply(&applied, &patch, "applier", false).expect("applying again has no conflict");
        assert_eq!(again, applied, "applying again changes nothing");
    }
    let mut deduced = manager;
    deduced.typed = Typed::Deduced;
    let _ = deduced.apply(&live, &patch, "applier", true);
}

/// Label and field selectors, and quantities.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let shown = selector.to_string();
        let again = LabelSelector::parse(&shown).expect("a selector can be read as it is shown");
        assert_eq!(again.to_string(), shown);
        let _ = selector.matches_with(|_| Some("v"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        // the order is that of the terms as written, and `==` is shown as `=`
        let sorted = |selector: FieldSelector| {
            let mut terms: Vec<_> = selector.terms.into_iter().map(|t| (t.field, t.equal, t.value)).collect();
            terms.sort_unstable();
            terms
        };
        let again = FieldSelector::parse(&selector.to_string()).expect("as shown");
        assert_eq!(sorted(again), sorted(selector));
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let shown = quantity.to_string();
        let again: Quantity = shown.parse().expect("a quantity can be read as it is shown");
        assert_eq!(again, quantity, "{text} shown as {shown}");
        assert_eq!(again.to_string(), shown);
        let _ = (quantity.value(), quantity.milli_value(), quantity.add(&again), quantity.mul(3));
    }
}

/// Schemas of custom resources: read, then used on an object that is in the data too.
pub fn schemas(data: &[u8]) {
    let Ok(both) = json::decode_any(data) else { return };
    let (open_api, object) = (both.at("schema"), both.at("object"));
    let schema = schema::structural::parse(open_api);
    let mut pruned = object.clone();
    schema::prune(&schema, &mut pruned);
    let mut again = pruned.clone();
    assert!(schema::prune(&schema, &mut again).is_empty(), "what was pruned is pruned");
    assert_eq!(again, pruned);
    schema::apply_defaults(&schema, &mut pruned);
    let validator = Validator::new(open_api);
    let _ = validator.object(&pruned, None);
    let _ = validator.object(&pruned, Some(object));
    let _ = validator.lists(&pruned, Some(object));
}
