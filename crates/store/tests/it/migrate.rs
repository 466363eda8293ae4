//! A large migration there and back.

use bytes::Bytes;
use store::embedded::{self, Options, Restorer};
use store::{KeyRange, KeyValue, RangeRequest, Store, snapshot};

use super::cluster::{Cluster, available};

const OBJECTS: i64 = 100_000;

async fn all(store: &dyn Store) -> Vec<(Bytes, Bytes)> {
    let found = store.range(RangeRequest::new(KeyRange::prefix(""))).await.unwrap();
    found.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_are_the_same_bytes() {
    if !available("etcd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (dir.path().join("first"), dir.path().join("last"));
    let mut restorer = Restorer::new(&first, OBJECTS + 1).unwrap();
    for i in 0..OBJECTS {
        let value: Vec<u8> = (0..i % 400).map(|at| (at * 7 + i) as u8).collect();
        let kv = KeyValue {
            key: format!("/registry/configmaps/ns-{:03}/{i:06}", i % 100).into(),
            value: value.into(),
            create_revision: i + 2,
            mod_revision: i + 2,
            version: 1,
            lease: 0,
        };
        restorer.put(&kv).unwrap();
    }
    restorer.finish().unwrap();
    let embedded = embedded::open(&first, Options::default()).unwrap();
    let before = all(&*embedded).await;
    assert_eq!(before.len() as i64, OBJECTS);

    let cluster = Cluster::start_with(1, "http", |_| vec!["--quota-backend-bytes=2147483648".into()]);
    let etcd = cluster.connect().await;
    let mut told = 0;
    let there = snapshot::migrate(&*embedded, &*etcd, &mut |done, _| told = done).await.unwrap();
    assert_eq!((there.keys, told), (OBJECTS as u64, OBJECTS as u64));
    assert!(all(&*etcd).await == before, "there");

    let back = snapshot::migrate_to_dir(&*etcd, &last, &mut |_, _| {}).await.unwrap();
    let embedded = embedded::open(&last, Options::default()).unwrap();
    assert!(all(&*embedded).await == before, "and back");
    let status = embedded.status().await.unwrap();
    assert_eq!(status.revision, back.revision, "revisions go on where the cluster's were");
}
