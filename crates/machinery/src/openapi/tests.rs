//! Against the published documents in ../shared.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn published(name: &str) -> Option<Value> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kubernetes-1.36");
    let text = std::fs::read_to_string(dir.join(name));
    if text.is_err() {
        println!("skipped: the published documents are not here");
    }
    serde_json::from_str(&text.ok()?).ok()
}

/// The paths at which two values differ, at most a few.
fn differences(at: &str, got: &Value, want: &Value, found: &mut Vec<String>) {
    if got == want || found.len() > 20 {
        return;
    }
    match (got, want) {
        (Value::Object(g), Value::Object(w)) => {
            for key in g.keys().chain(w.keys().filter(|k| !g.contains_key(*k))) {
                differences(&format!("{at} > {key}"), &got[key.as_str()], &want[key.as_str()], found);
            }
        }
        _ => {
            let short = |v: &Value| v.to_string().chars().take(300).collect::<String>();
            found.push(format!("{at}: {} instead of {}", short(got), short(want)));
        }
    }
}

fn everything<'a>(custom: &'a [Custom<'a>]) -> Options<'a> {
    Options { version: "unversioned", served: &|_, _, _| true, cbor: true, logs: true, custom }
}

/// The published documents lack the values that a running server adds.
fn without_values(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("enum").is_some_and(Value::is_array) {
                map.remove("enum");
            }
            if let Some(Value::String(text)) = map.get_mut("description")
                && let Some(at) = text.find("Possible enum values:\n")
            {
                text.truncate(text[..at].trim_end_matches('\n').len());
            }
            map.values_mut().for_each(without_values);
        }
        Value::Array(items) => items.iter_mut().for_each(without_values),
        _ => {}
    }
}

fn parsed(text: &str) -> Value {
    let mut value = serde_json::from_str(text).unwrap();
    without_values(&mut value);
    value
}

#[test]
fn v3_documents_are_the_published_ones() {
    let mut found = Vec::new();
    let options = everything(&[]);
    for path in v3_paths(&options) {
        let Some(want) = published(&format!("openapi-v3/{}_openapi.json", path.replace('/', "__"))) else {
            return;
        };
        differences(&path, &parsed(&v3(&path, &options).unwrap()), &want, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(v3("apis/nope/v1", &options).is_none() && v3("api/v2", &options).is_none());
}

#[test]
fn the_v2_document_is_the_published_one() {
    let Some(want) = published("swagger.json") else { return };
    let mut found = Vec::new();
    differences("", &parsed(&v2(&everything(&[]))), &want, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn says_only_what_is_served() {
    let some = Options {
        served: &|group, version, _| group == "batch" && version == "v1",
        cbor: false,
        ..everything(&[])
    };
    let paths = v3_paths(&some);
    assert!(paths.contains(&"apis/batch/v1".to_owned()) && !paths.contains(&"apis/apps/v1".to_owned()));
    assert!(v3("apis/apps/v1", &some).is_none() && v3("apis/apps", &some).is_none());
    let text = v3("apis/batch/v1", &some).unwrap();
    assert!(!text.contains("cbor"));
    let toleration = &serde_json::from_str::<Value>(&text).unwrap()["components"]["schemas"]["io.k8s.api.core.v1.Toleration"]
        ["properties"]["operator"];
    assert_eq!(toleration["enum"], json!(["Equal", "Exists", "Gt", "Lt"]));
    assert!(
        toleration["description"].as_str().unwrap().contains("\n\nPossible enum values:\n - `\"Equal\"`")
    );
    let v2: Value = serde_json::from_str(&v2(&some)).unwrap();
    assert!(v2["definitions"]["io.k8s.api.batch.v1.Job"].is_object());
    assert!(v2["definitions"].get("io.k8s.api.apps.v1.Deployment").is_none());
}

#[test]
fn custom_resources_have_documents() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "n"],
    "properties": {
        "a": {"x-kubernetes-int-or-string": true, "default": 1},
        "n": {"type": "string", "nullable": true},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true},
        "c": {"type": "object", "oneOf": [{"required": ["x"]}], "properties": {"x": {"type": "string"}}},
    }}}});
    let widget = Custom {
        group: "example.com",
        version: "v1",
        plural: "widgets",
        kind: "Widget",
        list_kind: "WidgetList",
        namespaced: true,
        schema: &schema,
        preserve: false,
        has_status: true,
        has_scale: true,
        selectable: &["spec.n".to_owned()],
    };
    let custom = [widget];
    let options = Options { cbor: false, ..everything(&custom) };
    assert!(v3_paths(&options).contains(&"apis/example.com/v1".to_owned()));
    let v3: Value = serde_json::from_str(&v3("apis/example.com/v1", &options).unwrap()).unwrap();
    let schemas = &v3["components"]["schemas"];
    let spec = &schemas["com.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(spec["a"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
    assert_eq!(spec["e"]["required"], json!(["kind", "apiVersion"]));
    assert_eq!(
        schemas["com.example.v1.Widget"]["x-kubernetes-selectable-fields"],
        json!([{"fieldPath": "spec.n"}])
    );
    assert!(schemas["io.k8s.api.autoscaling.v1.Scale"].is_object());
    let paths: Vec<&String> = v3["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/apis/example.com/v1/namespaces/{namespace}/widgets",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale",
            "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/status",
            "/apis/example.com/v1/widgets",
        ]
    );
    let v2: Value = serde_json::from_str(&v2(&options)).unwrap();
    let spec = &v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec["required"], json!(["a"]));
    assert_eq!(spec["properties"]["a"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(spec["properties"]["n"], json!({}));
    assert!(spec["properties"]["c"].get("oneOf").is_none());
}

#[test]
fn protobuf_starts_as_gnostic_writes_it() {
    let document = json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "1.36"},
        "paths": {"/a": {"get": {"operationId": "x", "parameters": [{"$ref": "#/parameters/p"}]}}}});
    let bytes = proto::v2(&document);
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
    assert_eq!(&bytes[5..9], b"\x12\x12\x0a\x0a");
    let tail = b"\x42\x21\x12\x1f\x0a\x02/a\x12\x19\x12\x17\x2a\x01x\x42\x12\x12\x10\x0a\x0e#/parameters/p";
    assert_eq!(&bytes[25..], tail);
}
