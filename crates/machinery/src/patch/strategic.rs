//! Strategic merge patch: lists merge by key where the schema says so, and directives steer the rest.
//! <https://git.k8s.io/community/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

use super::{Error, go_print};
use crate::codec::json::Document;
use crate::schema::{Schema, Shape};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Reads a patch; with `strict`, the duplicate fields in it.
pub fn decode(bytes: &[u8], strict: bool) -> Result<(Value, Vec<String>), Error> {
    let decoded =
        Document::parse(bytes).and_then(|d| d.decode_any(strict)).map_err(|e| Error::Bad(e.to_string()))?;
    match decoded.value {
        Value::Object(_) => Ok((decoded.value, decoded.strict)),
        Value::Null => Ok((Value::Object(Map::new()), decoded.strict)),
        other => Err(Error::Bad(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            super::merge::word(&other)
        ))),
    }
}

/// The patched object, not yet read by schema. Only for built-in types.
pub fn apply(schema: &Schema, document: &Value, patch: &Value) -> Result<Value, Error> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(Error::Bad("invalid JSON document".into()));
    };
    merge_map(document.clone(), patch.clone(), At { schema }).map(Value::Object)
}

/// Where we are.
#[derive(Clone, Copy)]
struct At<'a> {
    schema: &'a Schema,
}

/// What the schema says of a field.
struct Meta<'a> {
    at: At<'a>,
    /// Without `retainKeys`.
    strategy: &'static str,
    merge_key: &'a str,
}

impl<'a> At<'a> {
    fn lookup(self, key: &str) -> Result<Meta<'a>, Error> {
        let Shape::Struct(s) = self.schema.shape() else {
            let kind = match self.schema.shape() {
                Shape::Map(_) => "map",
                Shape::List(_) => "slice",
                Shape::Any => "interface",
                _ => "struct",
            };
            return Err(Error::Internal(format!(
                "merging an object in json but data type is not struct, instead is: {kind}"
            )));
        };
        let field = s.field(key).ok_or_else(|| {
            let name = s.go_name();
            Error::Internal(format!("unable to find api field in struct {name} for the json field \"{key}\""))
        })?;
        let strategy = field.patch_strategy.split(',').find(|s| *s != "retainKeys").unwrap_or("");
        Ok(Meta { at: At { schema: &field.schema }, strategy, merge_key: field.merge_key })
    }

    fn lookup_list(self, key: &str) -> Result<Meta<'a>, Error> {
        let meta = self.lookup(key)?;
        match meta.at.schema.item() {
            Some(item) => Ok(Meta { at: At { schema: item }, ..meta }),
            None => Err(Error::Internal("expected slice or array type, but got: struct".into())),
        }
    }
}

fn merge_map(mut original: Object, mut patch: Object, at: At) -> Result<Object, Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered(&mut original, &mut patch, at)?;
    for (key, value) in patch {
        let (deletes, key) = match key.strip_prefix(DELETE_FROM) {
            Some(_) => {
                let bad = || Error::Bad("invalid patch format of primitive list".into());
                let (prefix, name) = key.split_once('/').ok_or_else(bad)?;
                (true, if prefix == DELETE_FROM { name.to_owned() } else { return Err(bad()) })
            }
            None => (false, key),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let meta = at.lookup(&key)?;
                Some(Value::Object(match meta.strategy {
                    "replace" => new,
                    _ => merge_map(old, new, meta.at)?,
                }))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let meta = at.lookup_list(&key)?;
                Some(Value::Array(merge_list(old, new, &meta, deletes)?))
            }
            (old, _) if deletes => old,
            (_, mut new) => {
                discard_nulls(&mut new);
                without_directives(new)
            }
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::Bad("invalid patch format of retainKeys".into());
    let keep: Vec<String> = match directive {
        Value::Array(keys) => keys.iter().map(|k| k.as_str().unwrap_or("").to_owned()).collect(),
        _ => return Err(bad()),
    };
    for (key, value) in &*patch {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(ORDER);
        if !value.is_null() && !directive && !keep.contains(key) {
            return Err(bad());
        }
    }
    original.retain(|key, _| keep.contains(key));
    Ok(())
}

