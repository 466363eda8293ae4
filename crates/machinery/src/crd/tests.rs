use serde_json::{Value, json};

use super::*;
use crate::testdata;

/// Every rejected creation of the recorded custom resource: our errors are among the recorded ones, and the recorded
/// ones that are not rules are among ours.
#[test]
fn recorded_rejections() {
    let Some(path) = testdata::facts("../api-golden/golden/crds/crds-lifecycle.json") else { return };
    let scenario: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let steps = scenario["steps"].as_array().unwrap();
    let create = |s: &&Value| {
        s["request"]["body"]["kind"] == "CustomResourceDefinition" && s["request"]["method"] == "POST"
    };
    let definition = &steps.iter().find(create).unwrap()["request"]["body"];
    let open_api = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    let (validator, schema) = (Validator::new(open_api), crate::schema::structural::parse(open_api));
    let mut count = 0;
    for step in steps {
        let body = &step["request"]["body"];
        let causes = step.pointer("/response/body/details/causes").and_then(Value::as_array);
        let (Some(causes), "POST", "Widget") =
            (causes, step["request"]["method"].as_str().unwrap(), body["kind"].as_str().unwrap_or(""))
        else {
            continue;
        };
        let mut object = body.clone();
        crate::schema::prune(&schema, &mut object);
        crate::schema::apply_defaults(&schema, &mut object);
        let mut errors = validator.object(&object, None);
        errors.extend(scale(&object, ".spec.replicas", ".status.replicas", ".status.selector"));
        errors.extend(embedded(open_api, &object, &|_, _| Vec::new()));
        errors.extend(validator.lists(&object, None));
        errors.extend(blocks_rules(&errors));
        let got: Vec<(String, String)> = errors.iter().map(|e| (e.field.to_string(), e.body())).collect();
        let want: Vec<(String, String)> = causes
            .iter()
            .map(|c| (c["field"].as_str().unwrap().to_owned(), c["message"].as_str().unwrap().to_owned()))
            .filter(|(field, message)| {
                !field.contains("metadata")
                    && !message.contains("above max")
                    && !message.contains("not allowed")
            })
            .collect();
        assert_eq!(got, want, "{}", step["id"]);
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn what_was_wrong_may_stay() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "old": {"type": "string", "maxLength": 2}, "new": {"type": "string", "maxLength": 2},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 3}}}}}}}});
    let validator = Validator::new(&schema);
    let before = json!({"spec": {"old": "long", "list": [{"k": "a", "v": 9}, {"k": "b", "v": 1}]}});
    let mut after = before.clone();
    after["spec"]["new"] = "ok".into();
    after["spec"]["list"].as_array_mut().unwrap().reverse();
    assert_eq!(validator.object(&after, Some(&before)), []);
    assert_eq!(validator.object(&after, None).len(), 2);
    after["spec"]["list"][0]["v"] = 7.into();
    let errors = validator.object(&after, Some(&before));
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["spec.list[0].v: Invalid value: 7: spec.list[0].v in body should be less than or equal to 3"]
    );
}

#[test]
fn formats_are_as_upstream_has_them() {
    for (format, good, bad) in [
        ("ipv4", "1.2.3.4", "::1"),
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-01-01T00:00:00.5Z", "2024-01-01"),
        ("duration", "3 days", "soon"),
        ("email", "a@b.c", "a@"),
        ("uri", "http://a/b", "a b"),
        ("hostname", "a.example.com", "a_b."),
        ("mac", "00:11:22:33:44:55", "00:11"),
        ("uuid", "6b2f6c0e-0000-4000-8000-000000000000", "x"),
        ("uuid4", "6b2f6c0e-0000-4000-8000-000000000000", "6b2f6c0e-0000-1000-8000-000000000000"),
        ("byte", "aGk=", "?"),
        ("hexcolor", "#fff", "#ffff"),
        ("k8s-short-name", "a-b", "A"),
    ] {
        assert_eq!(
            (formats::check(format, good), formats::check(format, bad)),
            (Some(true), Some(false)),
            "{format}"
        );
    }
    assert_eq!(formats::check("unheard-of", "x"), None);
}
