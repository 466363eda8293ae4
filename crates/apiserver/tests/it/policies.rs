//! Admission policies and webhooks, and definitions with rules and conversion.

use serde_json::{Value, json};

use crate::hook::Hook;
use crate::support::{MAPS, Server, config_map, server};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

async fn made(server: &Server, path: &str, body: Value) {
    let (status, answer) = server.post(path, body).await;
    assert_eq!(status, 201, "{answer}");
}

fn rules(resources: &[&str]) -> Value {
    json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}])
}

#[tokio::test]
async fn a_validating_policy_denies_warns_and_takes_parameters() {
    let server = server().await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": rules(&["configmaps"])},
            "matchConditions": [{"name": "not-params", "expression": "object.metadata.name != 'params'"}],
            "variables": [{"name": "size", "expression": "size(object.data)"}],
            "validations": [{"expression": "variables.size <= int(params.data.most)",
                "messageExpression": "'at most ' + params.data.most", "reason": "Forbidden"}]}});
    made(&server, &format!("{POLICIES}/validatingadmissionpolicies"), policy).await;
    let mut params = config_map("params");
    params["data"] = json!({"most": "1"});
    made(&server, MAPS, params).await;
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"],
            "paramRef": {"name": "params", "parameterNotFoundAction": "Deny"}}});
    made(&server, &format!("{POLICIES}/validatingadmissionpolicybindings"), binding).await;
    made(&server, MAPS, config_map("small")).await;
    let mut large = config_map("large");
    large["data"]["b"] = json!("2");
    let (status, answer) = server.post(MAPS, large).await;
    assert_eq!(status, 403, "{answer}");
    let want = "configmaps \"large\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: at most 1";
    assert_eq!(answer["message"], want);
}

#[tokio::test]
async fn a_policy_asks_the_authorizer() {
    let server = server().await;
    let asks = |name: &str, check: &str| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {
                "matchConstraints": {"resourceRules": rules(&["configmaps"])},
                "matchConditions": [{"name": "c", "expression": format!("object.metadata.name == '{name}' && {check}")}],
                "variables": [{"name": "may", "expression": check}],
                "validations": [{"expression": "!variables.may", "message": name}]}})
    };
    let checks = [
        ("resource", "authorizer.requestResource.check('delete').allowed()"),
        ("group", "authorizer.group('apps').resource('deployments').namespace('x').check('get').allowed()"),
        ("path", "authorizer.path('/healthz').check('get').reason() == ''"),
        (
            "account",
            "!authorizer.serviceAccount('x', 'y').group('').resource('pods').subresource('log').check('get').allowed()",
        ),
        ("error", "!authorizer.group('').resource('pods').labelSelector('a=b').check('list').errored()"),
    ];
    for (name, check) in checks {
        made(&server, &format!("{POLICIES}/validatingadmissionpolicies"), asks(name, check)).await;
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}});
        made(&server, &format!("{POLICIES}/validatingadmissionpolicybindings"), binding).await;
        let (status, answer) = server.post(MAPS, config_map(name)).await;
        assert_eq!(status, 422, "{answer}");
        let denied =
            format!("ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {name}");
        assert!(answer["message"].as_str().unwrap().ends_with(&denied), "{answer}");
    }
}

#[tokio::test]
async fn a_mutating_policy_applies_and_patches() {
    let server = server().await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": rules(&["configmaps"])},
            "mutations": [
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                    "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}}"}},
                {"patchType": "JSONPatch", "jsonPatch": {"expression":
                    "[JSONPatch{op: 'add', path: '/data/n', value: string(size(object.data))}]"}}]}});
    made(&server, &format!("{POLICIES}/mutatingadmissionpolicies"), policy).await;
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    made(&server, &format!("{POLICIES}/mutatingadmissionpolicybindings"), binding).await;
    let (status, answer) = server.post(MAPS, config_map("a")).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["metadata"]["labels"], json!({"by": "admin"}));
    assert_eq!(answer["data"], json!({"a": "1", "n": "1"}));
}

#[tokio::test]
async fn expressions_that_do_not_compile_are_refused() {
    let server = server().await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": rules(&["configmaps"])},
            "validations": [{"expression": "1"}]}});
    let (status, answer) = server.post(&format!("{POLICIES}/validatingadmissionpolicies"), policy).await;
    assert_eq!(status, 422, "{answer}");
    let message = &answer["details"]["causes"][0]["message"];
    assert_eq!(message, "Invalid value: \"1\": must evaluate to bool but got int");
}

