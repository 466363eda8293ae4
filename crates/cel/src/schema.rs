//! What a schema says of data: how JSON is to be read as values, and how large it may become.
//!
//! Made of an OpenAPI schema as JSON: a node of a CRD's `openAPIV3Schema`, or a schema of `/openapi/v3` with its
//! references resolved.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;

/// A node of a schema. Cheap to keep: parts are shared.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) kind: Kind,
    pub(crate) format: Format,
    pub(crate) int_or_string: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) nullable: bool,
    pub(crate) has_default: bool,
    pub(crate) list_type: ListType,
    pub(crate) list_keys: Vec<Box<str>>,
    pub(crate) items: Option<Arc<Schema>>,
    pub(crate) additional: Option<Arc<Schema>>,
    /// None: no properties are named.
    pub(crate) properties: Option<BTreeMap<Box<str>, Arc<Schema>>>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) max_length: Option<i64>,
    pub(crate) max_items: Option<i64>,
    pub(crate) max_properties: Option<i64>,
    /// Bytes of the longest text among the values of `enum`, if there are any values.
    pub(crate) enum_length: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    None,
    Object,
    Array,
    String,
    Number,
    Integer,
    Boolean,
    /// Something that is no type of OpenAPI.
    Other,
}

/// The formats of strings that are values of other types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    None,
    Byte,
    Date,
    DateTime,
    Duration,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
    Wrong(Box<str>),
}

impl Schema {
    /// References (`$ref`) are read as if they were not there: see [`Schema::with_references`].
    pub fn new(json: &Json) -> Arc<Schema> {
        Self::with_references(json, &|_| None)
    }

    /// `resolve` is asked for the schema behind a `$ref`. A schema within itself is cut off: an object without fields.
    pub fn with_references<'a>(json: &'a Json, resolve: &dyn Fn(&str) -> Option<&'a Json>) -> Arc<Schema> {
        let mut open = Vec::new();
        Arc::new(parse(json, resolve, &mut open))
    }

    /// The object with `apiVersion`, `kind`, `metadata.name` and `metadata.generateName`, as the roots of resources and
    /// embedded resources have them.
    pub fn with_object_meta(self: &Arc<Schema>) -> Arc<Schema> {
        let field = |of: &Schema, name: &str| of.properties.as_ref().and_then(|p| p.get(name).cloned());
        let is = |of: &Schema, name: &str, kind: Kind| field(of, name).is_some_and(|s| s.kind == kind);
        let complete = is(self, "kind", Kind::String)
            && is(self, "apiVersion", Kind::String)
            && field(self, "metadata").is_some_and(|m| {
                m.kind == Kind::Object && is(&m, "name", Kind::String) && is(&m, "generateName", Kind::String)
            });
        if complete {
            return self.clone();
        }
        let mut out = Schema::clone(self);
        let properties = out.properties.get_or_insert_with(BTreeMap::new);
        properties.extend(object_meta().properties.clone().into_iter().flatten());
        Arc::new(out)
    }

    /// The schema of a named property; of any property where only `additionalProperties` are described.
    pub fn property(&self, name: &str) -> Option<&Arc<Schema>> {
        match &self.properties {
            Some(properties) => properties.get(name),
            None => self.additional.as_ref(),
        }
    }

    /// The schema of the items of a list.
    pub fn items(&self) -> Option<&Arc<Schema>> {
        self.items.as_ref()
    }

    /// The schema of the values of a map.
    pub fn additional_properties(&self) -> Option<&Arc<Schema>> {
        self.additional.as_ref()
    }

    /// Named properties in alphabetical order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Arc<Schema>)> {
        self.properties.iter().flatten().map(|(name, schema)| (&**name, schema))
    }

    /// `x-kubernetes-embedded-resource`.
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// The schema of what stands under a name, in the object's data.
    pub(crate) fn value_schema(&self, name: &str) -> Option<&Schema> {
        if self.embedded {
            // meta fields are described even where the schema does not
            let own = self.properties.as_ref().and_then(|p| p.get(name));
            return own
                .map(Arc::as_ref)
                .or_else(|| object_meta().properties.as_ref()?.get(name).map(Arc::as_ref));
        }
        self.property(name).map(Arc::as_ref)
    }

    /// Does [`Schema::property`] go by name (an object), not by `additionalProperties` (a map)?
    pub(crate) fn is_object(&self) -> bool {
        self.embedded || self.properties.is_some()
    }
}

