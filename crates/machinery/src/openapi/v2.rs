//! OpenAPI v2, turned out of the v3 pieces: bodies become parameters, media types lists, schemas lose what v2 cannot
//! say (defaults, oneOf).

use serde_json::{Map, Value, json};

use std::collections::BTreeMap;
use std::fmt::Write;

use super::table::Table;
use super::{Options, closure, custom, paths, v3_paths};

pub fn document(table: &Table, options: &Options) -> String {
    let shared: Vec<(String, Value)> = table
        .shared_parameters()
        .filter_map(|(name, json)| Some((name.to_owned(), serde_json::from_str(json).ok()?)))
        .collect();
    let mut types = BTreeMap::new();
    for custom in options.custom {
        for (kind, schema) in [(custom.kind, custom.schema(true)), (custom.list_kind, custom.list(true))] {
            types.insert(custom::type_name(custom.group, custom.version, kind), schema.to_string());
        }
    }
    // as text, piece by piece: the whole as a tree would be some 50 MB
    let mut out = String::from("{\"swagger\":\"2.0\",\"info\":");
    let _ = write!(out, "{}", json!({"title": "Kubernetes", "version": options.version}));
    out.push_str(",\"paths\":{");
    let start = out.len();
    for path in v3_paths(options) {
        let own = custom::document(table, &path, options).map(|(paths, _)| paths);
        let builtin = || paths::document(table, &path, options).map(|(_, paths)| paths);
        for (path, item) in own.or_else(builtin).into_iter().flatten() {
            let comma = if out.len() == start { "" } else { "," };
            let _ = write!(out, "{comma}{}:{}", Value::from(path), path_item(item, &shared));
        }
    }
    let all_paths = &out[start..];
    let used: Vec<(String, Value)> = shared
        .iter()
        .filter(|(name, _)| all_paths.contains(&format!("\"#/parameters/{name}\"")))
        .cloned()
        .collect();
    let parameters = Value::Object(Map::from_iter(used));
    let text = format!("{all_paths}{parameters}");
    let mut definitions = String::new();
    // the types of custom resources name other types in v2's way
    let linked = types.values().fold(text, |text, schema| text + schema);
    let none = BTreeMap::new();
    let mut names: Vec<&str> = closure(table, &none, &linked, "\"#/definitions/").into_iter().collect();
    names.extend(types.keys().map(String::as_str));
    names.sort_unstable();
    for name in names {
        let comma = if definitions.is_empty() { "" } else { "," };
        let schema = match types.get(name) {
            Some(own) => own.clone(),
            None => {
                let schema = table.schema(name).and_then(|json| serde_json::from_str(json).ok());
                simplify(schema.unwrap_or_default()).to_string()
            }
        };
        let _ = write!(definitions, "{comma}{}:{schema}", Value::from(name));
    }
    let security = json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }});
    let _ = write!(
        out,
        "}},\"definitions\":{{{definitions}}},\"parameters\":{parameters},\"securityDefinitions\":{security},\"security\":[{{\"BearerToken\":[]}}]}}"
    );
    out
}

/// A schema without what v2 lacks.
fn simplify(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let mut out = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "default" => {}
            "oneOf" => {
                // Whatever the choice, v2 calls it a string.
                out.insert("type".into(), "string".into());
            }
            "allOf" => {
                let reference = value.get(0).cloned().map(simplify);
                out.extend(reference.and_then(|r| r.as_object().cloned()).into_iter().flatten());
            }
            "$ref" => {
                let name = value.as_str().and_then(|v| v.rsplit('/').next()).unwrap_or("");
                out.insert(key, format!("#/definitions/{name}").into());
            }
            "properties" => {
                let fields = value.as_object().cloned().unwrap_or_default();
                let fields: Map<String, Value> = fields.into_iter().map(|(k, v)| (k, simplify(v))).collect();
                out.insert(key, fields.into());
            }
            "items" | "additionalProperties" => {
                out.insert(key, simplify(value));
            }
            _ => {
                out.insert(key, value);
            }
        }
    }
    Value::Object(out)
}

fn path_item(item: Value, shared: &[(String, Value)]) -> Value {
    let Value::Object(item) = item else { return item };
    let mut out = Map::new();
    for (key, value) in item {
        let converted = match key.as_str() {
            "parameters" => parameters(value, None, shared),
            _ => operation(value, shared),
        };
        out.insert(key, converted);
    }
    Value::Object(out)
}

fn operation(operation: Value, shared: &[(String, Value)]) -> Value {
    let Value::Object(mut out) = operation else { return operation };
    out.insert("schemes".into(), json!(["https"]));
    let request = out.remove("requestBody");
    let own = out.remove("parameters").unwrap_or_else(|| json!([]));
    let own = parameters(own, request.as_ref(), shared);
    if own.as_array().is_some_and(|own| !own.is_empty()) {
        out.insert("parameters".into(), own);
    }
    let mut produces = Value::Null;
    if let Some(responses) = out.get_mut("responses").and_then(Value::as_object_mut) {
        for response in responses.values_mut() {
            let Some(content) = response.as_object_mut().and_then(|r| r.remove("content")) else { continue };
            let Value::Object(content) = content else { continue };
            if let Some(media) = content.values().next() {
                response["schema"] = simplify(media["schema"].clone());
            }
            produces = in_order(content.keys().map(String::as_str));
        }
    }
    if !produces.is_null() {
        let consumes = match (&request, out.contains_key("x-kubernetes-action")) {
            (Some(request), _) => in_order(
                request["content"].as_object().into_iter().flat_map(|c| c.keys()).map(String::as_str),
            ),
            // a custom resource's routes all take what they give
            (None, true) if produces.as_array().is_some_and(|media| media.len() == 2) => produces.clone(),
            (None, true) => json!(["*/*"]),
            (None, false) => produces.clone(),
        };
        // The issuer's documents say nothing of what they consume.
        if out["tags"] != json!(["openid"]) && out["tags"] != json!(["WellKnown"]) {
            out.insert("consumes".into(), consumes);
        }
        out.insert("produces".into(), produces);
    }
    Value::Object(out)
}

/// Media types in the order in which upstream names them.
fn in_order<'a>(media: impl Iterator<Item = &'a str>) -> Value {
    const ORDER: &[&str] = &[
        "text/plain",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "application/apply-patch+cbor",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/cbor",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf;stream=watch",
        "application/cbor-seq",
    ];
    let mut media: Vec<&str> = media.collect();
    media.sort_by_key(|media| ORDER.iter().position(|known| known == media));
    media.into()
}

/// Parameters in v2's form, with the body among them; those that are shared as references.
fn parameters(list: Value, request: Option<&Value>, shared: &[(String, Value)]) -> Value {
    let mut all: Vec<Value> = Vec::new();
    if let Some(content) = request.and_then(|r| r["content"].as_object())
        && let Some(media) = content.values().next()
    {
        let mut body = json!({"in": "body", "name": "body", "schema": simplify(media["schema"].clone())});
        if request.is_some_and(|r| r["required"] == true) {
            body["required"] = true.into();
        }
        all.push(body);
    }
    for mut parameter in list.as_array().cloned().unwrap_or_default() {
        if let Some(Value::Object(schema)) = parameter.as_object_mut().and_then(|p| p.remove("schema")) {
            for (key, value) in schema {
                parameter[key.as_str()] = value;
            }
        }
        all.push(parameter);
    }
    all.into_iter()
        .map(|parameter| match shared.iter().find(|(_, definition)| *definition == parameter) {
            Some((name, _)) => json!({"$ref": format!("#/parameters/{name}")}),
            None => parameter,
        })
        .collect()
}
