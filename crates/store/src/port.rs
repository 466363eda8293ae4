//! The port: types and the [`Store`] trait. Semantics are those of etcd v3 (<https://etcd.io/docs/v3.6/learning/api/>).

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// A point in the store's history. Revision 1 is the empty store; every commit that changes something adds 1.
pub type Revision = i64;

/// A lease's id; 0 is "no lease".
pub type LeaseId = i64;

/// One key at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision of the commit that created the key (after its last deletion).
    pub create_revision: Revision,
    /// The revision of the commit that last wrote it.
    pub mod_revision: Revision,
    /// Writes since creation; 1 for a fresh key.
    pub version: i64,
    pub lease: LeaseId,
}

/// Keys in `[start, end)`; `end = None` is the single key `start`; an empty `end` is "no upper bound".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl KeyRange {
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: None }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end: Some(end) }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => key == &self.start[..],
            Some(end) => key >= &self.start[..] && (end.is_empty() || key < &end[..]),
        }
    }

    /// The same range for ordered maps.
    pub fn bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        let upper = match &self.end {
            None => Bound::Included(self.start.clone()),
            Some(end) if end.is_empty() => Bound::Unbounded,
            Some(end) => Bound::Excluded(end.clone()),
        };
        (Bound::Included(self.start.clone()), upper)
    }
}

/// The first key after all keys with this prefix; empty when there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

/// A read. `revision = 0` reads the latest; `limit = 0` is unlimited.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    pub range: KeyRange,
    pub revision: Revision,
    pub limit: usize,
    pub keys_only: bool,
    pub count_only: bool,
}

impl RangeRequest {
    pub fn new(range: KeyRange) -> Self {
        Self { range, revision: 0, limit: 0, keys_only: false, count_only: false }
    }
}

/// Keys in ascending byte order.
#[derive(Clone, Debug)]
pub struct RangeResponse {
    /// The store's revision when the read was served (not the requested one).
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
    /// More keys follow beyond `limit`.
    pub more: bool,
    /// All keys in the range at that revision, whatever the limit.
    pub count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordering {
    Equal,
    NotEqual,
    Less,
    Greater,
}

/// What a [`Compare`] looks at. A missing key has revisions, version and lease 0 and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    CreateRevision(Revision),
    ModRevision(Revision),
    Version(i64),
    Value(Bytes),
    Lease(LeaseId),
}

/// Holds when every key of the range does (a range without keys: see etcd, a single missing key counts as zero).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub range: KeyRange,
    pub ordering: Ordering,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub enum Op {
    Put { key: Bytes, value: Bytes, lease: LeaseId, prev_kv: bool },
    Delete { range: KeyRange, prev_kv: bool },
    Range(RangeRequest),
    Txn(Txn),
}

/// If all `compare` hold, `success` runs, else `failure`; all of it is one commit with one revision.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum OpResponse {
    Put { prev_kv: Option<KeyValue> },
    Delete { deleted: usize, prev_kvs: Vec<KeyValue> },
    Range(RangeResponse),
    Txn(TxnResponse),
}

#[derive(Clone, Debug)]
pub struct TxnResponse {
    /// The store's revision after the commit; the commit's own if it changed anything.
    pub revision: Revision,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A put; it is a creation when `kv.create_revision == kv.mod_revision`.
    Put,
    /// `kv` has only the key and, as `mod_revision`, the revision of the deletion.
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    /// The version before, if asked for and not compacted.
    pub prev_kv: Option<KeyValue>,
}

/// What a watcher receives, in order, without gap and without duplicate.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// All events of one revision that match, shared between watchers where the engine can.
    Events { revision: Revision, events: Arc<[Event]> },
    /// Everything up to and including this revision has been delivered.
    Progress { revision: Revision },
}

#[derive(Clone, Debug)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// The first revision wanted; 0 is "from now on".
    pub start_revision: Revision,
    pub prev_kv: bool,
    /// Also send [`WatchMessage::Progress`] about every this often while nothing matches, and when asked to.
    pub progress: Option<std::time::Duration>,
}

/// A running watch; dropping it ends it.
pub trait Watch: Send {
    /// The next message. Dropping the future before it resolves loses nothing. After an `Err` the watch is over. A consumer that is too slow is told so by
    /// [`Error::TooSlow`], never by a gap.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage>>;

    /// Asks for a [`WatchMessage::Progress`] as soon as everything before it has been delivered.
    fn request_progress(&mut self);
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    pub revision: Revision,
    pub compact_revision: Revision,
    /// Bytes on disk (or resident, for memory).
    pub size: u64,
    /// Of these, bytes that hold live data.
    pub size_in_use: u64,
    pub keys: u64,
    /// Why writes are refused at present (disk full, read-only, I/O error), if they are.
    pub alarm: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// Seconds, as granted.
    pub granted_ttl: i64,
    /// Seconds that remain; -1 when it has expired or never was.
    pub ttl: i64,
    pub keys: Vec<Bytes>,
}