/// What [`Schema::with_object_meta`] adds.
pub(crate) fn object_meta() -> &'static Schema {
    static META: OnceLock<Schema> = OnceLock::new();
    META.get_or_init(|| {
        let string = Arc::new(Schema { kind: Kind::String, ..Schema::default() });
        let object = |fields: &[(&str, &Arc<Schema>)]| Schema {
            kind: Kind::Object,
            properties: Some(fields.iter().map(|(name, s)| ((*name).into(), Arc::clone(s))).collect()),
            ..Schema::default()
        };
        let meta = Arc::new(object(&[("name", &string), ("generateName", &string)]));
        object(&[("kind", &string), ("apiVersion", &string), ("metadata", &meta)])
    })
}

fn parse<'a>(json: &'a Json, resolve: &dyn Fn(&str) -> Option<&'a Json>, open: &mut Vec<&'a str>) -> Schema {
    let reference = json.get("$ref").or_else(|| {
        // `/openapi/v3` writes a reference with a default beside it as an allOf of one
        let all = json.get("allOf")?.as_array()?;
        all.first().filter(|_| all.len() == 1 && json.get("type").is_none())?.get("$ref")
    });
    if let Some(name) = reference.and_then(Json::as_str) {
        let Some(target) = resolve(name) else { return Schema::default() };
        if open.contains(&name) {
            return Schema { kind: Kind::Object, ..Schema::default() };
        }
        open.push(name);
        let mut out = parse(target, resolve, open);
        open.pop();
        out.has_default |= json.get("default").is_some_and(|d| !d.is_null());
        return out;
    }
    let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or("");
    let flag = |key: &str| json.get(key).and_then(Json::as_bool).unwrap_or(false);
    let texts = |key: &str| -> Vec<Box<str>> {
        json.get(key)
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(Box::from))
            .collect()
    };
    let number = |key: &str| json.get(key).and_then(|n| n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)));
    let kind =
        json.get("type").and_then(|t| t.as_str().or_else(|| t.as_array()?.first()?.as_str())).unwrap_or("");
    let mut child = |value: &'a Json| Arc::new(parse(value, resolve, open));
    let items = json.get("items").filter(|i| i.is_object()).map(&mut child);
    let additional = json.get("additionalProperties").filter(|i| i.is_object()).map(&mut child);
    let properties = json.get("properties").and_then(Json::as_object);
    let properties = properties.map(|p| p.iter().map(|(name, s)| (name.as_str().into(), child(s))).collect());
    let enumeration = json.get("enum").and_then(Json::as_array).filter(|e| !e.is_empty());
    let format = text("format");
    Schema {
        kind: match kind {
            "" => Kind::None,
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "number" => Kind::Number,
            "integer" => Kind::Integer,
            "boolean" => Kind::Boolean,
            _ => Kind::Other,
        },
        format: match format {
            "byte" => Format::Byte,
            "date" => Format::Date,
            "date-time" => Format::DateTime,
            "duration" => Format::Duration,
            _ => Format::None,
        },
        int_or_string: flag("x-kubernetes-int-or-string") || format == "int-or-string",
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        has_default: json.get("default").is_some_and(|d| !d.is_null()),
        list_type: match text("x-kubernetes-list-type") {
            "" | "atomic" => ListType::Atomic,
            "set" => ListType::Set,
            "map" => ListType::Map,
            other => ListType::Wrong(other.into()),
        },
        list_keys: texts("x-kubernetes-list-map-keys"),
        items,
        additional,
        properties,
        required: texts("required"),
        max_length: number("maxLength"),
        max_items: number("maxItems"),
        max_properties: number("maxProperties"),
        enum_length: enumeration
            .map(|all| all.iter().filter_map(|v| v.as_str().map(|s| s.len() as i64)).max().unwrap_or(0)),
    }
}
