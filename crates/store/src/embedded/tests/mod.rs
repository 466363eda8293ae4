//! The battery, reopening, and (in `crash`) a disk that fails.

mod crash;

use bytes::Bytes;

use super::*;
use crate::{KeyRange, Op, write};

async fn fresh() -> (Arc<dyn Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // Small, so that segments, checkpoints and clean-ups come by often.
    (open(dir.path(), small()).unwrap(), dir)
}

crate::battery!(fresh());

fn small() -> Options {
    Options { segment_size: 64 << 10, checkpoint_every: 32 << 10, retain: None, ..Options::default() }
}

async fn put(store: &dyn Store, key: &str, value: impl Into<Bytes>) -> Revision {
    let op = Op::Put { key: key.to_owned().into(), value: value.into(), lease: 0, prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap().revision
}

async fn all(store: &dyn Store) -> RangeResponse {
    store.range(RangeRequest::new(KeyRange::prefix(""))).await.unwrap()
}

#[tokio::test]
async fn reopens_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), small()).unwrap();
    let lease = store.lease_grant(0, 1000).await.unwrap().id;
    for i in 0..2000 {
        put(&*store, &format!("k/{}", i % 300), format!("value {i}").repeat(5)).await;
    }
    let op = Op::Put { key: "leased".into(), value: "x".into(), lease, prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
    write::delete(&*store, "k/7".into(), 0).await.unwrap();
    let middle = store.status().await.unwrap().revision - 500;
    store.compact(middle).await.unwrap();
    let before = all(&*store).await;
    let old = store
        .range(RangeRequest { revision: middle, ..RangeRequest::new(KeyRange::prefix("k/")) })
        .await
        .unwrap();
    drop(store);
    for _ in 0..3 {
        let store = open(dir.path(), small()).unwrap();
        let after = all(&*store).await;
        assert_eq!((after.revision, &after.kvs), (before.revision, &before.kvs));
        let again = store
            .range(RangeRequest { revision: middle, ..RangeRequest::new(KeyRange::prefix("k/")) })
            .await
            .unwrap();
        assert_eq!(again.kvs, old.kvs);
        assert_eq!(store.lease_time_to_live(lease, true).await.unwrap().keys, ["leased"]);
        assert_eq!(store.status().await.unwrap().compact_revision, middle);
    }
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path(), small()).unwrap();
    let error = open(dir.path(), small()).err().unwrap().to_string();
    assert!(error.contains("in use by process"), "{error}");
}
