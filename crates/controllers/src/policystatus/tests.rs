use cel::{DeclType, Schema};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy as Policy;
use serde_json::{Value, json};

use super::check::check;
use super::kinds::{Kind, Served, kinds, params};

fn policy(spec: Value) -> Policy {
    serde_json::from_value(json!({"metadata": {"name": "p", "generation": 1}, "spec": spec})).unwrap()
}

fn served(group: &str, version: &str, plural: &str, kind: &str) -> Served {
    let of = Kind { group: group.into(), version: version.into(), kind: kind.into() };
    Served { of, plural: plural.into(), singular: kind.to_lowercase() }
}

fn found(rules: Value, served: &[Served]) -> Vec<String> {
    let policy = policy(json!({"matchConstraints": {"resourceRules": rules}}));
    kinds(&policy, served).iter().map(ToString::to_string).collect()
}

fn rule(groups: &[&str], versions: &[&str], resources: &[&str]) -> Value {
    json!({"apiGroups": groups, "apiVersions": versions, "operations": ["*"], "resources": resources})
}

#[test]
fn kinds_are_those_that_are_named() {
    let all = [
        served("", "v1", "pods", "Pod"),
        served("", "v1", "events", "Event"),
        served("events.k8s.io", "v1", "events", "Event"),
        served("apps", "v1", "deployments", "Deployment"),
        served("apps", "v1beta1", "deployments", "Deployment"),
    ];
    let cases: &[(Value, &[&str])] = &[
        (json!([]), &[]),
        (json!([rule(&["apps"], &["v1"], &["deployments"])]), &["apps/v1, Kind=Deployment"]),
        (json!([rule(&["apps"], &["v1"], &["Deployment", "x"])]), &["apps/v1, Kind=Deployment"]),
        (json!([rule(&["apps"], &["v1"], &["deploymentlists"])]), &["apps/v1, Kind=DeploymentList"]),
        (
            json!([rule(&["apps"], &["v1beta1", "v1"], &["deployments"])]),
            &["apps/v1, Kind=Deployment", "apps/v1beta1, Kind=Deployment"],
        ),
        (json!([rule(&["apps", "*"], &["v1"], &["deployments"])]), &[]),
        (json!([rule(&["apps"], &["*"], &["deployments"])]), &[]),
        (json!([rule(&[""], &["v1"], &["*", "pods/log", "pods"])]), &["/v1, Kind=Pod"]),
        // without a group, a REST mapper looks in all of them
        (json!([rule(&[""], &["v1"], &["events"])]), &["/v1, Kind=Event", "events.k8s.io/v1, Kind=Event"]),
        (
            json!([rule(&["apps"], &["v1"], &["deployments"]), rule(&[""], &["v1"], &["pods"])]),
            &["/v1, Kind=Pod", "apps/v1, Kind=Deployment"],
        ),
    ];
    for (rules, wanted) in cases {
        assert_eq!(found(rules.clone(), &all), *wanted, "{rules}");
    }
}

#[test]
fn ten_kinds_are_enough() {
    let names: Vec<String> = (10..30).map(|n| format!("kind{n}")).collect();
    let all: Vec<Served> = names.iter().map(|name| served("g", "v1", name, name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let later = rule(&["g"], &["v1"], &names[15..]);
    let found =
        found(json!([rule(&["g"], &["v1"], &names[..1]), rule(&["g"], &["v1"], &names), later]), &all);
    assert_eq!(found.len(), 10);
    assert_eq!(found[9], "g/v1, Kind=kind19");
}

#[test]
fn parameters() {
    let of = |api: &str| {
        params(&policy(json!({"paramKind": {"apiVersion": api, "kind": "K"}}))).map(|k| k.to_string())
    };
    assert_eq!(of("v1").as_deref(), Some("/v1, Kind=K"));
    assert_eq!(of("g/v1").as_deref(), Some("g/v1, Kind=K"));
    assert_eq!(of("g/v1/x"), None);
    assert_eq!(params(&policy(json!({}))), None);
}

fn widget(name: &str) -> Option<DeclType> {
    let schema = Schema::new(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}},
        }},
    }}));
    DeclType::from_schema(&schema, true, name)
}

fn warnings(spec: Value, with_params: bool) -> Vec<(String, String)> {
    let kind = Kind { group: "g".into(), version: "v1".into(), kind: "Widget".into() };
    let other = Kind { group: "h".into(), ..kind.clone() };
    let objects = vec![(kind, widget("Widget1")), (other, None)];
    let params = with_params.then(|| widget("Widget2"));
    let found = check(&policy(spec), objects, params);
    found.into_iter().map(|w| (w.field_ref, w.warning)).collect()
}

#[test]
fn warnings_are_by_expression_and_kind() {
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas > 1", "messageExpression": "1"},
        {"expression": "true", "messageExpression": "object.spec.x"},
        {"expression": "object.spec.replicas == 'x' || y"},
    ]});
    let undefined =
        "g/v1, Kind=Widget: ERROR: <input>:1:12: undefined field 'x'\n | object.spec.x\n | ...........^\n";
    let second = " | object.spec.replicas == 'x' || y\n";
    let place = " | ...............................^\n";
    let undeclared =
        format!("ERROR: <input>:1:32: undeclared reference to 'y' (in container '')\n{second}{place}");
    let wrong = format!(
        "g/v1, Kind=Widget: ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(int, string)'\n\
         {second} | .....................^\n{undeclared}\nh/v1, Kind=Widget: {undeclared}"
    );
    assert_eq!(
        warnings(spec, false),
        [
            ("spec.validations[1].messageExpression".to_owned(), undefined.to_owned()),
            ("spec.validations[2].expression".to_owned(), wrong),
        ]
    );
}

#[test]
fn variables_have_types() {
    let with = |expression: &str, params| {
        let variables = json!([
            {"name": "names", "expression": "object.spec.names"},
            {"name": "first", "expression": "variables.names[0]"},
            {"name": "bad", "expression": "object.nothing"},
        ]);
        let found =
            warnings(json!({"variables": variables, "validations": [{"expression": expression}]}), params);
        found.into_iter().map(|(_, text)| text.lines().next().unwrap().to_owned()).next()
    };
    assert_eq!(with("variables.first.startsWith('x') && variables.bad.any.thing", false), None);
    let cases = [
        (
            "variables.first > 1",
            false,
            "1:17: found no matching overload for '_>_' applied to '(string, int)'",
        ),
        ("variables.other", false, "1:10: undefined field 'other'"),
        ("params.spec.replicas", false, "1:1: undeclared reference to 'params' (in container '')"),
        ("params.spec.x", true, "1:12: undefined field 'x'"),
        (
            "object == params",
            true,
            "1:8: found no matching overload for '_==_' applied to '(Widget1, Widget2)'",
        ),
        (
            "authorizer.requestResource.check('get').allowed()",
            false,
            "1:11: unexpected failed resolution of 'kubernetes.authorization.Authorizer'",
        ),
    ];
    for (expression, params, wanted) in cases {
        assert_eq!(
            with(expression, params),
            Some(format!("g/v1, Kind=Widget: ERROR: <input>:{wanted}")),
            "{expression}"
        );
    }
}
