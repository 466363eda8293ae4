//! Declared types with their sizes: what the checker knows of an object's fields, and the cost estimate of its sizes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::escape::escape;
use crate::schema::{Format, Kind, Schema};
use crate::types::Type;

/// The largest request that the API server takes, in bytes: what bounds data that its schema does not.
pub const MAX_REQUEST_BYTES: i64 = 3 * 1024 * 1024;

/// Smallest and largest sizes in JSON, with quotation marks.
const MIN_STRING: i64 = 2;
const MIN_BOOL: i64 = 4;
const MIN_NUMBER: i64 = 1;
const MIN_DURATION: i64 = 3;
const MAX_DURATION: i64 = 32;
const DATE: i64 = 12;
const MIN_DATE_TIME: i64 = 21;
const MAX_DATE_TIME: i64 = 32;

/// A type with what a schema says of it. Field names are escaped ([`escape`]).
#[derive(Clone, Debug)]
pub struct DeclType {
    pub(crate) ty: Type,
    pub(crate) fields: BTreeMap<Box<str>, Arc<DeclType>>,
    pub(crate) key: Option<Arc<DeclType>>,
    pub(crate) elem: Option<Arc<DeclType>>,
    /// Largest number of elements, or bytes of a text; -1 if unbounded.
    pub(crate) max_elements: i64,
    /// Bytes of the smallest such value in JSON.
    pub(crate) min_serialized: i64,
}

impl DeclType {
    /// A type without fields whose values have no declared size.
    pub fn simple(ty: Type) -> DeclType {
        let min_serialized = match ty {
            Type::Bool => MIN_BOOL,
            Type::Int | Type::Uint | Type::Double | Type::Dyn => MIN_NUMBER,
            Type::Duration => MIN_DURATION,
            Type::Timestamp => DATE,
            _ => MIN_STRING,
        };
        DeclType { fields: BTreeMap::new(), key: None, elem: None, max_elements: 0, min_serialized, ty }
    }

    /// The same with at most so many elements, or bytes of a text.
    pub fn sized(self, max: i64) -> DeclType {
        DeclType { max_elements: max, ..self }
    }

    /// `max`: largest number of items, -1 if unbounded.
    pub fn list(item: DeclType, max: i64) -> DeclType {
        let ty = Type::list(item.ty.clone());
        DeclType { elem: Some(Arc::new(item)), max_elements: max, ..Self::empty(ty) }
    }

    /// `max`: largest number of entries, -1 if unbounded.
    pub fn map(key: DeclType, value: DeclType, max: i64) -> DeclType {
        let ty = Type::map(key.ty.clone(), value.ty.clone());
        DeclType {
            key: Some(Arc::new(key)),
            elem: Some(Arc::new(value)),
            max_elements: max,
            ..Self::empty(ty)
        }
    }

