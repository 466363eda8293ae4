//! `recorded.jsonl`: expressions with what cel-go, in the environment that Kubernetes 1.36 sets up, says of them: the
//! errors' text, the type, least and most estimated cost, the value or the error, the cost of the evaluation.

use cel::{
    Activation, Authz, Check, Decision, DeclType, Env, EvalError, Schema, Timestamp, Type, Value, Version,
};
use serde_json::{Map, Value as Json, json};

static RECORDED: &str = include_str!("recorded.jsonl");

#[test]
fn as_upstream() {
    let mut contexts = Vec::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for line in RECORDED.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        if case.get("context").is_some() {
            contexts.push(case);
            continue;
        }
        count += 1;
        let context = &contexts[case["in"].as_u64().unwrap() as usize];
        let got = run(context, &case);
        if got != case["want"] {
            wrong.push(format!("{}\n  want {}\n  got  {got}", case["expr"], case["want"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

struct Given<'a>(Vec<(String, Result<Value<'a>, EvalError>)>);

impl<'a> Activation<'a> for Given<'a> {
    fn variable(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn authorize(&self, check: &Check) -> Decision {
        if check.name == "err" || check.path == "/err" {
            return Decision { error: Some("boom".into()), ..Decision::default() };
        }
        if check.verb == "get" {
            return Decision { allowed: true, reason: "ok".into(), error: None };
        }
        let account = check.service_account.as_ref();
        let user = account.map_or("me".into(), |(ns, name)| format!("system:serviceaccount:{ns}:{name}"));
        let c = check;
        let parts = [&user, &c.verb, &c.namespace, &c.group, &c.resource, &c.subresource, &c.name, &c.path];
        let reason = format!("no: {}", parts.map(String::as_str).join("|"));
        Decision { allowed: false, reason, error: None }
    }
}

fn run(context: &Json, case: &Json) -> Json {
    let version = context["ver"].as_u64().unwrap_or(36);
    let mut env = Env::builder(Version(u16::try_from(version).unwrap()));
    let none = Map::new();
    let map = |key: &str| context[key].as_object().unwrap_or(&none);
    for (name, ty) in map("vars") {
        env = env.variable(name, parse_type(ty.as_str().unwrap()));
    }
    let root = context["root"] == true;
    let schemas: Vec<(&String, _)> =
        map("schema").iter().map(|(name, json)| (name, Schema::new(json))).collect();
    for (name, schema) in &schemas {
        let declared = DeclType::from_schema(schema, root, &format!("T_{name}")).unwrap();
        env = env.typed_variable(name, &declared);
    }
    if context["patch"] == true {
        env = env.patch_types();
    }
    let program = match env.build().compile(case["expr"].as_str().unwrap()) {
        Ok(program) => program,
        Err(issues) => return json!({"issues": issues.to_string()}),
    };
    let cost = program.estimated_cost();
    let mut out = json!({"type": program.output_type().to_string(), "cost": [cost.min, cost.max]});
    if let Some(defect) = program.defect() {
        out["err"] = format!("prog: {defect}").into();
        return out;
    }
    let mut given = Given(Vec::new());
    for (name, ty) in map("vars") {
        let authz = match ty.as_str() {
            Some("authorizer") => Authz::Authorizer { service_account: None },
            Some("resourcecheck") => Authz::Resource(Box::new(Check {
                group: "g".into(),
                version: "*".into(),
                resource: "rs".into(),
                subresource: "sub".into(),
                namespace: "ns".into(),
                name: "nm".into(),
                ..Check::default()
            })),
            _ => continue,
        };
        given.0.push((name.clone(), Ok(Value::Authz(authz.into()))));
    }
    for (name, json) in map("values") {
        let value = match schemas.iter().find(|(known, _)| *known == name) {
            Some((_, schema)) => Value::from_json(json, schema),
            None => Ok(Value::from_dynamic(json)),
        };
        given.0.push((name.clone(), value));
    }
    let outcome = program.eval(&given, case["limit"].as_u64().unwrap_or(u64::MAX));
    out["actual"] = outcome.cost.into();
    match outcome.value {
        Ok(value) => out["value"] = show(&value).into(),
        Err(error) => out["err"] = error.to_string().into(),
    }
    out
}

fn parse_type(text: &str) -> Type {
    match text {
        "dyn" => Type::Dyn,
        "authorizer" => Type::object("kubernetes.authorization.Authorizer"),
        "resourcecheck" => Type::object("kubernetes.authorization.ResourceCheck"),
        "bool" => Type::Bool,
        "int" => Type::Int,
        "optional(dyn)" => Type::optional(Type::Dyn),
        other => panic!("{other}"),
    }
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => format!("{n}u"),
        Value::Double(n) => format!("double {n}"),
        // as Go's encoder escapes
        Value::String(text) => {
            let text = serde_json::to_string(&**text).unwrap();
            text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        Value::Bytes(bytes) => {
            format!("bytes {}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
        }
        Value::Timestamp(at) => format!("ts {}", Timestamp { offset: 0, ..*at }),
        Value::Duration(nanos) => format!("dur {nanos}"),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| show(&item.unwrap())).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entry = |key: &Value<'_>| format!("{}: {}", show(key), show(&map.get(key).unwrap().unwrap()));
            let mut entries: Vec<String> = map.keys().iter().map(entry).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Type(ty) => format!("type {}", ty.name()),
        Value::Optional(None) => "none".into(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        other => format!("{other:?}"),
    }
}
