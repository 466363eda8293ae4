//! The documents of custom resources, as upstream builds them from their definitions: the schema with what every object
//! has, a list type, and the paths of the served verbs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::operations::About;
use super::table::Table;
use super::{Options, paths};

/// One served version of a custom resource.
#[derive(Clone, Copy)]
pub struct Custom<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    pub kind: &'a str,
    pub list_kind: &'a str,
    pub namespaced: bool,
    /// `openAPIV3Schema`, null if there is none.
    pub schema: &'a Value,
    /// `spec.preserveUnknownFields`.
    pub preserve: bool,
    pub has_status: bool,
    pub has_scale: bool,
    /// JSON paths of selectable fields, without the first dot.
    pub selectable: &'a [String],
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// `com.example.v1.Widget`
pub fn type_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// Paths and own types of the document of a group-version, if it is one of custom resources.
pub fn document(
    table: &Table,
    path: &str,
    options: &Options,
) -> Option<(Map<String, Value>, BTreeMap<String, String>)> {
    let ["apis", group, version] = path.split('/').collect::<Vec<_>>()[..] else { return None };
    let mut resources = Vec::new();
    let mut types = BTreeMap::new();
    for custom in options.custom.iter().filter(|c| (c.group, c.version) == (group, version)) {
        resources.extend(custom.resources());
        for (kind, schema) in [(custom.kind, custom.schema(false)), (custom.list_kind, custom.list(false))] {
            types.insert(type_name(group, version, kind), schema.to_string());
        }
    }
    let paths = paths::group_version(table, options, group, version, &resources);
    (!types.is_empty()).then_some((paths, types))
}

/// A shared type as these documents show it: of the groups that the core's scheme knows.
pub fn narrow(schema: &str) -> String {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    const ELSEWHERE: [&str; 4] =
        ["admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io"];
    if !schema.contains(KINDS) {
        return schema.to_owned();
    }
    let Ok(mut value) = serde_json::from_str::<Value>(schema) else { return schema.to_owned() };
    if let Some(kinds) = value.get_mut(KINDS).and_then(Value::as_array_mut) {
        kinds.retain(|kind| !ELSEWHERE.iter().any(|group| kind["group"] == *group));
    }
    value.to_string()
}

impl Custom<'_> {
    fn resources(&self) -> Vec<About<'_>> {
        let about = |subresource, kind, kind_group, kind_version, verbs| About {
            name: self.plural,
            subresource,
            kind,
            kind_group,
            kind_version,
            list_kind: self.list_kind.to_owned(),
            namespaced: self.namespaced,
            verbs,
            custom: true,
        };
        let some = vec!["get", "patch", "update"];
        let all = [&some[..], &["create", "delete", "deletecollection", "list", "watch"]].concat();
        let mut out = vec![about("", self.kind, self.group, self.version, all)];
        if self.has_status {
            out.push(about("status", self.kind, self.group, self.version, some.clone()));
        }
        if self.has_scale {
            out.push(about("scale", "Scale", "autoscaling", "v1", some));
        }
        out
    }

    fn extensions(&self, schema: &mut Value, kind: &str) {
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": self.group, "kind": kind, "version": self.version}]);
        if !self.selectable.is_empty() {
            let paths: Vec<Value> = self.selectable.iter().map(|path| json!({"fieldPath": path})).collect();
            schema["x-kubernetes-selectable-fields"] = paths.into();
        }
    }

    /// The type of the objects. v2 has fewer words: no choices, no defaults, nothing where unknown fields are kept.
    pub fn schema(&self, v2: bool) -> Value {
        let keeps_all = self.preserve || self.schema.get(PRESERVE) == Some(&Value::Bool(true));
        let mut out = match self.schema {
            Value::Object(_) if !(v2 && keeps_all) => {
                let mut schema = self.schema.clone();
                if v2 {
                    reduce(&mut schema)
                } else {
                    unfold(&mut schema)
                }
                schema["properties"]["metadata"] = meta("ObjectMeta", METADATA, v2);
                schema["properties"]["apiVersion"] = json!({"description": API_VERSION, "type": "string"});
                schema["properties"]["kind"] = json!({"description": KIND, "type": "string"});
                embed(&mut schema, v2);
                schema
            }
            _ => json!({"type": "object"}),
        };
        self.extensions(&mut out, self.kind);
        out
    }

    pub fn list(&self, v2: bool) -> Value {
        let item = format!("{}{}", prefix(v2), type_name(self.group, self.version, self.kind));
        let items = format!(
            "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
            self.plural
        );
        let mut out = json!({
            "description": format!("{} is a list of {}", self.list_kind, self.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"description": API_VERSION, "type": "string"},
                "items": {"description": items, "type": "array", "items": {"$ref": item}},
                "kind": {"description": KIND, "type": "string"},
                "metadata": meta("ListMeta", LIST_METADATA, v2),
            },
        });
        self.extensions(&mut out, self.list_kind);
        out
    }
}

