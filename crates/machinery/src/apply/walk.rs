//! Walks over one object: is it of its type, which fields has it, what is left without some of them.

use serde_json::{Map, Value};

use super::node::{Kind, ListNode, Node, Scalar, array, object};
use super::set::{Element, Set};
use crate::patch::go_print;

/// What is wrong, with the path in front.
pub(super) type Errors = Vec<(String, String)>;

/// As upstream prints them.
pub(super) fn show(errors: &Errors) -> String {
    let one = |(path, message): &(String, String)| match path.is_empty() {
        true => message.clone(),
        false => format!("{path}: {message}"),
    };
    match &errors[..] {
        [error] => one(error),
        many => std::iter::once("errors:".to_owned())
            .chain(many.iter().map(|e| format!("  {}", one(e))))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// Is the value of the type? `duplicates`: may lists name an item twice?
pub(super) fn validate(node: Node, value: &Value, duplicates: bool) -> Result<(), Errors> {
    if duplicates && is_valid(node, value) {
        return Ok(());
    }
    let mut errors = Errors::new();
    validate_at(node, value, duplicates, &mut String::new(), &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The same without a word about what is wrong; lists may name items twice.
fn is_valid(node: Node, value: &Value) -> bool {
    match (node.kind(Some(value)), value) {
        (Some(Kind::Scalar(scalar)), value) => scalar_error(scalar, value).is_none(),
        (Some(Kind::Map(of)), Value::Object(map)) => {
            map.iter().all(|(key, value)| of.under(key).is_some_and(|node| is_valid(node, value)))
        }
        (Some(Kind::List(of)), Value::Array(items)) => {
            items.iter().all(|item| (of.atomic || of.names(item)) && is_valid(of.item, item))
        }
        (Some(_), value) => value.is_null(),
        (None, _) => false,
    }
}

fn validate_at(node: Node, value: &Value, duplicates: bool, path: &mut String, errors: &mut Errors) {
    let mut wrong = |path: &str, message: String| errors.push((path.to_owned(), message));
    match node.kind(Some(value)) {
        Some(Kind::Scalar(scalar)) => {
            if let Some(message) = scalar_error(scalar, value) {
                wrong(path, message);
            }
        }
        Some(Kind::Map(of)) => match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let len = path.len();
                    path.push('.');
                    path.push_str(key);
                    match of.under(key) {
                        Some(node) => validate_at(node, value, duplicates, path, errors),
                        None => {
                            errors.push((path.clone(), "field not declared in schema".into()));
                            path.truncate(len);
                            return;
                        }
                    }
                    path.truncate(len);
                }
            }
            Value::Null => {}
            other => wrong(path, format!("expected map, got &{{{}}}", go_print(other))),
        },
        Some(Kind::List(of)) => match value {
            Value::Array(items) => validate_list(&of, items, duplicates, path, errors),
            Value::Null => {}
            other => wrong(path, format!("expected list, got &{{{}}}", go_print(other))),
        },
        None => wrong(path, "schema error: invalid atom: inlined".into()),
    }
}

fn validate_list(of: &ListNode, items: &[Value], duplicates: bool, path: &mut String, errors: &mut Errors) {
    let mut seen = Set::default();
    for (at, item) in items.iter().enumerate() {
        let element = if of.atomic {
            Element::Index(i64::try_from(at).unwrap_or(i64::MAX))
        } else {
            match of.element(item) {
                Ok(element) => element,
                Err(message) => {
                    errors.push((path.clone(), format!("element {at}: {message}")));
                    return;
                }
            }
        };
        let one = std::slice::from_ref(&element);
        if !of.atomic && seen.has(one) && !duplicates {
            errors.push((path.clone(), format!("duplicate entries for key {element}")));
        }
        if !of.atomic {
            seen.insert(one);
        }
        let len = path.len();
        path.push_str(&element.to_string());
        validate_at(of.item, item, duplicates, path, errors);
        path.truncate(len);
    }
}

pub(super) fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (_, Value::Null)
        | (Scalar::Numeric | Scalar::Any, Value::Number(_))
        | (Scalar::String | Scalar::Any, Value::String(_))
        | (Scalar::Boolean | Scalar::Any, Value::Bool(_)) => None,
        (Scalar::Numeric, other) => {
            let go = match other {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            Some(format!("expected numeric (int or float), got {go}"))
        }
        (Scalar::String, other) => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(other)))
        }
        (Scalar::Boolean, other) => Some(format!("expected boolean, got &{{{}}}", go_print(other))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", go_print(other))),
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::String(text) => crate::field::go_quote(text),
        Value::Null => "interface {}(nil)".into(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(k, v)| format!("{}:{}", crate::field::go_quote(k), go_syntax(v)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The fields that an object has.
pub(super) fn field_set(node: Node, value: &Value) -> Set {
    let mut set = Set::default();
    field_set_at(node, value, &mut Vec::new(), &mut set);
    set
}

fn field_set_at(node: Node, value: &Value, path: &mut Vec<Element>, set: &mut Set) {
    match node.kind(Some(value)) {
        Some(Kind::Scalar(_)) | None => set.insert(path),
        Some(Kind::Map(of)) if of.atomic => set.insert(path),
        Some(Kind::List(of)) if of.atomic => set.insert(path),
        Some(Kind::Map(of)) => {
            for (key, value) in object(Some(value)).into_iter().flatten() {
                path.push(Element::Field(key.clone()));
                if let Some(node) = of.under(key) {
                    field_set_at(node, value, path, set);
                }
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if empty || of.field(key).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Some(Kind::List(of)) => {
            let items = array(Some(value)).unwrap_or(&[]);
            let (mut seen, mut twice) = (Set::default(), Set::default());
            let elements: Vec<Option<Element>> = items.iter().map(|item| of.element(item).ok()).collect();
            for element in elements.iter().flatten() {
                let one = std::slice::from_ref(element);
                if seen.has(one) {
                    twice.insert(one);
                }
                seen.insert(one);
            }
            for (item, element) in items.iter().zip(elements) {
                let Some(element) = element else { continue };
                let double = twice.has(std::slice::from_ref(&element));
                path.push(element);
                if !double {
                    field_set_at(of.item, item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// The value without some of its fields and items; null if nothing is left.
pub(super) fn remove_items(node: Node, value: &Value, gone: &Set) -> Value {
    match (node.kind(Some(value)), value) {
        (Some(Kind::Scalar(_)), value) => value.clone(),
        (Some(Kind::List(of)), Value::Array(items)) if !of.atomic && !items.is_empty() => {
            let (mut kept, mut matched) = (Vec::with_capacity(items.len()), false);
            for item in items {
                let element = of.element(item).unwrap_or(Element::Index(-1));
                if gone.has(std::slice::from_ref(&element)) {
                    continue;
                }
                let Some(below) = gone.below(&element) else {
                    kept.push(item.clone());
                    continue;
                };
                matched = true;
                kept.push(emptied(item, remove_items(of.item, item, below)));
            }
            if kept.is_empty() && !matched { Value::Null } else { Value::Array(kept) }
        }
        (Some(Kind::Map(of)), Value::Object(map)) if !of.atomic && !map.is_empty() => {
            let (mut kept, mut matched) = (Map::new(), false);
            for (key, value) in map {
                let element = Element::Field(key.clone());
                if gone.has(std::slice::from_ref(&element)) {
                    continue;
                }
                let value = match (gone.below(&element), of.under(key)) {
                    (Some(below), Some(node)) => {
                        matched = true;
                        emptied(value, remove_items(node, value, below))
                    }
                    _ => value.clone(),
                };
                kept.insert(key.clone(), value);
            }
            if kept.is_empty() && !matched { Value::Null } else { Value::Object(kept) }
        }
        _ => Value::Null,
    }
}

/// A map or list of which nothing is left stays as an empty one.
fn emptied(before: &Value, after: Value) -> Value {
    match (before, after) {
        (Value::Object(_), Value::Null) => Value::Object(Map::new()),
        (Value::Array(_), Value::Null) => Value::Array(Vec::new()),
        (_, after) => after,
    }
}

/// Declared fields that have members below them are members too.
pub(super) fn with_named_fields(node: Option<Node>, set: &Set) -> Set {
    let (map, list) = (node.and_then(Node::map), node.and_then(Node::list));
    let mut out = Set::default();
    for (element, member, below) in set.top() {
        let declared = match (element, &map) {
            (Element::Field(name), Some(map)) => map.field(name),
            _ => None,
        };
        let node = match element {
            Element::Field(_) => declared.or_else(|| map.as_ref().and_then(|m| m.element)),
            Element::Key(_) => list.as_ref().map(|l| l.item),
            _ => None,
        };
        let has_children = below.top().next().is_some();
        let member = member || (declared.is_some() && has_children);
        out.push(element.clone(), member, with_named_fields(node, below));
    }
    out
}

/// Do these fields (`FieldsV1`) surely fit the schema as it is, so that [`reconcile`] has nothing to do?
pub(super) fn fits(node: Node, fields: &Value) -> bool {
    let Value::Object(map) = fields else { return fields.is_null() };
    let below = map.iter().filter(|(key, _)| *key != ".");
    if matches!(node, Node::Deduced) || below.clone().next().is_none() {
        return true;
    }
    match node.kind(None) {
        Some(Kind::List(of)) => !of.atomic && below.into_iter().all(|(_, fields)| fits(of.item, fields)),
        Some(Kind::Map(of)) => {
            let under = |key: &str| match key.strip_prefix("f:") {
                Some(name) => of.under(name),
                None => of.element,
            };
            !of.atomic
                && below.into_iter().all(|(key, fields)| under(key).is_none_or(|node| fits(node, fields)))
        }
        _ => true,
    }
}

/// Fits a set to a schema that has changed since: what has become atomic is owned as a whole. None: it fits.
pub(super) fn reconcile(node: Node, set: &Set) -> Option<Set> {
    let (mut remove, mut add) = (Set::default(), Set::default());
    reconcile_at(node, Some(set), false, &mut Vec::new(), &mut remove, &mut add);
    if remove.is_empty() && add.is_empty() {
        return None;
    }
    Some(set.recursive_difference(&remove).union(&add))
}

fn reconcile_at(
    node: Node,
    set: Option<&Set>,
    atomic: bool,
    path: &mut Vec<Element>,
    remove: &mut Set,
    add: &mut Set,
) {
    let mut whole = |path: &[Element]| {
        remove.insert(path);
        add.insert(path);
    };
    match node.kind(None) {
        Some(Kind::List(of)) => {
            if !atomic && of.atomic {
                whole(path);
                return;
            }
            for (element, member, below) in set.into_iter().flat_map(Set::top) {
                let below = Some(below).filter(|b| !b.is_empty());
                path.push(element.clone());
                reconcile_at(of.item, below, member && below.is_none(), path, remove, add);
                path.pop();
            }
        }
        Some(Kind::Map(of)) => {
            if matches!(node, Node::Deduced) {
                return;
            }
            if !atomic && of.atomic {
                if set.is_some_and(|s| !s.is_empty()) {
                    whole(path);
                }
                return;
            }
            for (element, member, below) in set.into_iter().flat_map(Set::top) {
                let under = match element {
                    Element::Field(name) => of.under(name),
                    _ => of.element,
                };
                let Some(under) = under else { continue };
                let below = Some(below).filter(|b| !b.is_empty());
                path.push(element.clone());
                reconcile_at(under, below, member && below.is_none(), path, remove, add);
                path.pop();
            }
        }
        _ => {}
    }
}
