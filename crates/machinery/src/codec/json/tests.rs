use serde_json::{Value, json};

use super::*;
use crate::gvk::GroupVersionKind;
use crate::schema;
use crate::testdata;

fn kind(group: &str, version: &str, kind: &str) -> &'static Schema {
    schema::of_kind(&GroupVersionKind::new(group, version, kind)).unwrap()
}

fn decode(schema: &Schema, text: &str) -> Result<Decoded, Error> {
    Document::parse(text.as_bytes())?.decode(schema, true)
}

fn error(schema: &Schema, text: &str) -> String {
    decode(schema, text).unwrap_err().to_string()
}

#[test]
fn syntax_errors_have_gos_words() {
    let check = |text: &[u8], want: &str| {
        assert_eq!(Document::parse(text).unwrap_err().to_string(), want, "{}", String::from_utf8_lossy(text));
    };
    check(b"", "unexpected end of JSON input");
    check(b"{", "unexpected end of JSON input");
    check(b"{\"a\":1", "unexpected end of JSON input");
    check(b"not json", "invalid character 'o' in literal null (expecting 'u')");
    check(b"xyz", "invalid character 'x' looking for beginning of value");
    check(b"{a", "invalid character 'a' looking for beginning of object key string");
    check(b"{\"a\" 1", "invalid character '1' after object key");
    check(b"{\"a\":1 2", "invalid character '2' after object key:value pair");
    check(b"[1 2", "invalid character '2' after array element");
    check(b"[1,]", "invalid character ']' looking for beginning of value");
    check(b"{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
    check(b"1 2", "invalid character '2' after top-level value");
    check(b"\"a\n\"", "invalid character '\\n' in string literal");
    check(b"\"\\x\"", "invalid character 'x' in string escape code");
    check(b"\"\\u00g\"", "invalid character 'g' in \\u hexadecimal character escape");
    check(b"-x", "invalid character 'x' in numeric literal");
    check(b"1.x", "invalid character 'x' after decimal point in numeric literal");
    check(b"1ex", "invalid character 'x' in exponent of numeric literal");
    check(b"01", "invalid character '1' after top-level value");
    check(b"'", r"invalid character '\'' looking for beginning of value");
    check(b"\x81", "invalid character '\\u0081' looking for beginning of value");
    check("[".repeat(10_001).as_bytes(), "invalid character '[' exceeded max depth");
}

#[test]
fn type_meta_is_read_first() {
    let read = |text: &str| Document::parse(text.as_bytes()).unwrap().type_meta();
    let meta = read(r#"{"KIND":"a","kind":"Pod","spec":{"kind":"x"},"apiVersion":"v1"}"#).unwrap();
    assert_eq!((&*meta.kind, &*meta.api_version), ("Pod", "v1"));
    assert_eq!(
        read("[]").unwrap_err().to_string(),
        r#"json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#
    );
    assert_eq!(
        read(r#"{"kind":1}"#).unwrap_err().to_string(),
        "json: cannot unmarshal number into Go struct field .kind of type string"
    );
}

#[test]
fn type_errors_have_gos_words() {
    let pod = kind("", "v1", "Pod");
    let check = |text: &str, want: &str| assert_eq!(error(pod, text), want);
    check(
        r#"{"metadata":{"labels":"x"}}"#,
        "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
    );
    check(
        r#"{"metadata":{"labels":{"a":1}}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check(
        r#"{"metadata":"x"}"#,
        "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta",
    );
    check(
        r#"{"spec":{"containers":[{"stdin":"x"}]}}"#,
        "json: cannot unmarshal string into Go struct field Container.spec.containers.stdin of type bool",
    );
    check(
        r#"{"spec":{"containers":[{"command":"x"}]}}"#,
        "json: cannot unmarshal string into Go struct field Container.spec.containers.command of type []string",
    );
    check(
        r#"{"spec":{"containers":[{"resources":{"limits":[]}}]}}"#,
        "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
    );
    check(
        r#"{"spec":{"enableServiceLinks":"x"}}"#,
        "json: cannot unmarshal string into Go struct field PodSpec.spec.enableServiceLinks of type bool",
    );
    check(
        r#"{"metadata":{"uid":1}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.uid of type types.UID",
    );
    check(
        r#"{"spec":{"volumes":[{"configMap":1}]}}"#,
        "json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.configMap of type v1.ConfigMapVolumeSource",
    );
    check(
        r#"{"metadata":{"creationTimestamp":5}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
    );
    check(
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check("[]", "json: cannot unmarshal array into Go value of type v1.Pod");
    let deployment = kind("apps", "v1", "Deployment");
    for (value, want) in [("99999999999", "number 99999999999"), ("2.0", "number 2.0"), ("\"1\"", "string")] {
        let text = format!(r#"{{"spec":{{"replicas":{value}}}}}"#);
        assert_eq!(
            error(deployment, &text),
            format!(
                "json: cannot unmarshal {want} into Go struct field DeploymentSpec.spec.replicas of type int32"
            )
        );
    }
    let namespace = kind("", "v1", "Namespace");
    assert_eq!(
        error(namespace, r#"{"spec":{"finalizers":"x"}}"#),
        "json: cannot unmarshal string into Go struct field NamespaceSpec.spec.finalizers of type []v1.FinalizerName"
    );
    let secret = kind("", "v1", "Secret");
    for (text, at) in [("x", 0), ("YQ", 0), ("YQ=", 3), ("YQ=a", 3), ("YQ==x", 4), ("Y!==", 1), ("YWJj=", 4)]
    {
        let got = error(secret, &format!(r#"{{"data":{{"a":"{text}"}}}}"#));
        assert_eq!(got, format!("illegal base64 data at input byte {at}"), "{text}");
    }
}

#[test]
fn strict_errors_come_in_order() {
    let text = r#"{"kind":"Pod","kind":"Pod","foo":1,"metadata":{"labels":{"a":"1","a":"2"},"name":"x"},
        "spec":{"containers":[{"name":"a"},{"nme":"b","ports":[{"x":{"y":1,"y":1}}]}],"foo":1,"foo":2}}"#;
    let decoded = decode(kind("", "v1", "Pod"), text).unwrap();
    assert_eq!(
        decoded.strict,
        [
            "duplicate field \"kind\"",
            "unknown field \"foo\"",
            "duplicate field \"metadata.labels.a\"",
            "unknown field \"spec.containers[1].nme\"",
            "unknown field \"spec.containers[1].ports[0].x\"",
            "unknown field \"spec.foo\"",
        ]
    );
    assert_eq!(decoded.value["metadata"]["labels"]["a"], "2");
    let any =
        Document::parse(br#"{"a":[{"b":1,"b":2}],"c.d":{"e":1,"e":1}}"#).unwrap().decode_any(true).unwrap();
    assert_eq!(any.strict, ["duplicate field \"a[0].b\"", "duplicate field \"c.d.e\""]);
}

#[test]
fn values_read_as_go_reads_them() {
    let text = r#"{"kind":"Pod","metadata":{"name":"\ud83d\ude00\u00e9\ud800","creationTimestamp":"2024-01-01T00:00:00+01:00",
        "annotations":null,"generation":null,"labels":{"a":null}},"spec":{"nodeName":null,"hostNetwork":false,"automountServiceAccountToken":false,
        "containers":[null,{"name":"a","image":"","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},"ports":[],
        "livenessProbe":{"httpGet":{"port":"http","path":"/"}}}]}}"#;
    let pod = kind("", "v1", "Pod");
    let value = decode(pod, text).unwrap().value;
    assert_eq!(
        value,
        json!({"kind": "Pod", "metadata": {"name": "😀é\u{fffd}", "creationTimestamp": "2023-12-31T23:00:00Z", "labels": {"a": ""}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "", "resources": {}},
                {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/"}}}]}, "status": {}})
    );
    let mut again = value.clone();
    schema::normalize(pod, &mut again);
    assert_eq!(again, value, "already in normal form");
    let event = decode(kind("", "v1", "Event"), "{}").unwrap().value;
    assert_eq!(
        event,
        json!({"metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
    );
    let merged = decode(pod, r#"{"metadata":{"name":"a"},"metadata":{"labels":{"b":"c"}}}"#).unwrap().value;
    assert_eq!(merged["metadata"], json!({"name": "a", "labels": {"b": "c"}}));
}

#[test]
fn writing_is_gos() {
    let mut out = Vec::new();
    encode_any(
        &json!({"b": "<a&\u{2028}\u{7f}\u{1}\n\"\\>", "a": [1, -2.5, 1e21, 1e-7, 100.0, null, true]}),
        &mut out,
    );
    let want = r#"{"a":[1,-2.5,1e+21,1e-7,100,null,true],"b":"\u003ca\u0026\u2028"#.to_owned()
        + "\u{7f}"
        + r#"\u0001\n\"\\\u003e"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

#[test]
fn published_objects_come_back_byte_for_byte() {
    let Some(dir) = testdata::facts("roundtrip") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let document = Document::parse(&bytes).unwrap();
        let mut meta = document.type_meta().unwrap();
        if path.ends_with("core.v1.WatchEvent.json") {
            meta = TypeMeta { api_version: "v1".into(), kind: "WatchEvent".into() };
        }
        let gv = crate::GroupVersion::parse(&meta.api_version).unwrap();
        let schema = schema::of_kind(&gv.kind(meta.kind)).unwrap_or_else(|| panic!("{}", path.display()));
        let decoded = document.decode(schema, true).unwrap();
        assert!(decoded.strict.is_empty(), "{}: {:?}", path.display(), decoded.strict);
        let mut out = Vec::new();
        encode(schema, &decoded.value, &mut out);
        let want: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(decoded.value, want, "{}", path.display());
        // the published text is the same, indented
        let mut compact = Vec::new();
        let mut in_string = false;
        let mut escaped = false;
        for b in bytes {
            if in_string || !b.is_ascii_whitespace() {
                compact.push(b);
            }
            (in_string, escaped) = match b {
                b'"' if !escaped => (!in_string, false),
                b'\\' if !escaped => (in_string, true),
                _ => (in_string, false),
            };
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            String::from_utf8(compact).unwrap(),
            "{}",
            path.display()
        );
        count += 1;
    }
    assert_eq!(count, 185);
}

/// What a real server answered is in the form that decoding gives, but for marks that stand for times and the like.
#[test]
fn recorded_objects_are_in_normal_form() {
    let (mut count, mut odd) = (0, Vec::new());
    let found = testdata::recorded_objects(|place, body| {
        let gv = crate::GroupVersion::parse(body["apiVersion"].as_str().unwrap()).unwrap();
        let Some(schema) = schema::of_kind(&gv.kind(body["kind"].as_str().unwrap())) else { return };
        let mut again = body.clone();
        schema::normalize(schema, &mut again);
        let gone = schema::prune(schema, &mut again);
        if !gone.is_empty() || &again != body {
            let (a, b) = (serde_json::to_string(&again).unwrap(), serde_json::to_string(body).unwrap());
            odd.push(format!("{place}\n  got  {a}\n  want {b}\n  gone {gone:?}"));
        }
        count += 1;
    });
    assert!(odd.is_empty(), "{} of {count}:\n{}", odd.len(), odd.join("\n"));
    assert!(!found || count > 3000, "{count}");
}

/// Settling a changed object is decoding its text, or it says that something is wrong.
#[test]
fn settling_is_decoding() {
    let pod = kind("", "v1", "Pod");
    let old = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}],
            "terminationGracePeriodSeconds": 30, "hostNetwork": true}});
    let old = decode(pod, &old.to_string()).unwrap().value;
    let check = |patch: Value, fine: bool| {
        let patched = crate::patch::merge::apply(&old, &patch);
        let mut settled = patched.clone();
        assert_eq!(settle(pod, &old, &mut settled), fine, "{patch}");
        let decoded = decode(pod, &patched.to_string());
        let clean = decoded.as_ref().is_ok_and(|decoded| decoded.strict.is_empty());
        assert_eq!(clean, fine, "{patch}");
        if fine {
            assert_eq!(settled, decoded.unwrap().value, "{patch}");
        }
    };
    check(json!({}), true);
    check(json!({"metadata": {"annotations": {"a": "b"}, "labels": null}}), true);
    check(json!({"metadata": {"labels": {"a": null, "c": "d"}}}), true);
    check(
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 5}}}]}}),
        true,
    );
    check(json!({"spec": {"hostNetwork": false, "hostname": "", "volumes": []}}), true);
    check(
        json!({"spec": {"containers": [{"name": "d", "livenessProbe": {"httpGet": {"port": "x"}}}, null]}}),
        true,
    );
    check(json!({"metadata": {"deletionTimestamp": "2020-01-01T01:00:00+01:00"}}), true);
    check(json!({"status": {"conditions": [{"type": "Ready", "lastProbeTime": null}]}}), true);
    check(json!({"spec": {"replicas": 1}}), false);
    check(json!({"spec": {"hostNetwork": "yes"}}), false);
    check(json!({"spec": {"containers": {"name": "c"}}}), false);
    check(json!({"spec": {"priority": 1_i64 << 40}}), false);
    check(json!({"metadata": {"deletionTimestamp": "yesterday"}}), false);
    check(json!({"metadata": {"labels": {"a": 1}}}), false);
}
