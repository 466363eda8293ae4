use serde_json::{Value, json};

use super::*;
use crate::gvk::GroupVersionKind;
use crate::schema;

#[test]
fn json_patches() {
    let document = json!({"a": {"b": [1, 2, 3]}, "c": "x", "d~/e": null});
    let run = |patch: Value| {
        let (patch, _) = json::Patch::decode(patch.to_string().as_bytes(), true)?;
        patch.apply(&document)
    };
    let ok = |patch: Value, path: &str, want: Value| {
        assert_eq!(
            run(patch.clone()).unwrap().pointer(path).cloned().unwrap_or(Value::Null),
            want,
            "{patch}"
        );
    };
    ok(json!([{"op": "add", "path": "/a/b/1", "value": 9}]), "/a/b", json!([1, 9, 2, 3]));
    ok(json!([{"op": "add", "path": "/a/b/-", "value": 9}]), "/a/b", json!([1, 2, 3, 9]));
    ok(json!([{"op": "add", "path": "/a/b/-1", "value": 9}]), "/a/b", json!([1, 2, 3, 9]));
    ok(json!([{"op": "remove", "path": "/a/b/0"}]), "/a/b", json!([2, 3]));
    ok(json!([{"op": "replace", "path": "/new", "value": 1}]), "/new", json!(1));
    ok(
        json!([{"op": "move", "from": "/c", "path": "/a/c"}, {"op": "test", "path": "/a/c", "value": "x"}]),
        "/a/c",
        json!("x"),
    );
    ok(json!([{"op": "copy", "from": "/a/b", "path": "/f"}]), "/f/2", json!(3));
    ok(
        json!([{"op": "test", "path": "/d~0~1e", "value": null}, {"op": "replace", "path": "/d~0~1e", "value": 1}]),
        "/d~0~1e",
        json!(1),
    );
    ok(json!([{"op": "replace", "path": "", "value": {"z": 1}}]), "/z", json!(1));
    let bad = |patch: Value, want: &str| assert_eq!(run(patch).unwrap_err().to_string(), want);
    bad(
        json!({}),
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
    );
    bad(
        json!(["x"]),
        "error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp",
    );
    bad(json!([{"op": "x", "path": "/a"}]), "Unexpected kind: x");
    bad(json!([{"op": "test", "path": "/c", "value": "y"}]), "testing value /c failed: test failed");
    bad(
        json!([{"op": "remove", "path": "/z"}]),
        "error in remove for path: '/z': Unable to remove nonexistent key: z: missing value",
    );
    bad(
        json!([{"op": "remove", "path": "/z/y"}]),
        "remove operation does not apply: doc is missing path: \"/z/y\": missing value",
    );
    bad(
        json!([{"op": "add", "path": "/a/b/9", "value": 1}]),
        "error in add for path: '/a/b/9': Unable to access invalid index: 9: invalid index referenced",
    );
    bad(
        json!([{"op": "add", "path": "/a/b/x", "value": 1}]),
        "error in add for path: '/a/b/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
    );
    bad(
        json!([{"op": "replace", "path": "/a/b/7", "value": 1}]),
        "replace operation does not apply: doc is missing key: /a/b/7: missing value",
    );
    let (_, strict) = json::Patch::decode(br#"[{"op":"add","op":"add","path":"/x","x":1}]"#, true).unwrap();
    assert_eq!(strict, ["json patch duplicate field \"[0].op\"", "json patch unknown field \"[0].x\""]);
}

#[test]
fn merge_patches() {
    let merged = |a: Value, b: Value| merge::apply(&a, &b);
    assert_eq!(
        merged(json!({"a": {"b": 1, "c": 2}, "d": [1]}), json!({"a": {"b": null, "e": 3}, "d": [null, 2]})),
        json!({"a": {"c": 2, "e": 3}, "d": [null, 2]})
    );
    assert_eq!(merged(json!({}), json!({"a": {"b": null, "c": [{"d": null}]}})), json!({"a": {"c": [{}]}}));
    let bad = |body: &[u8]| merge::decode(body, true).unwrap_err().to_string();
    assert_eq!(
        bad(b"[1]"),
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
    assert_eq!(bad(b"xyz"), "error decoding patch: invalid character 'x' looking for beginning of value");
    assert_eq!(merge::decode(b"x", false).unwrap_err(), Error::Bad("Invalid JSON Patch".into()));
}

fn pod(spec: Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"finalizers": ["a", "b"], "ownerReferences": [{"uid": "1", "name": "x"}]}, "spec": spec})
}

