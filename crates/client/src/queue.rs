//! Keys to reconcile: each at most once in the queue, never twice at the same time, later again after a failure.

mod instruments;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use instruments::page;
use instruments::{Now, Shown, Spent};

use crate::Key;
use crate::backoff::doubled;

/// How a reconcile ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Look again after this long, without counting a failure.
    After(Duration),
}

/// The waits after a key's failures, client-go's numbers: 5 ms doubled up to 1000 s, and over all keys a bucket
/// of 100 retries refilled at 10 a second.
const FIRST: Duration = Duration::from_millis(5);
const MOST: Duration = Duration::from_secs(1000);
const BURST: f64 = 100.0;
const RATE: f64 = 10.0;

/// A set of keys that wants work. Cheap to clone; adding never blocks.
pub struct Queue<T = Key>(Arc<Shared<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    spent: Spent,
    /// One waiter: the runner.
    woken: Notify,
}

struct State<T> {
    /// With the time since when they are.
    ready: VecDeque<(T, Instant)>,
    /// What is in `ready`, or was added while it was being worked on.
    dirty: HashSet<T>,
    /// With the time it began.
    working: HashMap<T, Instant>,
    adds: u64,
    retries: u64,
    later: BinaryHeap<Reverse<Later<T>>>,
    /// When each delayed key is due; an entry in `later` that is not due then is stale.
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    tokens: f64,
    filled: Instant,
}

struct Later<T> {
    at: Instant,
    key: T,
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Later<T> {}

impl<T> PartialOrd for Later<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Later<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                working: HashMap::new(),
                adds: 0,
                retries: 0,
                later: BinaryHeap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                tokens: BURST,
                filled: Instant::now(),
            }),
            spent: Spent::default(),
            woken: Notify::new(),
        }))
    }

    /// A queue whose metrics [`page`](instruments::page) tells under this name.
    pub fn named(name: &'static str) -> Self
    where
        T: Send + 'static,
    {
        let queue = Self::new();
        instruments::register(name, &queue.0);
        queue
    }

    /// Wants `key` reconciled soon. While it is being worked on, it will be again right after.
    pub fn add(&self, key: T) {
        if self.state().add(key) {
            self.0.woken.notify_one();
        }
    }

    /// Wants `key` reconciled in `delay`; of several such wishes the earliest stands.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state();
        if state.due.get(&key).is_none_or(|due| at < *due) {
            state.due.insert(key.clone(), at);
            state.later.push(Reverse(Later { at, key }));
            drop(state);
            self.0.woken.notify_one();
        }
    }

    /// Wants `key` reconciled after a wait that grows with its failures.
    pub fn add_rate_limited(&self, key: T) {
        let delay = self.state().failure(&key);
        self.add_after(key, delay);
    }

    /// Forgets the failures of `key`.
    pub fn forget(&self, key: &T) {
        self.state().failures.remove(key);
    }

    /// How often `key` has failed in a row.
    pub fn failures(&self, key: &T) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// Keys that are ready to be worked on now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next key to work on, and says when the next delayed one is due.
    fn take(&self) -> (Option<T>, Option<Instant>) {
        let mut state = self.state();
        let now = Instant::now();
        state.promote(now);
        let key = state.ready.pop_front().map(|(key, since)| {
            self.0.spent.waited.add(now.duration_since(since));
            state.dirty.remove(&key);
            state.working.insert(key.clone(), now);
            key
        });
        (key, state.later.peek().map(|Reverse(later)| later.at))
    }

    fn done(&self, key: &T) {
        let mut state = self.state();
        if let Some(began) = state.working.remove(key) {
            self.0.spent.worked.add(began.elapsed());
        }
        if state.dirty.contains(key) {
            state.ready.push_back((key.clone(), Instant::now()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// True if the runner should wake.
    fn add(&mut self, key: T) -> bool {
        if !self.dirty.insert(key.clone()) {
            return false;
        }
        self.adds += 1;
        if self.working.contains_key(&key) {
            return false;
        }
        self.ready.push_back((key, Instant::now()));
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some(Reverse(first)) = self.later.peek() {
            let stale = self.due.get(&first.key) != Some(&first.at);
            if !stale && first.at > now {
                return;
            }
            if let Some(Reverse(Later { key, .. })) = self.later.pop()
                && !stale
            {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn failure(&mut self, key: &T) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        self.retries += 1;
        let own = doubled(FIRST, MOST, *failures);
        *failures = failures.saturating_add(1);
        let now = Instant::now();
        let refill = now.duration_since(self.filled).as_secs_f64() * RATE;
        self.tokens = (self.tokens + refill).min(BURST) - 1.0;
        self.filled = now;
        let shared =
            if self.tokens < 0.0 { Duration::from_secs_f64(-self.tokens / RATE) } else { Duration::ZERO };
        own.max(shared)
    }
}

impl<T: Send> Shown for Shared<T> {
    fn times(&self) -> &Spent {
        &self.spent
    }

    fn now(&self) -> Now {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = state.working.values().map(|began| began.elapsed().as_secs_f64());
        Now {
            adds: state.adds,
            retries: state.retries,
            depth: state.ready.len(),
            unfinished: under_way.clone().fold(0.0, |all, one| all + one),
            longest: under_way.fold(0.0, f64::max),
        }
    }
}

/// Works on the queue's keys, at most `workers` at a time, until `shutdown`; then lets those under way finish.
///
/// All run on the caller's task: they interleave where they wait. An error is logged and the key comes back
/// later. A panic goes to the caller.
pub async fn run_workers<T, F, E>(
    queue: &Queue<T>,
    workers: usize,
    shutdown: &CancellationToken,
    reconcile: impl Fn(T) -> F,
) where
    T: Clone + Eq + Hash + Debug,
    F: Future<Output = Result<Outcome, E>>,
    E: std::error::Error,
{
    let mut running = FuturesUnordered::new();
    loop {
        let mut due = None;
        while running.len() < workers && !shutdown.is_cancelled() {
            let (key, next) = queue.take();
            due = next;
            let Some(key) = key else { break };
            let work = reconcile(key.clone());
            running.push(async move { (key, work.await) });
        }
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((key, result)) = running.next() => finish(queue, key, result),
            () = shutdown.cancelled() => {
                while let Some((key, result)) = running.next().await {
                    finish(queue, key, result);
                }
                return;
            }
            () = queue.0.woken.notified() => {}
            () = timer => {}
        }
    }
}

fn finish<T, E>(queue: &Queue<T>, key: T, result: Result<Outcome, E>)
where
    T: Clone + Eq + Hash + Debug,
    E: std::error::Error,
{
    // Wishes first, so that `done` already sees them.
    match result {
        Ok(Outcome::Done) => queue.forget(&key),
        Ok(Outcome::After(delay)) => {
            queue.forget(&key);
            queue.add_after(key.clone(), delay);
        }
        Err(error) => {
            let failures = queue.failures(&key);
            let cause = chain(&error);
            // The first few are mostly conflicts with other writers, and pass.
            if failures < 4 {
                tracing::debug!(?key, error = cause, failures, "reconcile failed");
            } else {
                tracing::warn!(?key, error = cause, failures, "reconcile keeps failing");
            }
            queue.add_rate_limited(key.clone());
        }
    }
    queue.done(&key);
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