/// Fields whose elements' order the patch gives: merged and taken out of the patch.
fn merge_ordered(original: &mut Object, patch: &mut Object, at: At) -> Result<(), Error> {
    let keys: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER)).cloned().collect();
    for key in keys {
        let bad = || Error::Bad("invalid patch format of setElementOrder list".into());
        let order = match patch.remove(&key) {
            Some(Value::Array(order)) => order,
            other => return Err(wrong_type("[]interface {}", other.as_ref())),
        };
        let (prefix, name) = key.split_once('/').ok_or_else(bad)?;
        if prefix != ORDER {
            return Err(bad());
        }
        let list = |value: Option<&Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            other => Err(wrong_type("[]interface {}", other)),
        };
        let old = list(original.get(name))?;
        let new = list(patch.get(name))?;
        let meta = at.lookup_list(name)?;
        check_order(new.as_deref().unwrap_or(&[]), &order, meta.merge_key)?;
        let merged = match (old.clone(), new.clone()) {
            (Some(old), None) => old,
            (None, Some(new)) => match without_directives(Value::Array(new)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(old), Some(new)) => merge_list(old, new, &meta, false)?,
            (None, None) => continue,
        };
        let (in_order, others) = partition(merged, &order, meta.merge_key)?;
        let maps = element_kind(old.as_deref().unwrap_or(&[]), new.as_deref().unwrap_or(&[]))?;
        let server = old.unwrap_or_default();
        let both = arrange(in_order, others, &order, &server, meta.merge_key, maps)?;
        original.insert(name.to_owned(), Value::Array(both));
        patch.remove(name);
    }
    Ok(())
}

/// The items of the patch must come in the order it gives.
fn check_order(items: &[Value], order: &[Value], merge_key: &str) -> Result<(), Error> {
    if items.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut next = order.iter();
    for item in items.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let mut found = false;
        for other in next.by_ref() {
            if same_key(item, other, merge_key)? {
                found = true;
                break;
            }
        }
        if !found {
            let (items, order) = (Value::from(items.to_vec()), Value::from(order.to_vec()));
            return Err(Error::Internal(format!(
                "The order in patch list:\n{}\n doesn't match {ORDER} list:\n{}\n",
                go_print(&items),
                go_print(&order)
            )));
        }
    }
    Ok(())
}

fn same_key(left: &Value, right: &Value, merge_key: &str) -> Result<bool, Error> {
    if merge_key.is_empty() {
        return Ok(left == right);
    }
    Ok(key_of(left, merge_key)? == key_of(right, merge_key)?)
}

fn key_of<'a>(item: &'a Value, merge_key: &str) -> Result<&'a Value, Error> {
    let map = item.as_object().ok_or_else(|| wrong_type("map[string]interface {}", Some(item)))?;
    map.get(merge_key).ok_or_else(|| no_merge_key(item, merge_key))
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    meta: &Meta,
    deletes: bool,
) -> Result<Vec<Value>, Error> {
    if meta.strategy != "merge" && !deletes {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let maps = element_kind(&original, &patch)?;
    if !maps {
        if deletes {
            return Ok(original.into_iter().filter(|v| !patch.contains(v)).collect());
        }
        let both = deduplicate(original.iter().chain(&patch).cloned().collect());
        let (in_patch, others) = partition(both, &patch, "")?;
        return arrange(in_patch, others, &patch, &original, "", false);
    }
    let key = meta.merge_key;
    if key.is_empty() {
        return Err(Error::Internal("cannot merge lists without merge key for struct".into()));
    }
    let (mut merged, patch) = special_elements(original, patch, key)?;
    let server = merged.clone();
    for item in &patch {
        let value = key_of(item, key)?;
        match merged.iter_mut().find(|old| old.get(key) == Some(value)) {
            Some(old) => {
                let (Value::Object(before), Value::Object(change)) = (old.take(), item.clone()) else {
                    continue;
                };
                *old = Value::Object(merge_map(before, change, meta.at)?);
            }
            None => merged.push(item.clone()),
        }
    }
    let (in_patch, others) = partition(merged, &patch, key)?;
    arrange(in_patch, others, &patch, &server, key, true)
}

/// Carries out `$patch: delete` and `$patch: replace` elements; gives the list and the patch without them.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let value = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|old| old.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Internal("merging lists cannot yet be specified in the patch".into()));
            }
            _ => {
                let map = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(directive, &map));
            }
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (original, rest) })
}

