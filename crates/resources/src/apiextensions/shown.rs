//! Parts of a definition as upstream's messages show them: its internal structs as JSON, with Go's field names.

use machinery::{Get, Value};
use serde_json::json;

use crate::gostruct::{Zero, show, show_with};

use super::version::Common;

type Fields = &'static [(&'static str, &'static str, Zero)];

const RULE: Fields = &[
    ("Rule", "rule", Zero::Text),
    ("Message", "message", Zero::Text),
    ("MessageExpression", "messageExpression", Zero::Text),
    ("Reason", "reason", Zero::Null),
    ("FieldPath", "fieldPath", Zero::Text),
    ("OptionalOldSelf", "optionalOldSelf", Zero::Null),
];

const COLUMN: Fields = &[
    ("Name", "name", Zero::Text),
    ("Type", "type", Zero::Text),
    ("Format", "format", Zero::Text),
    ("Description", "description", Zero::Text),
    ("Priority", "priority", Zero::Number),
    ("JSONPath", "jsonPath", Zero::Text),
];

/// (Go's name, JSON name, how absence shows) of a schema's fields.
pub(super) const SCHEMA: &[(&str, &str, &str)] = &[
    ("ID", "id", "\"\""),
    ("Schema", "$schema", "\"\""),
    ("Ref", "$ref", "null"),
    ("Description", "description", "\"\""),
    ("Type", "type", "\"\""),
    ("Nullable", "nullable", "false"),
    ("Format", "format", "\"\""),
    ("Title", "title", "\"\""),
    ("Default", "default", "null"),
    ("Maximum", "maximum", "null"),
    ("ExclusiveMaximum", "exclusiveMaximum", "false"),
    ("Minimum", "minimum", "null"),
    ("ExclusiveMinimum", "exclusiveMinimum", "false"),
    ("MaxLength", "maxLength", "null"),
    ("MinLength", "minLength", "null"),
    ("Pattern", "pattern", "\"\""),
    ("MaxItems", "maxItems", "null"),
    ("MinItems", "minItems", "null"),
    ("UniqueItems", "uniqueItems", "false"),
    ("MultipleOf", "multipleOf", "null"),
    ("Enum", "enum", "null"),
    ("MaxProperties", "maxProperties", "null"),
    ("MinProperties", "minProperties", "null"),
    ("Required", "required", "null"),
    ("Items", "items", "null"),
    ("AllOf", "allOf", "null"),
    ("OneOf", "oneOf", "null"),
    ("AnyOf", "anyOf", "null"),
    ("Not", "not", "null"),
    ("Properties", "properties", "null"),
    ("AdditionalProperties", "additionalProperties", "null"),
    ("PatternProperties", "patternProperties", "null"),
    ("Dependencies", "dependencies", "null"),
    ("AdditionalItems", "additionalItems", "null"),
    ("Definitions", "definitions", "null"),
    ("ExternalDocs", "externalDocs", "null"),
    ("Example", "example", "null"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", "null"),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", "false"),
    ("XIntOrString", "x-kubernetes-int-or-string", "false"),
    ("XListMapKeys", "x-kubernetes-list-map-keys", "null"),
    ("XListType", "x-kubernetes-list-type", "null"),
    ("XMapType", "x-kubernetes-map-type", "null"),
    ("XValidations", "x-kubernetes-validations", "null"),
];

pub(super) fn rule(rule: &Value) -> String {
    show(rule, RULE)
}

pub(super) fn schema(of: &Value) -> String {
    let parts: Vec<String> = SCHEMA
        .iter()
        .map(|(go, name, zero)| {
            let value = of.at(name);
            let text = if value.is_null() { (*zero).to_owned() } else { schema_field(name, value) };
            format!("\"{go}\":{text}")
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

fn schema_field(name: &str, value: &Value) -> String {
    let list = |items: &[Value], one: &dyn Fn(&Value) -> String| {
        format!("[{}]", items.iter().map(one).collect::<Vec<_>>().join(","))
    };
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match name {
        "items" if value.is_array() => {
            format!("{{\"Schema\":null,\"JSONSchemas\":{}}}", list(items, &schema))
        }
        "items" => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value)),
        "allOf" | "oneOf" | "anyOf" => list(items, &schema),
        "not" => schema(value),
        "properties" | "patternProperties" | "definitions" => {
            let mut all: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
            all.sort_by_key(|(key, _)| *key);
            let parts: Vec<String> =
                all.iter().map(|(key, v)| format!("{}:{}", json!(key), schema(v))).collect();
            format!("{{{}}}", parts.join(","))
        }
        "additionalProperties" | "additionalItems" => match value {
            Value::Bool(allows) => format!("{{\"Allows\":{allows},\"Schema\":null}}"),
            other => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(other)),
        },
        "externalDocs" => {
            show(value, &[("Description", "description", Zero::Text), ("URL", "url", Zero::Text)])
        }
        "x-kubernetes-validations" => list(items, &rule),
        _ => value.to_string(),
    }
}

/// `spec.versions` without what stands at the top because all versions have it.
pub(super) fn versions(versions: &[Value], common: &Common) -> String {
    let all: Vec<String> = versions.iter().map(|v| version(v, common)).collect();
    format!("[{}]", all.join(","))
}

fn version(of: &Value, common: &Common) -> String {
    let part = |hoisted: bool, name: &str, show: &dyn Fn(&Value) -> String| {
        let value = of.at(name);
        if hoisted || value.is_null() { "null".to_owned() } else { show(value) }
    };
    let schema = |v: &Value| {
        let inner = v.at("openAPIV3Schema");
        let inner = if inner.is_null() { "null".to_owned() } else { self::schema(inner) };
        format!("{{\"OpenAPIV3Schema\":{inner}}}")
    };
    let list = |v: &Value, fields: Fields| {
        let all: Vec<String> = v.as_array().into_iter().flatten().map(|c| show(c, fields)).collect();
        format!("[{}]", all.join(","))
    };
    let subresources = |v: &Value| {
        let fields = [("Status", "status", Zero::Null), ("Scale", "scale", Zero::Null)];
        show_with(v, &fields, |name, value| match name {
            "status" => "{}".to_owned(),
            _ => show(
                value,
                &[
                    ("SpecReplicasPath", "specReplicasPath", Zero::Text),
                    ("StatusReplicasPath", "statusReplicasPath", Zero::Text),
                    ("LabelSelectorPath", "labelSelectorPath", Zero::Null),
                ],
            ),
        })
    };
    let flag = |name: &str| of.flag(name) == Some(true);
    format!(
        "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
        json!(of.text("name")),
        flag("served"),
        flag("storage"),
        flag("deprecated"),
        of.at("deprecationWarning"),
        part(common.schema, "schema", &schema),
        part(common.subresources, "subresources", &subresources),
        part(common.columns, "additionalPrinterColumns", &|v| list(v, COLUMN)),
        part(common.selectable, "selectableFields", &|v| list(v, &[("JSONPath", "jsonPath", Zero::Text)])),
    )
}
