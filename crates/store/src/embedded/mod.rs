//! The engine on disk: a checksummed log in segments, an ordered index in memory, values read from the log.
//!
//! Writers wait for one sync that serves all of them; opening reads a checkpoint and the log behind it. How it stands
//! against other engines, and the file formats' reasons: `docs/decisions/004-embedded-store.md`.

mod checkpoint;
pub mod disk;
mod failpoint;
mod janitor;
mod load;
mod log;
mod record;
mod restore;
#[cfg(any(test, feature = "battery"))]
pub mod sim;
mod writer;

#[cfg(any(test, feature = "battery"))]
pub use failpoint::FAILPOINTS;
pub use restore::Restorer;

use std::path::Path;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;

use checkpoint::Position;
use disk::{Disk, RealDisk};
use failpoint::failpoint;
use janitor::Janitor;
use log::{Log, Place, Reader, Table};
use writer::{Job, Writer};

use crate::mvcc::{self, Engine, Hub, Index, Leases, Watcher, lock};
use crate::{
    Error, Lease, LeaseId, Op, RangeRequest, RangeResponse, Result, Revision, Store, StoreStatus, Txn,
    TxnResponse, Watch, WatchRequest,
};

#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one log file.
    pub segment_size: u64,
    /// Bytes of log after which a checkpoint is written (later, if the last one was larger).
    pub checkpoint_every: u64,
    /// History older than this is compacted along with later writes; `None` leaves compaction to the clients.
    pub retain: Option<Duration>,
    /// Larger transactions are refused.
    pub max_request: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: 16 << 20,
            checkpoint_every: 8 << 20,
            retain: Some(Duration::from_secs(15 * 60)),
            max_request: 16 << 20,
        }
    }
}

/// Opens the store in a directory, which is made if it is not there.
pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Embedded::open(Arc::new(RealDisk::new(dir.as_ref())), options)?))
}

/// The same on any [`Disk`].
pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Embedded::open(disk, options)?))
}

/// What the writer has made durable; all of it changes together.
struct State {
    leases: Leases,
    position: Position,
    revision: Revision,
    compacted: Revision,
    alarm: Option<String>,
}

struct Shared {
    index: RwLock<Index<Place>>,
    hub: Hub,
    table: Arc<Table>,
    state: Mutex<State>,
    janitor: Janitor,
    options: Options,
}

impl Engine for Shared {
    type Slot = Place;
    type Reader = Reader;
    const BLOCKS: bool = true;

    fn index(&self) -> &RwLock<Index<Place>> {
        &self.index
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn reader(&self) -> Reader {
        self.table.reader()
    }
}

struct Embedded {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
    /// Other processes stay out for as long as this lives.
    _lock: Box<dyn Send + Sync>,
}

impl Embedded {
    fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self> {
        let guard = disk.lock().map_err(|error| load::failed(&*disk, "", &error))?;
        let table = Arc::new(Table::new(disk));
        let loaded = load::load(&table, options.segment_size, Instant::now())?;
        let load::Loaded {
            index,
            leases,
            active,
            checkpoint,
            checkpoint_position,
            checkpoint_size,
            read_only,
        } = loaded;
        let (wake, woken) = sync_channel(1);
        let position =
            Position { seq: active.seq, offset: active.end.load(std::sync::atomic::Ordering::Relaxed) };
        let state = State {
            leases,
            position,
            revision: index.revision,
            compacted: index.compacted,
            alarm: read_only.then(|| "the file system is read-only".to_owned()),
        };
        let hub = Hub::new(index.revision);
        let compacted = index.compacted;
        let janitor = Janitor::new(wake, checkpoint_position, checkpoint_size);
        let segment_size = options.segment_size;
        let log = Log::new(table.clone(), janitor.prepared.clone(), segment_size, active, compacted);
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            hub,
            table,
            state: Mutex::new(state),
            janitor,
            options,
        });
        let (jobs, waiting) = channel();
        let writer = Writer { shared: shared.clone(), log, jobs: waiting, ages: Default::default() };
        let work = janitor::Work { store: shared.clone(), wake: woken, number: checkpoint, prepared: 0 };
        let threads =
            vec![spawn("store-writer", move || writer.run())?, spawn("store-janitor", move || work.run())?];
        Ok(Self { shared, jobs, threads, _lock: guard })
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Unknown("the store was closed meanwhile".into()))?
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map_err(|error| Error::Other(format!("cannot start a thread: {error}")))
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Not delivered only if the writer has died; then there is nothing to end.
        let _ = self.jobs.send(Job::Close);
        let janitor = self.threads.pop();
        let writer = self.threads.pop();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        self.shared.janitor.close();
        if let Some(janitor) = janitor {
            let _ = janitor.join();
        }
    }
}

fn size_of(txn: &Txn) -> usize {
    let op = |op: &Op| match op {
        Op::Put { key, value, .. } => key.len() + value.len() + 64,
        Op::Txn(txn) => size_of(txn),
        Op::Delete { .. } | Op::Range(_) => 64,
    };
    txn.success.iter().chain(&txn.failure).map(op).sum()
}

impl Store for Embedded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        mvcc::range(&*self.shared, request).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        let size = size_of(&txn);
        let max = self.shared.options.max_request;
        if size > max {
            return ready(Err(Error::TooLarge(format!("{size} bytes, at most {max} are taken")))).boxed();
        }
        self.ask(|answer| Job::Txn(txn, answer)).boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>>> {
        ready(Watcher::start(self.shared.clone(), request).map(|w| Box::new(w) as Box<dyn Watch>)).boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.ask(move |answer| Job::Compact(revision, answer)).boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> BoxFuture<'_, Result<Lease>> {
        self.ask(move |answer| Job::Grant(id, ttl_seconds, answer)).boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<()>> {
        self.ask(move |answer| Job::Revoke(id, answer)).boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        ready(lock(&self.shared.state).leases.keep_alive(id, Instant::now())).boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<Lease>> {
        ready(Ok(lock(&self.shared.state).leases.time_to_live(id, keys, Instant::now()))).boxed()
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        let granted = lock(&self.shared.state).leases.granted();
        ready(Ok(granted.into_iter().map(|(id, _)| id).collect())).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus>> {
        let index = mvcc::shared(&self.shared.index);
        let (size, size_in_use) = self.shared.table.sizes();
        let status = StoreStatus {
            revision: self.shared.hub.published(),
            compact_revision: index.compacted,
            size,
            size_in_use,
            keys: index.live,
            alarm: lock(&self.shared.state).alarm.clone(),
        };
        ready(Ok(status)).boxed()
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        self.shared.janitor.thorough.store(true, std::sync::atomic::Ordering::Release);
        self.shared.janitor.wake();
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests;