/// Which items are also in the other list, and which are not.
fn partition(items: Vec<Value>, by: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for item in items {
        let found = if key.is_empty() {
            by.contains(&item)
        } else {
            let value = key_of(&item, key)?;
            by.iter().any(|other| other.get(key) == Some(value))
        };
        if found { &mut inside } else { &mut outside }.push(item);
    }
    Ok((inside, outside))
}

/// Items of the patch in its order, the server's in theirs, merged by the server's order where that knows both.
fn arrange(
    patch: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
    maps: bool,
) -> Result<Vec<Value>, Error> {
    let patch = sort_by_order(patch, patch_order, key, maps)?;
    let server_only = sort_by_order(server_only, server_order, key, maps)?;
    let mut out = Vec::with_capacity(patch.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), patch.into_iter().peekable());
    loop {
        let from_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => {
                match (place(server_order, l, key, maps), place(server_order, r, key, maps)) {
                    (Some(l), Some(r)) => l < r,
                    _ => false,
                }
            }
        };
        out.extend(if from_left { left.next() } else { right.next() });
    }
}

fn place(order: &[Value], item: &Value, key: &str, maps: bool) -> Option<usize> {
    let of = |v: &Value| if maps { v.get(key).cloned().unwrap_or(Value::Null) } else { v.clone() };
    let wanted = of(item);
    order.iter().position(|v| of(v) == wanted)
}

fn sort_by_order(items: Vec<Value>, order: &[Value], key: &str, maps: bool) -> Result<Vec<Value>, Error> {
    if maps {
        for item in items.iter().chain(order) {
            key_of(item, key)?;
        }
    }
    // an insertion sort, as upstream's comparison is not an order where items are missing from `order`
    let mut out: Vec<(Option<usize>, Value)> = Vec::with_capacity(items.len());
    for item in items {
        let at = place(order, &item, key, maps);
        let before = |(other, _): &&(Option<usize>, Value)| match (at, other) {
            (Some(a), Some(b)) => a < *b,
            _ => true,
        };
        let keep = out.len() - out.iter().rev().take_while(before).count();
        out.insert(keep, (at, item));
    }
    Ok(out.into_iter().map(|(_, item)| item).collect())
}

/// As upstream: the last one takes the place of a double.
fn deduplicate(mut items: Vec<Value>) -> Vec<Value> {
    let mut at = 0;
    while at < items.len() {
        let mut other = at + 1;
        while other < items.len() {
            if items[at] == items[other] {
                items.swap_remove(other);
            } else {
                other += 1;
            }
        }
        at += 1;
    }
    items
}

/// Are the elements maps? They must all be of one type.
fn element_kind(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kind: Option<&'static str> = None;
    for item in original.iter().chain(patch) {
        let this = go_type(item);
        match kind {
            None if item.is_array() => {
                return Err(Error::Unprocessable("lists of lists are not supported".into()));
            }
            None => kind = Some(this),
            Some(other) if other != this => {
                let lists = Value::from(vec![Value::from(original.to_vec()), Value::from(patch.to_vec())]);
                return Err(Error::Internal(format!(
                    "list element types are not identical: {}",
                    go_print(&lists)
                )));
            }
            Some(_) => {}
        }
    }
    match kind {
        Some(kind) => Ok(kind == "map[string]interface {}"),
        None => Err(Error::Internal("no elements in any of the given slices".into())),
    }
}

/// Nulls in objects vanish, also below lists.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// None: the value itself is a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = map.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn wrong_type(expected: &str, actual: Option<&Value>) -> Error {
    let actual = actual.map_or("%!s(<nil>)", go_type);
    Error::Internal(format!("expected a {expected}, but received a {actual}"))
}

fn no_merge_key(item: &Value, key: &str) -> Error {
    Error::Internal(format!("map: {} does not contain declared merge key: {key}", go_print(item)))
}

fn unknown_directive(directive: &Value, map: &Object) -> Error {
    let map = go_print(&Value::Object(map.clone()));
    Error::Internal(format!("unknown patch type: {} in map: {map}", go_print(directive)))
}