#[tokio::test]
async fn webhooks_change_and_refuse() {
    let server = server().await;
    let hook = Hook::start(|path, review| {
        let uid = review["request"]["uid"].clone();
        let response = if path.starts_with("/mutate") {
            use base64::Engine;
            let patch = br#"[{"op":"add","path":"/data/hooked","value":"yes"}]"#;
            let patch = base64::engine::general_purpose::STANDARD.encode(patch);
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch, "warnings": ["w"]})
        } else {
            let fine = review["request"]["object"]["data"]["a"] == "1";
            json!({"uid": uid, "allowed": fine, "status": {"code": 403, "reason": "Forbidden", "message": "no"}})
        };
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    })
    .await;
    let configuration = |kind: &str, path: &str| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "c"},
            "webhooks": [{"name": "w.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": hook.client(path), "rules": rules(&["configmaps"]),
                "matchConditions": [{"name": "n", "expression": "object.metadata.name.startsWith('h')"}]}]})
    };
    let body = configuration("MutatingWebhookConfiguration", "/mutate");
    made(&server, &format!("{POLICIES}/mutatingwebhookconfigurations"), body).await;
    let body = configuration("ValidatingWebhookConfiguration", "/validate");
    made(&server, &format!("{POLICIES}/validatingwebhookconfigurations"), body).await;
    let (_, answer) = server.post(MAPS, config_map("h1")).await;
    assert_eq!(answer["data"], json!({"a": "1", "hooked": "yes"}), "{answer}");
    let (_, answer) = server.post(MAPS, config_map("other")).await;
    assert_eq!(answer["data"], json!({"a": "1"}), "{answer}");
    let mut bad = config_map("h2");
    bad["data"]["a"] = json!("2");
    let (status, answer) = server.post(MAPS, bad).await;
    assert_eq!(
        (status, &answer["message"]),
        (403, &json!("admission webhook \"w.example.com\" denied the request: no"))
    );
    let (status, answer) = server.post(&format!("{MAPS}?dryRun=All"), config_map("h3")).await;
    assert_eq!(status, 201, "{answer}");
}

fn definition(versions: Value, conversion: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"}, "versions": versions, "conversion": conversion}})
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[tokio::test]
async fn rules_of_definitions_hold_and_ratchet() {
    let server = server().await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [{"rule": "self.low <= self.high", "message": "low above high"}],
        "properties": {"low": {"type": "integer", "default": 1}, "high": {"type": "integer"}, "x": {"type": "string"}}}}}});
    let versions = json!([{"name": "v1", "served": true, "storage": true, "schema": schema}]);
    made(&server, DEFINITIONS, definition(versions, json!({"strategy": "None"}))).await;
    let path = "/apis/example.com/v1/namespaces/default/things";
    let thing = |high: i64| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"high": high}});
    let (status, answer) = server.post(path, thing(0)).await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["message"], "Thing.example.com \"a\" is invalid: spec: Invalid value: low above high");
    made(&server, path, thing(5)).await;
    let (status, answer) = server.merge(&format!("{path}/a"), json!({"spec": {"low": 6}})).await;
    assert_eq!(status, 422, "{answer}");
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let server = server().await;
    let hook = Hook::start(|_, review| {
        let request = &review["request"];
        let wanted = request["desiredAPIVersion"].as_str().unwrap();
        let convert = |object: &Value| {
            let mut new = object.clone();
            new["apiVersion"] = json!(wanted);
            let (from, to) = if wanted.ends_with("v2") { ("port", "host") } else { ("host", "port") };
            if let Some(value) = new["spec"].as_object_mut().and_then(|s| s.remove(from)) {
                new["spec"][to] = json!(format!("{}!", value.as_str().unwrap()));
            }
            new
        };
        let objects: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
        json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects}})
    })
    .await;
    let schema = |field: &str| {
        json!({"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": {field: {"type": "string"}}}}}})
    };
    let versions = |stored: &str| {
        json!([
            {"name": "v1", "served": true, "storage": stored == "v1", "schema": schema("port")},
            {"name": "v2", "served": true, "storage": stored == "v2", "schema": schema("host")}])
    };
    let conversion = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": hook.client("/convert")}});
    made(&server, DEFINITIONS, definition(versions("v1"), conversion)).await;
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/things");
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"},
        "spec": {"port": "x"}});
    made(&server, &path("v1"), thing).await;
    let (_, answer) = server.get(&format!("{}/a", path("v2"))).await;
    assert_eq!(answer["spec"], json!({"host": "x!"}), "{answer}");
    // objects of both versions in the store
    let (status, answer) = server
        .merge(&format!("{DEFINITIONS}/things.example.com"), json!({"spec": {"versions": versions("v2")}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["status"]["storedVersions"], json!(["v1", "v2"]));
    let thing = json!({"apiVersion": "example.com/v2", "kind": "Thing", "metadata": {"name": "b"},
        "spec": {"host": "y"}});
    made(&server, &path("v2"), thing).await;
    let (_, answer) = server.get(&path("v2")).await;
    let specs: Vec<&Value> = answer["items"].as_array().unwrap().iter().map(|i| &i["spec"]).collect();
    assert_eq!(specs, [&json!({"host": "x!"}), &json!({"host": "y"})]);
    let (_, answer) = server.get(&path("v1")).await;
    let specs: Vec<&Value> = answer["items"].as_array().unwrap().iter().map(|i| &i["spec"]).collect();
    assert_eq!(specs, [&json!({"port": "x"}), &json!({"port": "y!"})]);
}