/// The store. All methods are safe to call from many tasks; a write is durable when its future resolves to `Ok`.
pub trait Store: Send + Sync + 'static {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>>;
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>>;
    /// Resolves once the watch is established: events committed after that are delivered. A start below the compacted
    /// revision fails with [`Error::Compacted`], here or at the first [`Watch::next`].
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>>>;
    /// Drops history below `revision`; reading or watching from below it fails with [`Error::Compacted`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>>;
    /// `id = 0` lets the store choose.
    fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> BoxFuture<'_, Result<Lease>>;
    /// Deletes the lease and its keys.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<()>>;
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Lease>>;
    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<Lease>>;
    fn leases(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>>;
    fn status(&self) -> BoxFuture<'_, Result<StoreStatus>>;
    /// Gives space that compaction freed back to the file system, as far as the engine does not do so by itself.
    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("required revision {requested} has been compacted (compact revision {compacted})")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("required revision {requested} is a future revision (current {current})")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("the watch fell behind and was ended: start again from the last revision seen")]
    TooSlow,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("the request is too large: {0}")]
    TooLarge(String),
    /// Writes are refused (disk full, read-only file system, I/O error, no quorum); reads may go on.
    #[error("the store cannot write now: {0}")]
    Unavailable(String),
    /// Stored bytes do not match their checksum.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    #[error("the store is closed")]
    Closed,
    /// The outcome is unknown: the request may or may not have been carried out.
    #[error("no answer from the store: {0}")]
    Unknown(String),
    #[error("{0}")]
    Other(String),
}

/// The three writes the API server makes, over any [`Store`].
pub mod write {
    use super::*;

    /// What a conditional write came to.
    #[derive(Clone, Debug)]
    pub enum Outcome {
        /// Written; the revision of the commit, and for deletions what was deleted.
        Done { revision: Revision, prev: Option<KeyValue> },
        /// The key is not at the expected revision; it now is this (`None`: it does not exist).
        Conflict { revision: Revision, current: Option<KeyValue> },
    }

    /// Writes `key` if it does not exist.
    pub async fn create(store: &dyn Store, key: Bytes, value: Bytes, lease: LeaseId) -> Result<Outcome> {
        put_if(store, key, value, lease, 0).await
    }

    /// Writes `key` if its mod revision is `expected`.
    pub async fn update(
        store: &dyn Store,
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
        expected: Revision,
    ) -> Result<Outcome> {
        put_if(store, key, value, lease, expected).await
    }

    async fn put_if(
        store: &dyn Store,
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
        expected: Revision,
    ) -> Result<Outcome> {
        let put = Op::Put { key: key.clone(), value, lease, prev_kv: false };
        conditional(store, key, expected, put).await
    }

    /// Deletes `key` if its mod revision is `expected`.
    pub async fn delete(store: &dyn Store, key: Bytes, expected: Revision) -> Result<Outcome> {
        let delete = Op::Delete { range: KeyRange::key(key.clone()), prev_kv: true };
        conditional(store, key, expected, delete).await
    }

    async fn conditional(store: &dyn Store, key: Bytes, expected: Revision, op: Op) -> Result<Outcome> {
        let range = KeyRange::key(key);
        let txn = Txn {
            compare: vec![Compare {
                range: range.clone(),
                ordering: Ordering::Equal,
                target: Target::ModRevision(expected),
            }],
            success: vec![op],
            failure: vec![Op::Range(RangeRequest::new(range))],
        };
        let TxnResponse { revision, succeeded, responses } = store.txn(txn).await?;
        let first = responses.into_iter().next();
        if succeeded {
            let prev = match first {
                Some(OpResponse::Delete { prev_kvs, .. }) => prev_kvs.into_iter().next(),
                _ => None,
            };
            return Ok(Outcome::Done { revision, prev });
        }
        let current = match first {
            Some(OpResponse::Range(found)) => found.kvs.into_iter().next(),
            _ => None,
        };
        Ok(Outcome::Conflict { revision, current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ranges() {
        assert_eq!(&prefix_end(b"/a/")[..], b"/a0");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff\xff")[..], b"");
        let all_a = KeyRange::prefix("/a/");
        assert!(all_a.contains(b"/a/x") && !all_a.contains(b"/a") && !all_a.contains(b"/b"));
        assert!(KeyRange::key("k").contains(b"k") && !KeyRange::key("k").contains(b"kk"));
    }
}