fn prefix(v2: bool) -> &'static str {
    if v2 { "#/definitions/" } else { "#/components/schemas/" }
}

fn meta(kind: &str, description: &str, v2: bool) -> Value {
    let reference = format!("{}{META}.{kind}", prefix(v2));
    match v2 {
        true => json!({"description": description, "$ref": reference}),
        false => json!({"description": description, "allOf": [{"$ref": reference}]}),
    }
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// The schemas directly below one, but for those in allOf and its like.
fn children(schema: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = schema.as_object_mut().into_iter().flatten();
    fields
        .flat_map(|(key, value)| match (key.as_str(), value) {
            ("properties", Value::Object(map)) => map.values_mut().collect::<Vec<_>>(),
            ("items" | "additionalProperties", value) => vec![value],
            _ => Vec::new(),
        })
        .filter(|child| child.is_object())
}

/// What `x-kubernetes-int-or-string` means, in words that every reader knows.
fn unfold(schema: &mut Value) {
    if is_set(schema, "x-kubernetes-int-or-string") {
        let choice = json!([{"type": "integer"}, {"type": "string"}]);
        let has = |at: Option<&Value>| at.is_some_and(|any| *any == choice);
        let nested = schema.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
        if !has(schema.get("anyOf")) && !has(nested) {
            match schema.get("anyOf").cloned() {
                None => schema["anyOf"] = choice,
                Some(any) => {
                    let mut all = vec![json!({"anyOf": choice}), json!({"anyOf": any})];
                    all.extend(schema.get("allOf").and_then(Value::as_array).into_iter().flatten().cloned());
                    schema["allOf"] = all.into();
                    schema.as_object_mut().and_then(|s| s.remove("anyOf"));
                }
            }
        }
    }
    drop_empty(schema);
    children(schema).for_each(unfold);
}

/// Extensions and flags that are false are as good as absent.
fn drop_empty(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        fields.retain(|key, value| {
            !(value.is_null()
                || (*value == Value::Bool(false) && key != "additionalProperties" && key != "default"))
        });
    }
}

/// What is left of a schema in v2, so that kubectl's validation of old does not refuse valid objects.
fn reduce(schema: &mut Value) {
    let (nullable, keeps) = (is_set(schema, "nullable"), is_set(schema, PRESERVE));
    let nullable_child = |child: &Value| is_set(child, "nullable");
    let optional: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, child)| nullable_child(child))
        .map(|(name, _)| name.clone())
        .collect();
    let free_map = schema.get("additionalProperties").is_some_and(nullable_child);
    drop_empty(schema);
    let Value::Object(fields) = schema else { return };
    for key in ["allOf", "oneOf", "anyOf", "not", "nullable", "default"] {
        fields.remove(key);
    }
    if nullable || keeps {
        for key in ["items", "properties"] {
            fields.remove(key);
        }
    }
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("");
    if nullable || (kind == "array" && !fields.contains_key("items")) || (keeps && kind == "object") {
        fields.remove("type");
    }
    if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !free_map && !optional.iter().any(|o| name.as_str() == Some(o)));
        if required.is_empty() {
            fields.remove("required");
        }
    }
    children(schema).for_each(reduce);
}

/// Whole objects within objects have a kind, a version and metadata.
fn embed(schema: &mut Value, v2: bool) {
    let is_meta = |schema: &Value| schema.get("$ref").is_some() || schema.get("allOf").is_some();
    children(schema).filter(|child| !is_meta(child)).for_each(|child| embed(child, v2));
    if !is_set(schema, "x-kubernetes-embedded-resource") || (v2 && is_set(schema, PRESERVE)) {
        return;
    }
    schema["properties"]["apiVersion"] = json!({"description": EMBEDDED_API_VERSION, "type": "string"});
    schema["properties"]["kind"] = json!({"description": EMBEDDED_KIND, "type": "string"});
    schema["properties"]["metadata"] = meta("ObjectMeta", METADATA, v2);
    let mut required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|r| r == name) {
            required.push(name.into());
        }
    }
    schema["required"] = required.into();
}
