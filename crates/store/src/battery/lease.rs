//! Leases. Those that wait for an expiry take the seconds that a lease takes.

use super::*;
use crate::{Error, LeaseId};

async fn put_leased(store: &dyn Store, key: &'static str, lease: LeaseId) -> Revision {
    let op = Op::Put { key: key.into(), value: "leased".into(), lease, prev_kv: false };
    do_txn(store, vec![op]).await.revision
}

pub async fn grant_and_list(store: Arc<dyn Store>) {
    let before = revision(&*store).await;
    let lease = store.lease_grant(0, 600).await.unwrap();
    assert!(lease.id != 0 && lease.granted_ttl == 600);
    assert!(store.leases().await.unwrap().contains(&lease.id));
    assert_eq!(revision(&*store).await, before, "a grant is no commit");
    put_leased(&*store, "lg/b", lease.id).await;
    put_leased(&*store, "lg/a", lease.id).await;
    assert_eq!(get(&*store, "lg/a").await.unwrap().lease, lease.id);
    let told = store.lease_time_to_live(lease.id, true).await.unwrap();
    let mut keys = told.keys.clone();
    keys.sort();
    assert_eq!(keys, ["lg/a", "lg/b"]);
    assert!(told.granted_ttl == 600 && (500..=600).contains(&told.ttl), "{told:?}");
    assert!(store.lease_time_to_live(lease.id, false).await.unwrap().keys.is_empty());
    store.lease_revoke(lease.id).await.unwrap();
}

pub async fn revoke_deletes_keys(store: Arc<dyn Store>) {
    let lease = store.lease_grant(0, 600).await.unwrap().id;
    put_leased(&*store, "lr/a", lease).await;
    let last = put_leased(&*store, "lr/b", lease).await;
    put(&*store, "lr/c", "stays").await;
    let mut watch = watch(&*store, "lr/", last + 2).await;
    store.lease_revoke(lease).await.unwrap();
    let left: Vec<_> =
        range(&*store, KeyRange::prefix("lr/"), 0, 0).await.kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, ["lr/c"]);
    let (revision, events) = next_commit(&mut *watch).await;
    assert_eq!((revision, events.len()), (last + 2, 2), "one revision for all of its keys");
    assert!(events.iter().all(|e| e.kind == EventKind::Delete));
    assert!(!store.leases().await.unwrap().contains(&lease));
    assert!(matches!(store.lease_revoke(lease).await, Err(Error::LeaseNotFound)));
}

pub async fn expiry_deletes_keys(store: Arc<dyn Store>) {
    let lease = store.lease_grant(0, 1).await.unwrap().id;
    let at = put_leased(&*store, "le/a", lease).await;
    let mut watch = watch(&*store, "le/", at + 1).await;
    let (_, events) = next_commit(&mut *watch).await;
    assert_eq!(told(&events[0]), format!("-le/a@{}", at + 1));
    assert_eq!(store.lease_time_to_live(lease, false).await.unwrap().ttl, -1);
}

pub async fn keep_alive_keeps(store: Arc<dyn Store>) {
    let short = store.lease_grant(0, 2).await.unwrap();
    let kept = store.lease_grant(0, 6).await.unwrap().id;
    put_leased(&*store, "lk/kept", kept).await;
    let mut last = put_leased(&*store, "lk/short", short.id).await;
    // Each expiry of the short lease is a reason to renew the longer one: it outlives several of its own lengths.
    for _ in 0..4 {
        let mut watch = watch(&*store, "lk/short", last + 1).await;
        let (gone, _) = next_commit(&mut *watch).await;
        let renewed = store.lease_keep_alive(kept).await.unwrap();
        assert!(renewed.ttl >= 6, "{renewed:?}");
        let short = store.lease_grant(0, 2).await.unwrap().id;
        last = put_leased(&*store, "lk/short", short).await;
        assert!(last > gone);
    }
    assert!(get(&*store, "lk/kept").await.is_some());
    store.lease_revoke(kept).await.unwrap();
}

pub async fn put_moves_between_leases(store: Arc<dyn Store>) {
    let first = store.lease_grant(0, 600).await.unwrap().id;
    let second = store.lease_grant(0, 600).await.unwrap().id;
    put_leased(&*store, "lm/a", first).await;
    put_leased(&*store, "lm/a", second).await;
    put_leased(&*store, "lm/b", first).await;
    put(&*store, "lm/b", "no lease any more").await;
    store.lease_revoke(first).await.unwrap();
    assert_eq!(range(&*store, KeyRange::prefix("lm/"), 0, 0).await.count, 2, "neither hangs on it");
    store.lease_revoke(second).await.unwrap();
    assert_eq!(get(&*store, "lm/a").await, None);
    assert_eq!(get(&*store, "lm/b").await.unwrap().lease, 0);
}

pub async fn unknown_lease(store: Arc<dyn Store>) {
    const NEVER: LeaseId = 123_123_123;
    assert!(matches!(store.lease_revoke(NEVER).await, Err(Error::LeaseNotFound)));
    assert!(matches!(store.lease_keep_alive(NEVER).await, Err(Error::LeaseNotFound)));
    assert_eq!(store.lease_time_to_live(NEVER, true).await.unwrap().ttl, -1);
}

pub async fn given_id(store: Arc<dyn Store>) {
    const ID: LeaseId = 0x1234_5678_9abc;
    assert_eq!(store.lease_grant(ID, 600).await.unwrap().id, ID);
    assert!(matches!(store.lease_grant(ID, 600).await, Err(Error::LeaseExists)));
    store.lease_revoke(ID).await.unwrap();
}
