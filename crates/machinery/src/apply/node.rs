//! A schema seen as `structured-merge-diff` sees it: at each place a map, a list or a scalar, or what the value makes
//! of it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set::Element;
use crate::schema::{ListType, MapType, Schema, Shape, Struct};

/// The type of one place.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    /// `open`: somewhere above, unknown fields are kept.
    Typed { schema: &'a Schema, open: bool },
    /// Anything; maps are merged, lists are not.
    Deduced,
    /// Anything, as one piece.
    Untyped,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

#[derive(Clone, Copy)]
pub(super) struct MapNode<'a> {
    pub atomic: bool,
    fields: Option<&'a Struct>,
    open: bool,
    /// The type of what is no field; None: there must not be any.
    pub element: Option<Node<'a>>,
}

#[derive(Clone, Copy)]
pub(super) struct ListNode<'a> {
    /// Not merged.
    pub atomic: bool,
    pub keys: &'a [Cow<'static, str>],
    pub item: Node<'a>,
}

/// What a place is for a value.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    Map(MapNode<'a>),
    Scalar(Scalar),
    List(ListNode<'a>),
}

impl<'a> MapNode<'a> {
    /// A declared field.
    pub fn field(&self, name: &str) -> Option<Node<'a>> {
        let field = self.fields?.field(name)?;
        Some(Node::Typed { schema: &field.schema, open: self.open })
    }

    /// The type of what stands under a key.
    pub fn under(&self, name: &str) -> Option<Node<'a>> {
        self.field(name).or(self.element)
    }
}

impl<'a> Node<'a> {
    pub fn of(schema: &'a Schema) -> Self {
        Node::Typed { schema, open: false }
    }

    pub fn map(self) -> Option<MapNode<'a>> {
        let (schema, open) = match self {
            Node::Deduced => {
                return Some(MapNode {
                    atomic: false,
                    fields: None,
                    open: false,
                    element: Some(Node::Deduced),
                });
            }
            Node::Untyped => {
                return Some(MapNode {
                    atomic: true,
                    fields: None,
                    open: false,
                    element: Some(Node::Untyped),
                });
            }
            Node::Typed { schema, open } => (schema, open),
        };
        Some(match schema.shape() {
            Shape::Struct(s) => {
                let open = open || s.preserve_unknown;
                let element = (open || s.fields.is_empty()).then_some(Node::Deduced);
                MapNode { atomic: s.kind == MapType::Atomic, fields: Some(s), open, element }
            }
            Shape::Map(map) => {
                let element = match map.value.shape() {
                    Shape::Any => Node::Deduced,
                    _ => Node::Typed { schema: &map.value, open },
                };
                let atomic = map.kind == MapType::Atomic;
                MapNode { atomic, fields: None, open, element: Some(element) }
            }
            Shape::Raw => return Node::Untyped.map(),
            Shape::Any | Shape::Json | Shape::Fields | Shape::Either(..) => return Node::Deduced.map(),
            _ => return None,
        })
    }

    pub fn list(self) -> Option<ListNode<'a>> {
        let (schema, open) = match self {
            Node::Deduced | Node::Untyped => {
                return Some(ListNode { atomic: true, keys: &[], item: Node::Untyped });
            }
            Node::Typed { schema, open } => (schema, open),
        };
        match schema.shape() {
            Shape::List(list) => Some(ListNode {
                atomic: list.kind == ListType::Atomic,
                keys: &list.keys,
                item: Node::Typed { schema: &list.item, open },
            }),
            Shape::Any | Shape::Json | Shape::Raw | Shape::Either(..) => Node::Untyped.list(),
            _ => None,
        }
    }

    pub fn scalar(self) -> Option<Scalar> {
        let Node::Typed { schema, .. } = self else { return Some(Scalar::Any) };
        Some(match schema.shape() {
            Shape::Bool => Scalar::Boolean,
            Shape::Int32 | Shape::Int64 | Shape::Float => Scalar::Numeric,
            Shape::String | Shape::Bytes | Shape::Duration => Scalar::String,
            Shape::Struct(_) | Shape::Map(_) | Shape::List(_) | Shape::Fields => return None,
            _ => Scalar::Any,
        })
    }

    /// What the place is for this value; a value that fits nothing (or null) is taken for a map, a scalar or a list,
    /// the first that the type allows.
    pub fn kind(self, value: Option<&Value>) -> Option<Kind<'a>> {
        let by_value = match value {
            Some(Value::Object(_)) => self.map().map(Kind::Map),
            Some(Value::Array(_)) => self.list().map(Kind::List),
            Some(Value::Null) | None => None,
            Some(_) => self.scalar().map(Kind::Scalar),
        };
        by_value
            .or_else(|| self.map().map(Kind::Map))
            .or_else(|| self.scalar().map(Kind::Scalar))
            .or_else(|| self.list().map(Kind::List))
    }

    /// Is the place the same for both values?
    pub fn same_kind(self, a: &Value, b: &Value) -> bool {
        let sorts = [self.map().is_some(), self.list().is_some(), self.scalar().is_some()];
        let rank = |v: &Value| match v {
            Value::Object(_) if sorts[0] => 0,
            Value::Array(_) if sorts[1] => 1,
            Value::Null => 3,
            _ if sorts[2] => 2,
            _ => 3,
        };
        sorts.iter().filter(|s| **s).count() == 1 || rank(a) == rank(b)
    }
}

pub(super) fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn array(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

impl ListNode<'_> {
    /// How an item is named in paths.
    pub fn element(&self, item: &Value) -> Result<Element, String> {
        if self.atomic {
            return Err("invalid indexing of non-associative list".into());
        }
        if self.keys.is_empty() {
            return match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                other => Ok(Element::Value(other.clone())),
            };
        }
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut key = Vec::with_capacity(self.keys.len());
        for name in self.keys {
            if let Some(value) = map.get(&**name) {
                key.push((name.to_string(), value.clone()));
            } else if let Some(default) = self.key_default(name) {
                key.push((name.to_string(), default.clone()));
            }
        }
        if key.is_empty() {
            let names: Vec<String> = self.keys.iter().map(|k| crate::field::go_quote(k)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        key.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Element::Key(key))
    }

    /// Has the item a name in paths?
    pub fn names(&self, item: &Value) -> bool {
        match item {
            Value::Object(map) => {
                self.keys.iter().any(|name| map.contains_key(&**name) || self.key_default(name).is_some())
            }
            Value::Array(_) | Value::Null => false,
            _ => self.keys.is_empty(),
        }
    }

    fn key_default(&self, name: &str) -> Option<&Value> {
        let Node::Typed { schema, .. } = self.item else { return None };
        schema.as_struct()?.field(name)?.schema.default.as_deref()
    }
}
