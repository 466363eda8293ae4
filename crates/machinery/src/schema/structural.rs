//! Schemas of custom resources, from the structural OpenAPI schema of a CRD version.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use std::borrow::Cow;

use serde_json::Value;

use super::node::{Field, List, ListType, Map, MapType, Schema, Shape, Struct};
use crate::value::Get;

/// The schema of whole objects: `openAPIV3Schema` of a version, with `apiVersion`, `kind` and `metadata` as every object
/// has them. A schema that is null keeps everything (`preserveUnknownFields`). Whatever is not structural is read as
/// if it were not there; that a CRD is structural is for its validation to say.
pub fn parse(open_api: &Value) -> Schema {
    let mut schema = if open_api.is_null() {
        let open = Struct { preserve_unknown: true, ..Struct::new(None, Vec::new()) };
        Schema::new(Shape::Struct(Box::new(open)))
    } else {
        node(open_api)
    };
    if matches!(schema.shape(), Shape::Any) {
        let open = Struct { preserve_unknown: true, ..Struct::new(None, Vec::new()) };
        schema = Schema::new(Shape::Struct(Box::new(open)));
    }
    if let Shape::Struct(s) = &mut schema.shape {
        add_object_fields(s);
    }
    schema
}

/// The schema of a part: as it stands, without the fields of whole objects.
pub fn node(from: &Value) -> Schema {
    let preserve = from.flag("x-kubernetes-preserve-unknown-fields") == Some(true);
    let shape = if from.flag("x-kubernetes-int-or-string") == Some(true) {
        Shape::Any
    } else {
        match from.text("type") {
            "object" => object(from, preserve),
            "array" => array(from),
            "string" => Shape::String,
            "boolean" => Shape::Bool,
            "integer" => Shape::Int64,
            "number" => Shape::Float,
            _ if from.map("properties").is_some() => object(from, preserve),
            _ => Shape::Any,
        }
    };
    Schema {
        default: from.get("default").map(|d| Box::new(d.clone())),
        nullable: from.flag("nullable") == Some(true),
        ..Schema::new(shape)
    }
}

fn object(from: &Value, preserve_unknown: bool) -> Shape {
    let kind = match from.text("x-kubernetes-map-type") {
        "atomic" => MapType::Atomic,
        _ => MapType::Granular,
    };
    let embedded = from.flag("x-kubernetes-embedded-resource") == Some(true);
    if from.map("properties").is_none() && !embedded {
        match from.at("additionalProperties") {
            Value::Object(_) => {
                let value = node(from.at("additionalProperties"));
                return Shape::Map(Box::new(Map { value, kind }));
            }
            Value::Bool(true) => {
                return Shape::Map(Box::new(Map { value: Schema::new(Shape::Any), kind }));
            }
            _ => {}
        }
    }
    let required: Vec<&str> = from.list("required").iter().filter_map(Value::as_str).collect();
    let fields = from.map("properties").into_iter().flatten().map(|(name, from)| {
        let required = required.contains(&name.as_str());
        field(Cow::Owned(name.clone()), node(from), required)
    });
    let mut out = Struct::new(None, fields.collect());
    out.kind = kind;
    out.preserve_unknown = preserve_unknown;
    out.embedded = embedded;
    if embedded {
        add_object_fields(&mut out);
    }
    Shape::Struct(Box::new(out))
}

fn array(from: &Value) -> Shape {
    let kind = match from.text("x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => ListType::Map,
        _ => ListType::Atomic,
    };
    let keys = from.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
    let keys = keys.map(|k| Cow::Owned(k.to_owned())).collect();
    Shape::List(Box::new(List { item: node(from.at("items")), kind, keys, wrapped: false }))
}

/// `apiVersion`, `kind` and `metadata` first, whatever the schema says of them.
fn add_object_fields(s: &mut Struct) {
    let meta = super::of_type("meta/v1.ObjectMeta").cloned().unwrap_or_else(|| Schema::new(Shape::Any));
    let mut fields = vec![
        field(Cow::Borrowed("apiVersion"), Schema::new(Shape::String), false),
        field(Cow::Borrowed("kind"), Schema::new(Shape::String), false),
        field(Cow::Borrowed("metadata"), meta, false),
    ];
    fields.extend(s.fields.drain(..).filter(|f| !matches!(&*f.name, "apiVersion" | "kind" | "metadata")));
    let old = std::mem::take(s);
    *s = Struct {
        kind: old.kind,
        preserve_unknown: old.preserve_unknown,
        embedded: old.embedded,
        ..Struct::new(None, fields)
    };
}

fn field(name: Cow<'static, str>, schema: Schema, required: bool) -> Field {
    Field {
        name,
        schema,
        omit_empty: true,
        omit_zero: false,
        pointer: true,
        required,
        tag: 0,
        patch_strategy: "",
        merge_key: "",
        go: "",
        package: "",
        embedded: Vec::new(),
    }
}
