//! Clients as a cluster has them: creates, conditional updates and deletes of objects, leased events, gets, lists, and
//! watchers that resume where they were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Ask, Attempt, Seen, Told};
use crate::{
    Error, KeyRange, KeyValue, Op, RangeRequest, Result, Store, Txn, WatchMessage, WatchRequest, write,
};

/// Records what its clients ask and are told. The clock goes on from one use to the next, so that one record may cover
/// many lives of a store.
#[derive(Default)]
pub struct Traffic {
    clock: AtomicU64,
    numbers: AtomicU64,
    attempts: Mutex<Vec<Attempt>>,
    /// Writes acknowledged so far.
    pub acknowledged: AtomicU64,
}

/// A small generator of numbers that follow from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }
}

const KINDS: [&str; 3] = ["pods", "configmaps", "leases"];

impl Traffic {
    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that works until it is stopped or the store goes away for good.
    pub async fn client(self: Arc<Self>, store: Arc<dyn Store>, seed: u64, stop: CancellationToken) {
        let mut dice = Dice::new(seed);
        let mut lease = 0;
        while !stop.is_cancelled() {
            let kind = KINDS[dice.roll(3) as usize];
            let key: Bytes = format!("/registry/{kind}/ns-{}/{}", dice.roll(2), dice.roll(6)).into();
            let size = if dice.roll(20) == 0 { 20_000 } else { 100 + dice.roll(400) };
            match dice.roll(20) {
                0..2 => self.read(&*store, format!("/registry/{kind}/").into()).await,
                2..4 => self.read(&*store, key).await,
                4 => self.put(&*store, key, None, size, 0).await,
                5 => self.delete(&*store, key, None).await,
                6..8 => {
                    if lease == 0 {
                        lease = store.lease_grant(0, 2).await.map_or(0, |l| l.id);
                    }
                    let key = format!("/registry/events/{}", dice.roll(30)).into();
                    self.put(&*store, key, None, size, lease).await;
                    if dice.roll(20) == 0 {
                        lease = 0;
                    }
                }
                8..10 => {
                    let at = self.current(&*store, &key).await.map_or(0, |kv| kv.mod_revision);
                    self.delete(&*store, key, Some(at)).await;
                }
                // Sometimes with a revision that is out of date.
                _ => {
                    let at = self.current(&*store, &key).await.map_or(0, |kv| kv.mod_revision);
                    self.put(&*store, key, Some(at), size, 0).await;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn current(&self, store: &dyn Store, key: &Bytes) -> Option<KeyValue> {
        let found = store.range(RangeRequest::new(KeyRange::key(key.clone()))).await;
        found.ok()?.kvs.into_iter().next()
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn record(&self, number: u64, started: u64, ask: Ask, told: Told) {
        if matches!(told, Told::Done { .. }) {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        let attempt = Attempt { number, started, ended: self.tick(), ask, told };
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    async fn read(&self, store: &dyn Store, prefix: Bytes) {
        let (number, started) = (self.numbers.fetch_add(1, Ordering::SeqCst), self.tick());
        let told = match store.range(RangeRequest::new(KeyRange::prefix(prefix.clone()))).await {
            Ok(found) => Told::Read { revision: found.revision, kvs: found.kvs },
            Err(_) => Told::Failed,
        };
        self.record(number, started, Ask::Read { prefix }, told);
    }

    async fn put(&self, store: &dyn Store, key: Bytes, expected: Option<i64>, size: u64, lease: i64) {
        let (number, started) = (self.numbers.fetch_add(1, Ordering::SeqCst), self.tick());
        let value: Bytes = format!("{number} {}", "x".repeat(size as usize)).into();
        let told = match expected {
            Some(at) => outcome(write::update(store, key.clone(), value, lease, at).await),
            None => {
                let op = Op::Put { key: key.clone(), value, lease, prev_kv: false };
                plain(store.txn(Txn { success: vec![op], ..Txn::default() }).await)
            }
        };
        self.record(number, started, Ask::Put { key, expected }, told);
    }

    async fn delete(&self, store: &dyn Store, key: Bytes, expected: Option<i64>) {
        let (number, started) = (self.numbers.fetch_add(1, Ordering::SeqCst), self.tick());
        // Deleting what is not there is no commit to look for.
        if expected == Some(0) {
            return;
        }
        let told = match expected {
            Some(at) => outcome(write::delete(store, key.clone(), at).await),
            None => {
                let op = Op::Delete { range: KeyRange::key(key.clone()), prev_kv: false };
                plain(store.txn(Txn { success: vec![op], ..Txn::default() }).await)
            }
        };
        self.record(number, started, Ask::Delete { key, expected }, told);
    }
}

fn plain(result: Result<crate::TxnResponse>) -> Told {
    match result {
        Ok(response) => Told::Done { revision: response.revision },
        Err(error) => failure(&error),
    }
}

fn outcome(result: Result<write::Outcome>) -> Told {
    match result {
        Ok(write::Outcome::Done { revision, .. }) => Told::Done { revision },
        Ok(write::Outcome::Conflict { revision, current }) => Told::Conflict { revision, current },
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> Told {
    match error {
        Error::Unknown(_) => Told::Unknown,
        _ => Told::Failed,
    }
}

/// A watcher that outlives its store: each [`Watched::follow`] goes on where the last one ended.
pub struct Watched {
    pub seen: Arc<Mutex<Seen>>,
}

impl Watched {
    pub fn new(prefix: &'static str, from: i64) -> Self {
        let seen = Seen { prefix: prefix.into(), from, ..Seen::default() };
        Self { seen: Arc::new(Mutex::new(seen)) }
    }

    /// The next revision it needs.
    pub fn next(&self) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.commits.last().map_or(seen.from, |(revision, _)| revision + 1).max(seen.progress + 1)
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Watches until it has seen everything up to `until`, is stopped, or the watch ends.
    pub async fn follow(
        &self,
        store: &dyn Store,
        until: Option<i64>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let prefix = self.seen().prefix;
        let range = KeyRange::prefix(prefix);
        let progress = Some(Duration::from_millis(200));
        let request = WatchRequest { range, start_revision: self.next(), prev_kv: false, progress };
        let mut watch = tokio::select! {
            watch = store.watch(request) => watch?,
            () = stop.cancelled() => return Ok(()),
        };
        while until.is_none_or(|until| self.next() <= until) {
            let message = tokio::select! {
                message = watch.next() => message?,
                () = stop.cancelled() => return Ok(()),
            };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match message {
                WatchMessage::Events { revision, events } => seen.commits.push((revision, events.to_vec())),
                WatchMessage::Progress { revision } => seen.progress = seen.progress.max(revision),
            }
        }
        Ok(())
    }
}
