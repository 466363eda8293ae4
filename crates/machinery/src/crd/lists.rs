//! Doubles in lists that are sets or maps.

use serde_json::{Map, Value};

use crate::field::{Error, ErrorList, Path};
use crate::value::Get;

pub(super) fn check(schema: &Value, value: &Value, path: &Path, out: &mut ErrorList) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if schema.at("additionalProperties").is_object() {
                    check(schema.at("additionalProperties"), value, &path.key(key), out);
                }
                if let Some(below) = schema.at("properties").get(key) {
                    check(below, value, &path.child(key), out);
                }
            }
        }
        Value::Array(items) => {
            match schema.text("x-kubernetes-list-type") {
                "set" => {
                    let found = doubles(items);
                    out.extend(found.into_iter().map(|n| Error::duplicate(&path.index(n), items[n].clone())));
                }
                "map" => keyed(schema, items, path, out),
                _ => {}
            }
            for (n, item) in items.iter().enumerate() {
                check(schema.at("items"), item, &path.index(n), out);
            }
        }
        _ => {}
    }
}

/// Every value that stands more than once, at its second place.
fn doubles(items: &[Value]) -> Vec<usize> {
    let mut out = Vec::new();
    for (n, item) in items.iter().enumerate() {
        if items[..n].iter().filter(|other| *other == item).count() == 1 {
            out.push(n);
        }
    }
    out
}

fn keyed(schema: &Value, items: &[Value], path: &Path, out: &mut ErrorList) {
    if let Some(n) = items.iter().position(|i| !i.is_object() && !i.is_null()) {
        let message = "must be an object for an array of list-type map";
        out.push(Error::invalid(&path.index(n), items[n].clone(), message));
        return;
    }
    let names: Vec<&str> =
        schema.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let key = |item: &Value| -> Value {
        let found = names.iter().filter_map(|name| Some(((*name).to_owned(), item.get(name)?.clone())));
        Value::Object(found.collect::<Map<String, Value>>())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    out.extend(doubles(&keys).into_iter().map(|n| Error::duplicate(&path.index(n), keys[n].clone())));
}