fn patch(original: &Value, patch: Value) -> Result<Value, Error> {
    strategic::apply(schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap(), original, &patch)
}

#[test]
fn strategic_patches_merge_lists_by_key() {
    let original = pod(
        json!({"nodeName": "n", "containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}],
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}], "tolerations": [{"key": "t"}]}),
    );
    let spec = |change: Value| patch(&original, json!({"spec": change})).unwrap()["spec"].clone();
    assert_eq!(
        spec(json!({"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4", "$patch": "merge2"}]}).pointer("/containers/0").map(|c| json!({"containers": [c]})).unwrap())["containers"],
        json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "3"}])
    );
    assert_eq!(
        spec(json!({"containers": [{"name": "a", "$patch": "delete"}]}))["containers"],
        json!([{"name": "b", "image": "2"}])
    );
    assert_eq!(
        spec(json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}))["containers"],
        json!([{"name": "z"}])
    );
    assert_eq!(
        spec(json!({"containers": [{"name": "c"}, {"name": "a", "args": null}]}))["containers"],
        json!([{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}])
    );
    assert_eq!(
        spec(
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "9"}]})
        )["containers"],
        json!([{"name": "b", "image": "9"}, {"name": "a", "image": "1", "args": ["x"]}])
    );
    assert_eq!(
        spec(
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]})
        )["volumes"],
        json!([{"name": "v", "hostPath": {"path": "/"}}])
    );
    assert_eq!(
        spec(json!({"tolerations": [{"key": "u"}]}))["tolerations"],
        json!([{"key": "u"}]),
        "no merge key: replaced"
    );
    assert_eq!(spec(json!({"nodeName": null}))["nodeName"], Value::Null);
    assert_eq!(
        patch(&original, json!({"spec": {"$patch": "replace", "nodeName": "m"}})).unwrap()["spec"],
        json!({"nodeName": "m"})
    );
    let metadata = |change: Value| patch(&original, json!({"metadata": change})).unwrap()["metadata"].clone();
    assert_eq!(metadata(json!({"finalizers": ["c", "a"]}))["finalizers"], json!(["c", "a", "b"]));
    assert_eq!(metadata(json!({"$deleteFromPrimitiveList/finalizers": ["a"]}))["finalizers"], json!(["b"]));
    assert_eq!(
        metadata(json!({"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}))["finalizers"],
        json!(["c", "b", "a"])
    );
}

#[test]
fn strategic_errors_read_as_upstream() {
    let original = pod(json!({"containers": [{"name": "a"}]}));
    let bad = |change: Value, want: &str| assert_eq!(patch(&original, change).unwrap_err().to_string(), want);
    bad(json!({"metadata": {"$patch": "odd"}}), "unknown patch type: odd in map: map[$patch:odd]");
    bad(
        json!({"metadata": {"ownerReferences": [{"name": "x"}]}}),
        "map: map[name:x] does not contain declared merge key: uid",
    );
    bad(json!({"spec": {"$retainKeys": ["a"], "nodeName": "x"}}), "invalid patch format of retainKeys");
    bad(
        json!({"spec": {"containers": [{"name": "a"}, "x"]}}),
        "list element types are not identical: [[map[name:a]] [map[name:a] x]]",
    );
    bad(
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "c"}]}}),
        "The order in patch list:\n[map[name:c]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
    );
}

#[test]
fn values_convert_to_types() {
    let schema = schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let run = |v: Value| crate::codec::json::convert(schema, v, true);
    let done = run(json!({"spec": {"hostNetwork": false, "priority": 3.0, "containers": [{"name": "a", "x": 1, "resources": {"limits": {"cpu": 1}}}]}, "b": 1})).unwrap();
    assert_eq!(done.strict, ["unknown field \"b\"", "unknown field \"spec.containers[0].x\""]);
    assert_eq!(
        done.value,
        json!({"metadata": {}, "status": {}, "spec": {"priority": 3, "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}})
    );
    let bad = |v: Value, want: &str| assert_eq!(run(v).unwrap_err().to_string(), want);
    bad(json!({"metadata": "x"}), "cannot restore struct from: string");
    bad(json!({"metadata": {"labels": "x"}}), "cannot restore map from string");
    bad(json!({"spec": {"containers": "x"}}), "cannot restore slice from string");
    bad(json!({"spec": {"priority": "x"}}), "unrecognized type: int32");
    bad(json!({"spec": {"nodeName": 1}}), "cannot convert int64 to string");
}
