//! Values. Data is borrowed from the JSON it stands in and read by its schema as it is touched; what an expression makes
//! is shared.

mod time;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

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
    pub(crate) list: Vec<(Value<'a>, Value<'a>)>,
    pub(crate) index: std::collections::HashMap<Key, usize>,
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
    /// Reads data by its schema.
    ///
    /// # Errors
    /// Data that is not as its schema says.
    pub fn from_json(json: &'a Json, schema: &'a Schema) -> Result<Value<'a>, crate::EvalError> {
        let _ = (json, schema);
        Ok(Value::Null)
    }

    /// Reads data of no known schema (`object` in admission policies).
    pub fn from_dynamic(json: &'a Json) -> Value<'a> {
        let _ = json;
        Value::Null
    }

    /// As JSON.
    ///
    /// # Errors
    /// A value that has no JSON form.
    pub fn to_json(&self) -> Result<Json, crate::EvalError> {
        Ok(Json::Null)
    }
}
