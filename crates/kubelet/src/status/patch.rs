//! The smallest strategic merge patch from one pod status to another.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that the API merges by a key, with that key.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("hostIPs", "ip"), ("podIPs", "ip")];

/// A patch for the `status` subresource that turns `old` into `new`, for the object with this uid only; `None` where
/// they are the same. Conditions that others own stay as they are.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let mut patch = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        match MERGED.iter().find(|(name, _)| name == key) {
            Some((_, by)) => merged(key, by, old.get(key), value, &mut patch),
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": patch}))
}

fn merged(key: &str, by: &str, old: Option<&Value>, new: &Value, patch: &mut Map<String, Value>) {
    let items = |v: Option<&Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (items(old), items(Some(new)));
    let id = |item: &Value| item.get(by).cloned().unwrap_or_default();
    let mut changes = vec![];
    for item in &new {
        let before = old.iter().find(|o| id(o) == id(item));
        if before == Some(item) {
            continue;
        }
        let mut change = item.clone();
        if let (Some(Value::Object(before)), Value::Object(change)) = (before, &mut change) {
            for gone in before.keys().filter(|k| item.get(k.as_str()).is_none()) {
                change.insert(gone.clone(), Value::Null);
            }
            change.retain(|k, v| k == by || before.get(k) != Some(v));
        }
        changes.push(change);
    }
    for item in old.iter().filter(|o| !new.iter().any(|n| id(n) == id(o))) {
        changes.push(json!({"$patch": "delete", by: id(item)}));
    }
    let order: Vec<Value> = new.iter().map(|item| json!({by: id(item)})).collect();
    let same_order = old.iter().map(id).eq(new.iter().map(id));
    if changes.is_empty() && same_order {
        return;
    }
    if !changes.is_empty() {
        patch.insert(key.to_owned(), Value::Array(changes));
    }
    patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: Value, new: Value, expected: Value) {
        let parse = |v: Value| serde_json::from_value::<PodStatus>(v).unwrap();
        let patch = status_patch("u", &parse(old), &parse(new));
        let status = patch.map_or(Value::Null, |p| p["status"].clone());
        assert_eq!(status, expected);
    }

    #[test]
    fn smallest() {
        check(json!({"phase": "Pending"}), json!({"phase": "Pending"}), Value::Null);
        check(
            json!({"phase": "Pending", "reason": "x"}),
            json!({"phase": "Running"}),
            json!({"phase": "Running", "reason": null}),
        );
        check(
            json!({"conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B", "status": "True"}]}),
            json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
            json!({"conditions": [{"type": "A", "status": "True", "reason": null}],
                "$setElementOrder/conditions": [{"type": "A"}, {"type": "B"}]}),
        );
        check(
            json!({"podIPs": [{"ip": "1"}]}),
            json!({"podIPs": [{"ip": "2"}]}),
            json!({"podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}], "$setElementOrder/podIPs": [{"ip": "2"}]}),
        );
        check(json!({"podIPs": [{"ip": "1"}]}), json!({}), json!({"podIPs": null}));
    }
}
