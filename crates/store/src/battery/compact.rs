//! Compaction: what goes and what stays.

use super::*;
use crate::{Error, Result};

async fn read(store: &dyn Store, key: &'static str, revision: Revision) -> Result<Option<Bytes>> {
    let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::key(key)) };
    Ok(store.range(request).await?.kvs.into_iter().next().map(|kv| kv.value))
}

pub async fn history_goes(store: Arc<dyn Store>) {
    let first = put(&*store, "ch", "1").await;
    let second = put(&*store, "ch", "2").await;
    let third = put(&*store, "ch", "3").await;
    store.compact(second).await.unwrap();
    let gone = read(&*store, "ch", first).await;
    assert!(matches!(gone, Err(Error::Compacted { .. })), "{gone:?}");
    assert_eq!(read(&*store, "ch", second).await.unwrap(), Some("2".into()));
    assert_eq!(read(&*store, "ch", third).await.unwrap(), Some("3".into()));
    let inside = Op::Range(RangeRequest { revision: first, ..RangeRequest::new(KeyRange::key("ch")) });
    let gone = store.txn(Txn { success: vec![inside], ..Txn::default() }).await;
    assert!(matches!(gone, Err(Error::Compacted { .. })), "{gone:?}");
}

pub async fn refuses_nonsense(store: Arc<dyn Store>) {
    let at = put(&*store, "cn", "1").await;
    let future = store.compact(at + 1).await;
    assert!(matches!(future, Err(Error::FutureRevision { .. })), "{future:?}");
    store.compact(at).await.unwrap();
    for revision in [at, at - 1] {
        let again = store.compact(revision).await;
        assert!(matches!(again, Err(Error::Compacted { .. })), "{again:?}");
    }
}

pub async fn deleted_keys_go(store: Arc<dyn Store>) {
    put(&*store, "cd/a", "1").await;
    let (gone, _) = delete(&*store, "cd/a").await;
    let last = put(&*store, "cd/b", "2").await;
    store.compact(last).await.unwrap();
    assert_eq!(range(&*store, KeyRange::prefix("cd/"), 0, 0).await.count, 1);
    assert!(gone < last);
    let back = put(&*store, "cd/a", "again").await;
    let kv = get(&*store, "cd/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.version), (back, 1));
}

pub async fn watch_from_below(store: Arc<dyn Store>) {
    let first = put(&*store, "cw", "1").await;
    put(&*store, "cw", "2").await;
    let third = put(&*store, "cw", "3").await;
    store.compact(third).await.unwrap();
    let request =
        WatchRequest { range: KeyRange::key("cw"), start_revision: first, prev_kv: false, progress: None };
    let error = match store.watch(request).await {
        Err(error) => error,
        Ok(mut watch) => loop {
            match within(watch.next()).await {
                Ok(WatchMessage::Progress { .. }) => {}
                Ok(message) => panic!("served from below the compacted revision: {message:?}"),
                Err(error) => break error,
            }
        },
    };
    assert!(matches!(error, Error::Compacted { compacted, .. } if compacted == third), "{error:?}");
    let mut watch = watch(&*store, "cw", third).await;
    assert_eq!(next_commit(&mut *watch).await.0, third, "the compacted revision itself is still there");
}

pub async fn last_versions_stay(store: Arc<dyn Store>) {
    for i in 0..50 {
        put(&*store, format!("cl/{:02}", i % 10), i.to_string()).await;
    }
    let now = revision(&*store).await;
    let before = range(&*store, KeyRange::prefix("cl/"), 0, 0).await.kvs;
    store.compact(now).await.unwrap();
    assert_eq!(range(&*store, KeyRange::prefix("cl/"), 0, 0).await.kvs, before);
    assert_eq!(range(&*store, KeyRange::prefix("cl/"), now, 0).await.kvs, before);
}

pub async fn status_tells(store: Arc<dyn Store>) {
    put(&*store, "cs", "1").await;
    let at = put(&*store, "cs", "2").await;
    store.compact(at).await.unwrap();
    // An etcd does not tell the compacted revision; an engine that does tells the right one.
    let told = store.status().await.unwrap().compact_revision;
    assert!(told == at || told == 0, "{told}");
    store.defragment().await.unwrap();
    assert_eq!(get(&*store, "cs").await.unwrap().value, "2");
}

pub async fn tombstone_at_the_compacted_revision(store: Arc<dyn Store>) {
    put(&*store, "ctr", "1").await;
    let (gone, _) = delete(&*store, "ctr").await;
    store.compact(gone).await.unwrap();
    assert_eq!(read(&*store, "ctr", gone).await.unwrap(), None);
    assert_eq!(get(&*store, "ctr").await, None);
    let back = put(&*store, "ctr", "2").await;
    store.compact(back).await.unwrap();
    assert_eq!(read(&*store, "ctr", back).await.unwrap(), Some("2".into()));
}