    /// An object type of that name, with fields (escaped names).
    pub fn object<'n>(name: &str, fields: impl IntoIterator<Item = (&'n str, DeclType)>) -> DeclType {
        let fields = fields.into_iter().map(|(name, field)| (name.into(), Arc::new(field))).collect();
        DeclType { fields, ..Self::empty(Type::object(name)) }
    }

    /// Of a variable that an earlier expression gives (`variables.x`).
    pub fn of_type(ty: &Type) -> DeclType {
        match ty {
            Type::List(item) => Self::list(Self::of_type(item), -1),
            Type::Map(both) => Self::map(Self::of_type(&both.0), Self::of_type(&both.1), -1),
            Type::Any
            | Type::Bool
            | Type::Bytes
            | Type::Double
            | Type::Duration
            | Type::Int
            | Type::Null
            | Type::String
            | Type::Timestamp
            | Type::Uint => Self::simple(ty.clone()),
            _ => Self::simple(Type::Dyn),
        }
    }

    /// The declaration that a schema makes, None where rules cannot see such data (no type, lists of such, …). `root`:
    /// the object has `apiVersion`, `kind` and `metadata`. The object is named `name`, objects within by their path.
    pub fn from_schema(schema: &Schema, root: bool, name: &str) -> Option<DeclType> {
        if schema.int_or_string {
            let max = schema.max_length.map_or(MAX_REQUEST_BYTES - 2, of_length);
            return Some(DeclType { max_elements: max, min_serialized: 1, ..Self::empty(Type::Dyn) });
        }
        let inner = |s: &Schema, name: &str| Self::from_schema(s, s.embedded, name);
        match schema.kind {
            Kind::Array => {
                let item = inner(schema.items.as_ref()?, &format!("{name}.@idx"))?;
                // two bytes for the brackets
                let max = schema
                    .max_items
                    .map_or((MAX_REQUEST_BYTES - 2) / (item.min_serialized + 1), |m| m.max(0));
                Some(Self::list(item, max))
            }
            // the root's and an embedded resource's meta fields make it an object
            Kind::Object => match &schema.additional {
                Some(values) => {
                    let value = inner(values, &format!("{name}.@elem"))?;
                    // a key, its quotes, the colon and the comma
                    let max = (MAX_REQUEST_BYTES - 2) / (value.min_serialized + 6);
                    let max = schema.max_properties.map_or(max, |m| m.max(0));
                    Some(Self::map(Self::simple(Type::String), value, max))
                }
                None => Some(Self::from_object(schema, root, name)),
            },
            Kind::String => Some(Self::from_string(schema)),
            Kind::Boolean => Some(Self::simple(Type::Bool)),
            Kind::Number => Some(Self::simple(Type::Double)),
            Kind::Integer => Some(Self::simple(Type::Int)),
            // the root of an embedded resource or of a CRD may go without a type
            Kind::None | Kind::Other => None,
        }
    }

    fn from_object(schema: &Schema, root: bool, name: &str) -> DeclType {
        let mut out = Self::empty(Type::object(name));
        let with_meta;
        let schema = if root {
            with_meta = Arc::new(schema.clone()).with_object_meta();
            &*with_meta
        } else {
            schema
        };
        let required = |field: &str| schema.required.iter().any(|r| **r == *field);
        for (field, schema) in schema.properties.iter().flatten() {
            let escaped = escape(field);
            let path = format!("{name}.{}", escaped.as_deref().unwrap_or(field));
            let Some(ty) = Self::from_schema(schema, schema.embedded, &path) else { continue };
            if required(field) && !schema.has_default {
                out.min_serialized += field.len() as i64 + ty.min_serialized + 4;
            }
            if let Some(escaped) = escaped {
                out.fields.insert(escaped.into(), Arc::new(ty));
            }
        }
        out
    }

    fn from_string(schema: &Schema) -> DeclType {
        let (ty, min, max) = match schema.format {
            Format::Byte => {
                let max = schema.max_length.map_or(MAX_REQUEST_BYTES - 2, |m| m.max(0));
                (Type::Bytes, MIN_STRING, max)
            }
            Format::Duration => (Type::Duration, MIN_DURATION, MAX_DURATION),
            Format::Date => (Type::Timestamp, DATE, DATE),
            Format::DateTime => (Type::Timestamp, MIN_DATE_TIME, MAX_DATE_TIME),
            Format::None => {
                let max = match (schema.max_length, schema.enum_length) {
                    (Some(max), _) => of_length(max),
                    (None, Some(longest)) => longest,
                    (None, None) => MAX_REQUEST_BYTES - 2,
                };
                (Type::String, MIN_STRING, max)
            }
        };
        DeclType { max_elements: max, min_serialized: min, ..Self::empty(ty) }
    }

    fn empty(ty: Type) -> DeclType {
        DeclType { ty, fields: BTreeMap::new(), key: None, elem: None, max_elements: 0, min_serialized: 2 }
    }

    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// How often data of this type may stand in one request at most.
    pub fn max_cardinality(&self) -> u64 {
        (MAX_REQUEST_BYTES / (self.min_serialized + 1)) as u64
    }

    /// Bytes of the smallest such value in JSON.
    pub fn min_serialized_size(&self) -> i64 {
        self.min_serialized
    }

    /// Adds or replaces a field (of `variables`, as they are compiled one by one).
    pub fn set_field(&mut self, name: &str, ty: DeclType) {
        self.fields.insert(name.into(), Arc::new(ty));
    }

    /// This type and the object types within it.
    pub(crate) fn objects<'a>(self: &'a Arc<DeclType>, into: &mut Vec<&'a Arc<DeclType>>) {
        if matches!(self.ty, Type::Struct(_)) {
            into.push(self);
        }
        for inner in self.fields.values().chain(&self.elem) {
            inner.objects(into);
        }
    }
}

/// A code point may take four bytes.
fn of_length(max: i64) -> i64 {
    max.max(0).saturating_mul(4)
}
