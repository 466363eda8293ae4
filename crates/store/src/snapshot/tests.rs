use std::sync::Arc;

use super::*;
use crate::embedded::{self, Options};
use crate::memory::Memory;

async fn put(store: &dyn Store, key: String, value: Vec<u8>, lease: LeaseId) {
    let op = Op::Put { key: key.into(), value: value.into(), lease, prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
}

async fn sample() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let lease = store.lease_grant(0, 500).await.unwrap().id;
    for i in 0..1300u32 {
        let value = vec![(i % 251) as u8; (i % 700) as usize];
        put(&*store, format!("/registry/{:04}", i * 7 % 1200), value, if i % 100 == 0 { lease } else { 0 })
            .await;
    }
    let op = Op::Delete { range: KeyRange::key("/registry/0007"), prev_kv: false };
    store.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
    store
}

async fn all(store: &dyn Store) -> Vec<KeyValue> {
    store.range(RangeRequest::new(KeyRange::prefix(""))).await.unwrap().kvs
}

#[tokio::test]
async fn saved_verified_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("a.r8s"), dir.path().join("data"));
    let store = sample().await;
    let mut told = Vec::new();
    let saved = save_file(&*store, &file, &mut |done, of| told.push((done, of))).await.unwrap();
    assert_eq!(saved.keys, told.last().unwrap().0);
    let verified = verify(&file).unwrap();
    assert_eq!((verified.revision, verified.keys, verified.bytes), (saved.revision, saved.keys, saved.bytes));
    restore(&file, &data, &mut |_, _| {}).unwrap();
    let restored = embedded::open(&data, Options::default()).unwrap();
    assert_eq!(all(&*restored).await, all(&*store).await, "revisions included");
    let status = restored.status().await.unwrap();
    assert_eq!((status.revision, status.compact_revision), (saved.revision, saved.revision));
    let lease = store.leases().await.unwrap()[0];
    let leased = store.lease_time_to_live(lease, true).await.unwrap().keys;
    assert!(leased.len() > 10);
    assert_eq!(restored.lease_time_to_live(lease, true).await.unwrap().keys, leased);
    put(&*restored, "next".into(), vec![], 0).await;
    assert_eq!(restored.status().await.unwrap().revision, saved.revision + 1);
    drop(restored);
    assert_eq!(
        embedded::open(&data, Options::default()).unwrap().status().await.unwrap().revision,
        saved.revision + 1
    );
    let refused = restore(&file, &data, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
}

#[tokio::test]
async fn every_damage_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("a.r8s"), dir.path().join("data"));
    save_file(&*sample().await, &file, &mut |_, _| {}).await.unwrap();
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        let error = restore(&file, &data, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains("offset"), "{at}: {error}");
    }
    for len in [0, 7, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&file, &good[..len]).unwrap();
        assert!(matches!(verify(&file), Err(Error::Corrupt(_))), "cut to {len}");
    }
    assert!(!data.exists());
    // As an etcd's tools leave it: padded, and with a digest behind.
    std::fs::write(&file, [&good[..], &[0; 100]].concat()).unwrap();
    verify(&file).unwrap();
}

#[tokio::test]
async fn only_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample().await;
    let schedule = Schedule { dir: dir.path().join("snapshots"), every: Duration::from_secs(1), keep: 2 };
    let mut last = None;
    for i in 0..4 {
        put(&*store, format!("k{i}"), vec![], 0).await;
        let taken = take(&*store, &schedule, last).await.unwrap().unwrap();
        last = Some(taken.revision);
        assert_eq!(take(&*store, &schedule, last).await.unwrap(), None, "nothing has changed");
        tokio::time::sleep(Duration::from_millis(2)).await; // names have milliseconds
    }
    let mut left: Vec<_> = std::fs::read_dir(&schedule.dir).unwrap().map(|e| e.unwrap().path()).collect();
    left.sort();
    assert_eq!(left.len(), 2);
    assert_eq!(Some(verify(&left[1]).unwrap().revision), last);
}

#[tokio::test]
async fn migration_keeps_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let from = sample().await;
    let to = Memory::new();
    migrate(&*from, &to, &mut |_, _| {}).await.unwrap();
    let bytes =
        |kvs: Vec<KeyValue>| kvs.into_iter().map(|kv| (kv.key, kv.value, kv.lease)).collect::<Vec<_>>();
    assert_eq!(bytes(all(&to).await), bytes(all(&*from).await));
    let refused = migrate(&*from, &to, &mut |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("must be empty"), "{refused}");
    migrate_to_dir(&to, dir.path(), &mut |_, _| {}).await.unwrap();
    let back = embedded::open(dir.path(), Options::default()).unwrap();
    assert_eq!(all(&*back).await, all(&to).await);
}
