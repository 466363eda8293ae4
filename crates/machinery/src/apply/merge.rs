//! Merging an applied configuration into an object.

use serde_json::{Map, Value};

use super::node::{Kind, ListNode, Node, array, object};
use super::set::Element;
use super::walk::{Errors, scalar_error};

/// The live object with what the configuration says; lists keep the live order as far as they can.
pub(super) fn merge(node: Node, live: &Value, config: &Value) -> Result<Value, Errors> {
    let merged = merge_at(node, Some(live), Some(config))?;
    Ok(merged.unwrap_or(Value::Null))
}

fn merge_at(node: Node, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, Errors> {
    handle(node.kind(right.or(left)), left, right)
}

fn handle(kind: Option<Kind>, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, Errors> {
    let leaf = || Ok(right.or(left).cloned());
    match kind {
        None => Err(vec![(String::new(), "schema error: invalid atom: inlined".into())]),
        Some(Kind::Scalar(scalar)) => {
            let wrong = |v: Option<&Value>| v.and_then(|v| scalar_error(scalar, v));
            match (wrong(left), wrong(right)) {
                (Some(l), Some(r)) => {
                    Err(vec![(String::new(), format!("lhs: {l}")), (String::new(), format!("rhs: {r}"))])
                }
                _ => leaf(),
            }
        }
        Some(Kind::Map(of)) => {
            let (l, r) = (object(left), object(right));
            if of.atomic || (l.is_none_or(Map::is_empty) && r.is_none_or(Map::is_empty)) {
                return leaf();
            }
            let mut out = Map::new();
            let mut errors = Errors::new();
            let new_keys =
                r.into_iter().flat_map(Map::keys).filter(|k| l.is_none_or(|l| !l.contains_key(*k)));
            for key in l.into_iter().flat_map(Map::keys).chain(new_keys) {
                let Some(node) = of.under(key) else { continue };
                match merge_at(node, l.and_then(|l| l.get(key)), r.and_then(|r| r.get(key))) {
                    Ok(Some(value)) => drop(out.insert(key.clone(), value)),
                    Ok(None) => {}
                    Err(found) => errors.extend(found.into_iter().map(|(p, m)| (format!(".{key}{p}"), m))),
                }
            }
            if !errors.is_empty() {
                return Err(errors);
            }
            Ok((!out.is_empty()).then_some(Value::Object(out)))
        }
        Some(Kind::List(of)) => {
            let (l, r) = (array(left), array(right));
            if of.atomic || (l.is_none_or(<[_]>::is_empty) && r.is_none_or(<[_]>::is_empty)) {
                return leaf();
            }
            let out = merge_list(&of, l.unwrap_or(&[]), r.unwrap_or(&[]))?;
            Ok((!out.is_empty()).then_some(Value::Array(out)))
        }
    }
}

/// The items of a list with their names; a name that stands twice has null for its value.
struct Named<'a> {
    elements: Vec<Element>,
    items: &'a [Value],
}

static NULL: Value = Value::Null;

impl<'a> Named<'a> {
    fn new(of: &ListNode, items: &'a [Value], duplicates: bool) -> Result<Self, Errors> {
        let mut elements: Vec<Element> = Vec::with_capacity(items.len());
        let mut errors = Errors::new();
        for (at, item) in items.iter().enumerate() {
            match of.element(item) {
                Ok(element) if !duplicates && elements.contains(&element) => {
                    errors.push((String::new(), format!("duplicate entries for key {element}")));
                }
                Ok(element) => elements.push(element),
                Err(message) => errors.push((String::new(), format!("element {at}: {message}"))),
            }
        }
        if errors.is_empty() { Ok(Self { elements, items }) } else { Err(errors) }
    }

    fn get(&self, element: &Element) -> Option<&'a Value> {
        let mut found = self.elements.iter().enumerate().filter(|(_, e)| *e == element);
        let (at, _) = found.next()?;
        if found.next().is_some() { Some(&NULL) } else { self.items.get(at) }
    }
}

fn merge_list(of: &ListNode, left: &[Value], right: &[Value]) -> Result<Vec<Value>, Errors> {
    let right = Named::new(of, right, false)?;
    let left = Named::new(of, left, true)?;
    // names that both have, in the order of the right
    let mut shared = right.elements.iter().filter(|e| left.get(e).is_some());
    let mut next_shared = shared.next();
    let mut merged_right: Vec<&Element> = Vec::new();
    let mut out = Vec::with_capacity(left.items.len().max(right.items.len()));
    // upstream loses the errors of items; the objects have been validated before
    let mut push = |element: &Element, l: Option<&Value>| {
        out.extend(merge_at(of.item, l, right.get(element)).ok().flatten());
    };
    let (mut l, mut r) = (0, 0);
    while l < left.elements.len() || r < right.elements.len() {
        if let (Some(le), Some(re)) = (left.elements.get(l), right.elements.get(r)) {
            if le == re {
                merged_right.push(re);
                push(le, left.get(le));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if right.get(le).is_some() && next_shared.is_some_and(|next| next != le) {
                l += 1;
                continue;
            }
        }
        if let Some(le) = left.elements.get(l) {
            if right.get(le).is_none() {
                push(le, left.items.get(l));
                l += 1;
                continue;
            } else if merged_right.contains(&le) {
                l += 1;
            }
        }
        if let Some(re) = right.elements.get(r) {
            merged_right.push(re);
            push(re, left.get(re));
            r += 1;
            if next_shared == Some(re) {
                next_shared = shared.next();
            }
        }
    }
    Ok(out)
}

/// Places in a configuration that would replace an atomic list or object as a whole, as paths.
pub(super) fn atomics(node: Node, value: &Value, path: &str, out: &mut Vec<String>) {
    match (node.kind(Some(value)), value) {
        (Some(Kind::Map(of)), Value::Object(map)) => {
            if of.atomic {
                out.push(path.to_owned());
            }
            for (key, value) in map {
                if let Some(below) = of.field(key) {
                    atomics(below, value, &format!("{path}.{key}"), out);
                }
            }
        }
        (Some(Kind::List(of)), Value::Array(items)) => {
            if of.atomic {
                out.push(path.to_owned());
            }
            for (i, item) in items.iter().enumerate() {
                atomics(of.item, item, &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}
