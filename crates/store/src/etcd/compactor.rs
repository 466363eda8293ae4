//! Compaction of a cluster that several API servers share: in each interval the first of them does it.
//!
//! The agreement is kube-apiserver's, so that both may run side by side: a key whose version counts the intervals, and
//! whoever writes the next version compacts to where the cluster was an interval ago.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    Compare, KeyRange, Op, OpResponse, Ordering, RangeRequest, Result, Revision, Store, Target, Txn,
};

const KEY: &str = "compact_rev_key";

/// Compacts history older than one interval (to two), until shutdown.
pub async fn compact_regularly(store: Arc<dyn Store>, every: Duration, shutdown: CancellationToken) {
    let (mut version, mut revision) = (0, 0);
    loop {
        match round(&*store, version, revision).await {
            Ok(next) => (version, revision) = next,
            Err(error) => tracing::warn!(%error, "the etcd cluster could not be compacted"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// One interval: what was agreed then, and where the cluster was, go in; what is now comes out.
async fn round(store: &dyn Store, version: i64, revision: Revision) -> Result<(i64, Revision)> {
    let range = KeyRange::key(KEY);
    let txn = Txn {
        compare: vec![Compare {
            range: range.clone(),
            ordering: Ordering::Equal,
            target: Target::Version(version),
        }],
        success: vec![Op::Put {
            key: KEY.into(),
            value: revision.to_string().into(),
            lease: 0,
            prev_kv: false,
        }],
        failure: vec![Op::Range(RangeRequest::new(range))],
    };
    let response = store.txn(txn).await?;
    if !response.succeeded {
        // Somebody else was first in this interval, or we have just come.
        let version = match response.responses.first() {
            Some(OpResponse::Range(found)) => found.kvs.first().map_or(0, |kv| kv.version),
            _ => 0,
        };
        return Ok((version, response.revision));
    }
    if revision > 0 {
        store.compact(revision).await?;
    }
    Ok((version + 1, response.revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn of_several_one_compacts_to_an_interval_ago() {
        let store = Memory::new();
        let (mut a, mut b) = ((0, 0), (0, 0));
        a = round(&store, a.0, a.1).await.unwrap();
        b = round(&store, b.0, b.1).await.unwrap();
        assert_eq!((a.0, b.0), (1, 1));
        assert_eq!(store.status().await.unwrap().compact_revision, 0, "nobody knows where it was before");
        let before = a.1;
        crate::write::create(&store, "k".into(), "v".into(), 0).await.unwrap();
        b = round(&store, b.0, b.1).await.unwrap();
        a = round(&store, a.0, a.1).await.unwrap();
        assert_eq!((a.0, b.0), (2, 2));
        assert_eq!(store.status().await.unwrap().compact_revision, before, "once");
        let found = store.range(RangeRequest::new(KeyRange::key(KEY))).await.unwrap();
        assert_eq!(found.kvs[0].value, before.to_string());
    }
}
