//! The engine without a disk: for tests, and for clusters that need not outlive their process.

use std::sync::{Arc, Mutex, RwLock, Weak};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::mvcc::{
    self, Applied, Commit, Engine, Hub, Index, Leases, Read, Version, Watcher, Write, exclusive, lock,
};
use crate::{
    Error, Lease, LeaseId, RangeRequest, RangeResponse, Result, Revision, Store, StoreStatus, Txn,
    TxnResponse, Watch, WatchRequest,
};

/// A store in memory. Leases expire only while the tokio runtime it was granted one on runs.
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    index: RwLock<Index<Bytes>>,
    hub: Hub,
    /// Held by whoever writes, from evaluation to publication.
    writer: Mutex<Leases>,
    lease_changed: Notify,
    expiring: std::sync::atomic::AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                index: RwLock::default(),
                hub: Hub::new(1),
                writer: Mutex::default(),
                lease_changed: Notify::new(),
                expiring: false.into(),
            }),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.hub.close();
        self.shared.lease_changed.notify_one();
    }
}

struct Values;

impl Read<Bytes> for Values {
    fn read(&self, _key: &[u8], version: &Version<Bytes>) -> Result<Bytes> {
        Ok(version.slot.clone())
    }
}

impl Write<Bytes> for Values {
    fn write(&mut self, _key: &Bytes, value: &Bytes, _version: &Version<Bytes>) -> Bytes {
        value.clone()
    }
}

impl Engine for Shared {
    type Slot = Bytes;
    type Reader = Values;
    const BLOCKS: bool = false;

    fn index(&self) -> &RwLock<Index<Bytes>> {
        &self.index
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn reader(&self) -> Values {
        Values
    }
}

impl Shared {
    fn txn(&self, txn: &Txn) -> Result<TxnResponse> {
        let mut leases = lock(&self.writer);
        let exists = |id| leases.contains(id);
        let applied = mvcc::execute(&mut exclusive(&self.index), &mut Values, &exists, txn)?;
        Ok(self.publish(&mut leases, applied))
    }

    fn publish(&self, leases: &mut Leases, applied: Applied) -> TxnResponse {
        let Applied { response, events } = applied;
        if !events.is_empty() {
            leases.follow(&events);
            self.hub.publish(self, &[Commit { revision: response.revision, events }]);
        }
        response
    }

    fn revoke(&self, leases: &mut Leases, id: LeaseId) -> Result<()> {
        if !leases.contains(id) {
            return Err(Error::LeaseNotFound);
        }
        let applied = mvcc::revoke(&mut exclusive(&self.index), &mut Values, leases.keys(id))?;
        self.publish(leases, applied);
        leases.remove(id);
        Ok(())
    }

    /// Starts the task that lets leases expire, unless it runs.
    fn watch_leases(self: &Arc<Self>) {
        use std::sync::atomic::Ordering::AcqRel;
        if self.expiring.swap(true, AcqRel) {
            self.lease_changed.notify_one();
            return;
        }
        tokio::spawn(expire(Arc::downgrade(self)));
    }
}

/// Runs while there are leases, and sleeps until the first deadline.
async fn expire(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade().filter(|s| !s.hub.is_closed()) else { return };
        let deadline = {
            let mut leases = lock(&shared.writer);
            for id in leases.expired(Instant::now().into_std()) {
                if let Err(error) = shared.revoke(&mut leases, id) {
                    tracing::error!(%error, id, "an expired lease cannot be revoked");
                }
            }
            let Some(deadline) = leases.next_deadline() else {
                shared.expiring.store(false, std::sync::atomic::Ordering::Release);
                return;
            };
            deadline
        };
        tokio::select! {
            () = shared.lease_changed.notified() => {}
            () = tokio::time::sleep_until(Instant::from_std(deadline)) => {}
        }
    }
}

impl Store for Memory {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        mvcc::range(&*self.shared, request).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        async move { self.shared.txn(&txn) }.boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>>> {
        ready(Watcher::start(self.shared.clone(), request).map(|w| Box::new(w) as Box<dyn Watch>)).boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        let _writer = lock(&self.shared.writer);
        let mut index = exclusive(&self.shared.index);
        let current = index.revision;
        let result = index.check_compact(revision, current).map(|()| index.compact(revision, |_| {}));
        ready(result).boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> BoxFuture<'_, Result<Lease>> {
        async move {
            let lease = {
                let mut leases = lock(&self.shared.writer);
                let (id, ttl) = leases.check_grant(id, ttl_seconds)?;
                leases.grant(id, ttl, Instant::now().into_std());
                Lease { id, granted_ttl: ttl, ttl, keys: Vec::new() }
            };
            self.shared.watch_leases();
            Ok(lease)
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<()>> {
        async move { self.shared.revoke(&mut lock(&self.shared.writer), id) }.boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        async move { lock(&self.shared.writer).keep_alive(id, Instant::now().into_std()) }.boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<Lease>> {
        async move { Ok(lock(&self.shared.writer).time_to_live(id, keys, Instant::now().into_std())) }.boxed()
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        async move { Ok(lock(&self.shared.writer).granted().into_iter().map(|(id, _)| id).collect()) }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus>> {
        async move {
            let index = mvcc::shared(&self.shared.index);
            let bytes = |(key, versions): (&Bytes, &mvcc::Versions<Bytes>)| {
                let values = versions.as_slice().iter().map(|v| v.slot.len()).sum::<usize>();
                let in_use = versions.as_slice().last().map_or(0, |v| v.slot.len());
                (key.len() + values, key.len() + in_use)
            };
            let (size, in_use) = index.keys.iter().map(bytes).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            Ok(StoreStatus {
                revision: self.shared.hub.published(),
                compact_revision: index.compacted,
                size: size as u64,
                size_in_use: in_use as u64,
                keys: index.live,
                alarm: None,
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::battery!(async { (Arc::new(Memory::new()) as Arc<dyn Store>, ()) });
}
