use super::*;
use crate::select::{Known, Selector};
use machinery::json;

fn cache() -> Cache {
    Cache::new(true, 4, &["spec.nodeName"], |o, _| o["spec"]["nodeName"].as_str().unwrap_or("").to_owned())
}

fn put(cache: &Cache, revision: i64, key: &str, node: &str, label: &str) {
    let object = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": node},
        "metadata": {"name": key.rsplit('/').next(), "labels": {"a": label}}});
    let entry = Entry::new(key.into(), revision, &object, &cache.fields);
    cache.apply(revision, vec![(key.into(), Some(entry))]);
}

fn interest(cache: &Cache, namespace: &str, labels: &str, fields: &str) -> Interest {
    Interest::new(
        namespace,
        Selector::parse(labels, fields, |f| cache.fields.position(f), true, Known::default()).unwrap(),
    )
}

#[test]
fn bytes_carry_the_revision() {
    let cache = cache();
    put(&cache, 7, "ns/a", "n1", "x");
    let entry = cache.get("ns/a").unwrap();
    assert_eq!(entry.parse()["metadata"]["resourceVersion"], "7");
    let later: Value = serde_json::from_slice(&entry.bare_at(1234)).unwrap();
    assert_eq!(later["metadata"]["resourceVersion"], "1234");
    assert_eq!(later["spec"]["nodeName"], "n1");
    let stored: Value = serde_json::from_slice(&stored_json(b"{\"kind\":\"Pod\",", &entry.tail())).unwrap();
    assert_eq!(stored["metadata"]["name"], "a");
    assert!(stored["metadata"].get("resourceVersion").is_none());
}

#[test]
fn watchers_get_what_they_want_and_no_more() {
    let cache = cache();
    let mut node = cache.watch_now(interest(&cache, "", "", "spec.nodeName=n1")).0;
    let mut label = cache.watch_now(interest(&cache, "ns", "a=x", "")).0;
    let mut other = cache.watch_now(interest(&cache, "other", "", "")).0;
    put(&cache, 1, "ns/a", "n1", "x");
    put(&cache, 2, "ns/a", "n1", "y");
    put(&cache, 3, "ns/a", "n2", "x");
    cache.apply(4, vec![("ns/a".into(), None)]);
    let drain = |s: &mut Subscription| {
        std::iter::from_fn(|| s.try_next()).map(|(c, e)| (c, e.revision)).collect::<Vec<_>>()
    };
    assert_eq!(drain(&mut node), [(Change::Added, 1), (Change::Modified, 2), (Change::Deleted, 3)]);
    assert_eq!(
        drain(&mut label),
        [(Change::Added, 1), (Change::Deleted, 2), (Change::Added, 3), (Change::Deleted, 4)]
    );
    assert_eq!(drain(&mut other), []);
}

#[test]
fn history_resumes_or_is_gone() {
    let cache = cache();
    for revision in 1..=6 {
        put(&cache, revision, "ns/a", "n1", "x");
    }
    assert_eq!(cache.watch_from(1, interest(&cache, "", "", "")).err().unwrap().oldest, 2);
    let mut resumed = cache.watch_from(4, interest(&cache, "", "", "")).unwrap();
    assert_eq!(resumed.try_next().unwrap().1.revision, 5);
    assert_eq!(cache.snapshot_at(3).unwrap().get("ns/a").unwrap().revision, 3);
    put(&cache, 7, "ns/b", "n1", "x");
    assert!(cache.snapshot_at(6).unwrap().get("ns/b").is_none());
    assert!(cache.snapshot_at(1).is_err());
}

#[test]
fn managers_read_as_text_make_the_same_bytes() {
    let cache = cache();
    let fields = json!({"f:spec": {"f:nodeName": {}, "k:{\"a\":\"b\"}": {".": {}}}});
    let object = |fields: Value| {
        let manager = json!({"manager": "a \"b\"", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields});
        json!({"metadata": {"name": "a", "managedFields": [manager, {}], "uid": "u"}, "spec": {}})
    };
    let entry = |object: Value| Entry::new("ns/a".into(), 7, &object, &cache.fields).bare;
    let text = Value::String(fields.to_string());
    assert_eq!(entry(object(fields.clone())), entry(object(text)));
    assert_eq!(
        serde_json::from_slice::<Value>(&entry(object(fields.clone()))).unwrap()["metadata"]["managedFields"],
        object(fields)["metadata"]["managedFields"]
    );
}
