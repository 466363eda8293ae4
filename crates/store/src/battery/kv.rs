//! Puts, deletes and ranges.

use super::*;
use crate::Error;

pub async fn put_and_get(store: Arc<dyn Store>) {
    assert_eq!(get(&*store, "pg/a").await, None);
    let before = revision(&*store).await;
    let at = put(&*store, "pg/a", "one").await;
    assert_eq!(at, before + 1, "a commit adds one");
    let wanted = KeyValue {
        key: "pg/a".into(),
        value: "one".into(),
        create_revision: at,
        mod_revision: at,
        version: 1,
        lease: 0,
    };
    assert_eq!(get(&*store, "pg/a").await, Some(wanted));
    assert_eq!(range(&*store, KeyRange::key("pg/a"), 0, 0).await.revision, at);
}

pub async fn versions_count_up(store: Arc<dyn Store>) {
    let first = put(&*store, "vc", "1").await;
    put(&*store, "vc", "2").await;
    let last = put(&*store, "vc", "3").await;
    let kv = get(&*store, "vc").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, last, 3));
}

pub async fn delete_ends_a_life(store: Arc<dyn Store>) {
    put(&*store, "dl", "1").await;
    put(&*store, "dl", "2").await;
    let (gone, deleted) = delete(&*store, "dl").await;
    assert_eq!(deleted, 1);
    assert_eq!(get(&*store, "dl").await, None);
    let back = put(&*store, "dl", "3").await;
    assert_eq!(back, gone + 1);
    let kv = get(&*store, "dl").await.unwrap();
    assert_eq!((kv.create_revision, kv.version), (back, 1), "a new life begins at one");
}

pub async fn delete_of_nothing_is_no_commit(store: Arc<dyn Store>) {
    let before = put(&*store, "dn", "x").await;
    let (at, deleted) = delete(&*store, "dn/not there").await;
    assert_eq!((at, deleted), (before, 0));
    assert_eq!(revision(&*store).await, before);
}

pub async fn ranges_and_limits(store: Arc<dyn Store>) {
    for i in [3, 1, 4, 0, 2] {
        put(&*store, format!("rl/{i}"), i.to_string()).await;
    }
    let all = range(&*store, KeyRange::prefix("rl/"), 0, 0).await;
    let keys: Vec<_> = all.kvs.iter().map(|kv| kv.key.clone()).collect();
    assert_eq!(keys, ["rl/0", "rl/1", "rl/2", "rl/3", "rl/4"], "ascending");
    assert!(!all.more);
    assert_eq!(all.count, 5);
    let some = range(&*store, KeyRange::prefix("rl/"), 0, 2).await;
    assert_eq!((some.kvs.len(), some.more, some.count), (2, true, 5));
    let rest = KeyRange { start: "rl/1\0".into(), end: Some("rl0".into()) };
    let rest = range(&*store, rest, 0, 3).await;
    assert_eq!((rest.kvs.len(), rest.more, rest.count), (3, false, 3));
    assert_eq!(rest.kvs[0].key, "rl/2");
}

pub async fn prefix_from_and_inverted(store: Arc<dyn Store>) {
    put(&*store, "pf/a", "").await;
    put(&*store, "pf/b", "").await;
    put(&*store, "pf0", "").await;
    assert_eq!(range(&*store, KeyRange::prefix("pf/"), 0, 0).await.count, 2);
    let open = KeyRange { start: "pf/b".into(), end: Some("".into()) };
    let kvs = range(&*store, open, 0, 0).await.kvs;
    assert!(kvs.iter().any(|kv| kv.key == "pf0") && kvs.iter().all(|kv| kv.key >= "pf/b"));
    let inverted = KeyRange { start: "pf/b".into(), end: Some("pf/a".into()) };
    assert_eq!(range(&*store, inverted, 0, 0).await.count, 0);
    let empty = KeyRange { start: "pf/b".into(), end: Some("pf/b".into()) };
    assert_eq!(range(&*store, empty, 0, 0).await.count, 0);
}

