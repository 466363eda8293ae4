//! Values. Data is borrowed from the JSON it stands in and read by its schema as it is touched; what an expression makes
//! is shared.

mod compare;
mod json;
mod show;
pub(crate) mod time;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

pub(crate) use show::{exponent_from, go_double};
pub use time::Timestamp;

use crate::authz::Authz;
use crate::schema::Schema;
use crate::types::Type;

/// A value, living as long as the JSON it was taken from.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    /// Made by `Object{…}` or `JSONPatch{…}`.
    Object(Arc<Object<'a>>),
    Type(Type),
    Optional(Option<Arc<Value<'a>>>),
    Quantity(Arc<machinery::quantity::Quantity>),
    Url(Arc<crate::lib_k8s::url::Url>),
    Ip(IpAddr),
    Cidr(crate::lib_k8s::cidr::Cidr),
    Format(crate::lib_k8s::format::Format),
    Semver(Arc<crate::lib_k8s::semver::Semver>),
    /// `authorizer` and what its functions return.
    Authz(Arc<Authz>),
    /// An object whose fields the activation gives when asked: [`crate::Activation::field`]. The text is the name of
    /// its declared type.
    Lazy(Arc<str>),
    /// Data below `x-kubernetes-preserve-unknown-fields`: can be compared only.
    Unknown(&'a Json),
}

/// Text, borrowed where it stands in the object.
#[derive(Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

#[derive(Clone, Debug)]
pub enum List<'a> {
    /// `schema` is that of the list.
    Json {
        items: &'a [Json],
        schema: Option<&'a Schema>,
    },
    Items(Arc<Vec<Value<'a>>>),
    /// One after the other; with the length of both.
    Concat(Arc<(List<'a>, List<'a>, usize)>),
    /// The sum of two lists by the first one's list type (set or map).
    Merged {
        items: Arc<Vec<Value<'a>>>,
        schema: &'a Schema,
    },
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// `schema` is that of the object.
    Json {
        entries: &'a JsonMap<String, Json>,
        schema: Option<&'a Schema>,
    },
    Entries(Arc<Entries<'a>>),
}

/// A map that an expression made, in the order it was made.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    list: Vec<(Value<'a>, Value<'a>)>,
    index: std::collections::HashMap<Key, usize>,
}

/// What maps are indexed by; numbers that are equal are one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Bool(bool),
    Int(i64),
    /// Only those beyond `i64`.
    Uint(u64),
    /// Bits of a number that is no integer.
    Double(u64),
    String(Box<str>),
}

#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// `Object.spec`, `JSONPatch`.
    pub name: Arc<str>,
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text::Shared(text.into())
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text::Borrowed(text)
    }
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Shared(text.into()))
    }

    pub(crate) fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Items(Arc::new(items)))
    }

    pub(crate) fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// The type, without parameters.
    pub(crate) fn ty(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            // so upstream
            Value::Object(_) => Type::Type(None),
            Value::Type(_) => Type::Type(None),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Lazy(name) => Type::Struct(name.clone()),
            Value::Unknown(_) => Type::opaque("unknown"),
            Value::Ip(_) | Value::Cidr(_) => Type::opaque(self.type_name()),
            _ => Type::object(self.type_name()),
        }
    }

    pub(crate) fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Object(object) => &object.name,
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Authz(authz) => authz.type_name(),
            Value::Lazy(name) => name,
            Value::Unknown(_) => "unknown",
        }
    }

    /// Code points, bytes, items, entries; None for what has no size.
    pub(crate) fn size(&self) -> Option<u64> {
        Some(match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Ip(ip) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Value::Cidr(cidr) => u64::from(cidr.bits).div_ceil(8),
            _ => return None,
        })
    }

    /// Is it what an absent value of its type would be?
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Int(n) => *n == 0,
            Value::Uint(n) => *n == 0,
            Value::Double(n) => *n == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Timestamp(at) => at.seconds == time::MIN_SECONDS && at.nanos == 0,
            Value::Duration(nanos) => *nanos == 0,
            // lists and maps that a schema types are never zero upstream
            Value::List(List::Json { schema: Some(_), .. } | List::Merged { .. }) => false,
            Value::Map(Map::Json { schema: Some(_), .. }) => false,
            Value::List(list) => list.len() == 0,
            Value::Map(map) => map.len() == 0,
            Value::Object(object) => &*object.name != "JSONPatch" && object.fields.is_empty(),
            _ => false,
        }
    }

    /// As a map's key.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(n) => Key::Int(*n),
            Value::Uint(n) => i64::try_from(*n).map_or(Key::Uint(*n), Key::Int),
            Value::Double(n) if n.fract() == 0.0 && *n >= -9.2e18 && *n <= 9.2e18 => Key::Int(*n as i64),
            Value::Double(n) if n.fract() == 0.0 && *n > 0.0 && *n < 1.8e19 => Key::Uint(*n as u64),
            Value::Double(n) => Key::Double(n.to_bits()),
            Value::String(text) => Key::String((**text).into()),
            _ => return None,
        })
    }

    /// As Go's native value: what a schema said of it is forgotten.
    pub(crate) fn native(&self) -> Value<'a> {
        match self {
            Value::List(List::Json { items, .. }) => Value::List(List::Json { items, schema: None }),
            Value::Map(Map::Json { entries, .. }) => Value::Map(Map::Json { entries, schema: None }),
            Value::Unknown(json) => Value::from_dynamic(json),
            other => other.clone(),
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json { items, .. } => items.len(),
            List::Items(items) | List::Merged { items, .. } => items.len(),
            List::Concat(parts) => parts.2,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// None: there is no such index.
    ///
    /// # Errors
    /// An item that is not as its schema says.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, crate::EvalError>> {
        let mut at = index;
        let mut list = self;
        loop {
            match list {
                List::Json { items, schema } => {
                    let item = items.get(at)?;
                    return Some(match schema {
                        Some(schema) => match &schema.items {
                            Some(of) => Value::from_json(item, of),
                            None => Err("invalid array type, expected Items with a non-empty Schema".into()),
                        },
                        None => Ok(Value::from_dynamic(item)),
                    });
                }
                List::Items(items) | List::Merged { items, .. } => return items.get(at).cloned().map(Ok),
                List::Concat(parts) => {
                    let first = parts.0.len();
                    if at < first {
                        list = &parts.0;
                    } else {
                        at -= first;
                        list = &parts.1;
                    }
                }
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, crate::EvalError>> + '_ {
        (0..self.len()).map_while(|n| self.get(n))
    }

    /// Both, one after the other; copies nothing.
    pub(crate) fn concat(self, other: List<'a>) -> List<'a> {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let length = self.len().saturating_add(other.len());
        List::Concat(Arc::new((self, other, length)))
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json { entries, .. } => entries.len(),
            Map::Entries(entries) => entries.list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A key that cannot be one; a value that is not as its schema says.
    pub fn get(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, crate::EvalError> {
        self.find(key)
    }

    pub(crate) fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, crate::EvalError> {
        match self {
            Map::Json { entries, schema } => {
                let Value::String(name) = key else {
                    return match schema {
                        Some(_) => Err("no such overload".into()),
                        None if matches!(key, Value::Null) => Err("no such overload".into()),
                        None => Ok(None),
                    };
                };
                let Some(schema) = schema else { return Ok(entries.get(&**name).map(Value::from_dynamic)) };
                let unescaped;
                let name: &str = if schema.is_object() && name.contains("__") {
                    let Some(found) = crate::escape::unescape(name) else { return Ok(None) };
                    unescaped = found;
                    &unescaped
                } else {
                    name
                };
                let Some(value) = entries.get(name) else { return Ok(None) };
                if schema.is_object() && value.is_null() {
                    return Ok(None);
                }
                let Some(of) = schema.value_schema(name) else { return Ok(None) };
                Value::from_json(value, of).map(Some)
            }
            Map::Entries(entries) => match key.key() {
                Some(key) => Ok(entries.index.get(&key).map(|at| entries.list[*at].1.clone())),
                None => Ok(None),
            },
        }
    }

    /// In no particular order; fields that no schema describes are left out.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json { entries, schema: None } => {
                entries.keys().map(|k| Value::String(Text::Borrowed(k))).collect()
            }
            Map::Json { entries, schema: Some(schema) } => {
                let known = entries.keys().filter(|k| schema.value_schema(k).is_some());
                known
                    .map(|k| match crate::escape::escape(k).filter(|e| schema.is_object() && e != k) {
                        Some(escaped) => Value::text(escaped),
                        None => Value::String(Text::Borrowed(k)),
                    })
                    .collect()
            }
            Map::Entries(entries) => entries.list.iter().map(|(key, _)| key.clone()).collect(),
        }
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn get(&self, key: &Key) -> Option<&Value<'a>> {
        self.index.get(key).map(|at| &self.list[*at].1)
    }

    /// In the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = &(Value<'a>, Value<'a>)> {
        self.list.iter()
    }

    /// Replaces the value of a key that is there. False if the value cannot be a key.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let Some(index) = key.key() else { return false };
        match self.index.get(&index) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.index.insert(index, self.list.len());
                self.list.push((key, value));
            }
        }
        true
    }

    pub(crate) fn remove(&mut self, key: &Value<'a>) {
        let Some(at) = key.key().and_then(|k| self.index.remove(&k)) else { return };
        self.list.remove(at);
        for place in self.index.values_mut().filter(|p| **p > at) {
            *place -= 1;
        }
    }
}