pub async fn reads_the_past(store: Arc<dyn Store>) {
    let first = put(&*store, "rp/a", "1").await;
    let second = put(&*store, "rp/a", "2").await;
    let (gone, _) = delete(&*store, "rp/a").await;
    let again = put(&*store, "rp/a", "3").await;
    let at = |revision| {
        let store = store.clone();
        async move { get_at(&*store, "rp/a", revision).await.map(|kv| kv.value) }
    };
    assert_eq!(at(first - 1).await, None);
    assert_eq!(at(first).await, Some("1".into()));
    assert_eq!(at(second).await, Some("2".into()));
    assert_eq!(at(gone).await, None);
    assert_eq!(at(again).await, Some("3".into()));
    let answer = range(&*store, KeyRange::key("rp/a"), first, 0).await;
    assert_eq!(answer.revision, again, "the answer tells the store's revision, not the one asked for");
}

pub async fn future_is_refused(store: Arc<dyn Store>) {
    let now = put(&*store, "fr", "").await;
    let request = RangeRequest { revision: now + 1, ..RangeRequest::new(KeyRange::key("fr")) };
    let refused = store.range(request).await;
    assert!(matches!(refused, Err(Error::FutureRevision { .. })), "{refused:?}");
}

pub async fn keys_only_and_count_only(store: Arc<dyn Store>) {
    put(&*store, "ko/a", "value").await;
    put(&*store, "ko/b", "value").await;
    let request = RangeRequest::new(KeyRange::prefix("ko/"));
    let keys = store.range(RangeRequest { keys_only: true, ..request.clone() }).await.unwrap();
    assert!(keys.kvs.len() == 2 && keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    let count = store.range(RangeRequest { count_only: true, ..request }).await.unwrap();
    assert_eq!((count.kvs.len(), count.count, count.more), (0, 2, false));
}

pub async fn binary_and_empty(store: Arc<dyn Store>) {
    let all: Vec<u8> = (0..=255).collect();
    let key = [b"bin/\0\xff\xfe/", &all[..]].concat();
    put(&*store, &key, &all).await;
    assert_eq!(get(&*store, &key).await.unwrap().value, all);
    put(&*store, "bin/empty", "").await;
    assert_eq!(get(&*store, "bin/empty").await.unwrap().value, "");
}

pub async fn large_values(store: Arc<dyn Store>) {
    let value: Vec<u8> = (0..1_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
    put(&*store, "large", &value).await;
    assert!(get(&*store, "large").await.unwrap().value == value);
    put(&*store, "large", "small").await;
}

pub async fn prev_kv(store: Arc<dyn Store>) {
    let put =
        |value: &str| Op::Put { key: "prev".into(), value: value.to_owned().into(), lease: 0, prev_kv: true };
    let first = do_txn(&*store, vec![put("1")]).await;
    assert!(matches!(&first.responses[..], [OpResponse::Put { prev_kv: None }]));
    let second = do_txn(&*store, vec![put("2")]).await;
    let [OpResponse::Put { prev_kv: Some(prev) }] = &second.responses[..] else { panic!("{second:?}") };
    assert_eq!((&prev.value[..], prev.mod_revision), (&b"1"[..], first.revision));
    let third = do_txn(&*store, vec![delete_op("prev")]).await;
    let [OpResponse::Delete { deleted: 1, prev_kvs }] = &third.responses[..] else { panic!("{third:?}") };
    assert_eq!((&prev_kvs[0].value[..], prev_kvs[0].version), (&b"2"[..], 2));
}

pub async fn unchanged_value_is_a_commit(store: Arc<dyn Store>) {
    let first = put(&*store, "same", "x").await;
    assert_eq!(put(&*store, "same", "x").await, first + 1);
}

pub async fn status_tells_revision(store: Arc<dyn Store>) {
    let before = store.status().await.unwrap();
    let at = put(&*store, "status", "x").await;
    let after = store.status().await.unwrap();
    assert_eq!((after.revision, after.keys, after.alarm), (at, before.keys + 1, None));
    assert!(after.size > 0);
}
