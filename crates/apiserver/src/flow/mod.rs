//! API Priority and Fairness: how many requests run at once, and who waits for whom.
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>, KEP-1040.
//!
//! [`Flow`] is the door that every request passes; [`queues`] is the rule, [`level`] its state per priority level. The
//! configuration is what the API objects say ([`consume`] follows them). A request that need not wait takes one lock and
//! no allocation that lasts.

mod consume;
mod demand;
mod dump;
mod inflight;
mod level;
mod queues;
mod retry;
mod rules;
mod shares;
mod state;
mod work;

pub use consume::start;
pub use dump::answer as dump;
pub use inflight::Running;
pub use level::{Shown, Use};
pub use work::Stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::authn::{MASTERS, User};
use crate::front::{Query, RequestInfo};
use crate::metrics::Metrics;
use inflight::InFlight;
use level::{About, Seat};
use state::State;

/// Limits adapt to demand this often, if there are requests.
const PERIOD: Duration = Duration::from_secs(10);

/// A request, as far as its priority is concerned.
pub struct Digest<'a> {
    pub info: &'a RequestInfo,
    pub user: &'a User,
    pub query: &'a Query,
}

pub struct Flow {
    began: Instant,
    /// Seats of the whole server.
    seats: u64,
    /// None with `--enable-priority-and-fairness=false`.
    state: Option<RwLock<Arc<State>>>,
    /// When the limits were adapted last, milliseconds since `began`.
    adapted: AtomicU64,
    adapting: Mutex<()>,
    /// A level that is no longer wanted has become empty.
    reload: Notify,
    inflight: InFlight,
    metrics: Arc<Metrics>,
}

/// The request was let in; it has ended when this is dropped.
pub struct Entered {
    /// uids of the matched FlowSchema and of its level.
    pub matched: Option<(HeaderValue, HeaderValue)>,
    /// How long it waited for its turn.
    pub waited: Duration,
    _held: Option<Held>,
    _slot: inflight::Slot,
}

/// Seats, and what metrics are told when they are given back.
struct Held {
    _seat: Seat,
    state: Arc<State>,
    bound: usize,
    metrics: Arc<Metrics>,
    since: Instant,
    watch: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let bound = self.state.bound(self.bound);
        let (level, schema) = (&bound.level.name, &bound.schema.name);
        self.metrics.flow.executed(level, schema, self.watch, self.since.elapsed());
    }
}

/// Too many requests: come back after some seconds.
pub struct Rejected {
    pub matched: Option<(HeaderValue, HeaderValue)>,
    pub retry_after: u64,
}

impl Flow {
    pub fn new(fair: bool, reads: usize, writes: usize, metrics: Arc<Metrics>) -> Self {
        let seats = (reads + writes) as u64;
        let state = fair.then(|| RwLock::new(Arc::new(State::mandatory(seats))));
        Self {
            began: Instant::now(),
            seats,
            state,
            adapted: AtomicU64::new(0),
            adapting: Mutex::new(()),
            reload: Notify::new(),
            inflight: InFlight::new(reads, writes),
            metrics,
        }
    }

    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn state(&self) -> Option<Arc<State>> {
        Some(self.state.as_ref()?.read().clone())
    }

    /// Lets a request in, at once or when it is its turn within `patience`. `stored` says what there is of the
    /// request's resource, `watches` how many watch it.
    pub async fn enter(
        &self,
        digest: Digest<'_>,
        patience: Duration,
        stored: impl FnOnce() -> Option<Stored>,
        watches: impl FnOnce() -> usize,
    ) -> Result<Entered, Rejected> {
        let Some(state) = self.state() else {
            let slot = self.inflight.limited(&digest.info.verb, digest.user.is_in(MASTERS));
            return match slot {
                Some(slot) => Ok(Entered { matched: None, waited: Duration::ZERO, _held: None, _slot: slot }),
                None => Err(Rejected { matched: None, retry_after: 1 }),
            };
        };
        let now = self.now();
        self.adapt(&state, now);
        let at = state.classify(digest.info, digest.user);
        let bound = state.bound(at);
        let matched = Some((bound.schema_uid.clone(), bound.level_uid.clone()));
        let level = &bound.level;
        let distinguisher = bound.schema.distinguisher(digest.info, digest.user);
        let (queued, most) = (level.queues_requests(), level.most_seats());
        let hash = if queued { bound.schema.hash_of_flow(distinguisher) } else { 0 };
        let work = work::estimate(digest.info, digest.query, most, stored, watches);
        let about = About::new(bound.schema.name.clone(), distinguisher, digest.info, digest.user);
        let (flows, name) = (&self.metrics.flow, &*bound.schema.name);
        flows.arrived(&level.name, name, work.seats());
        let wait = self.inflight.waiting(&digest.info.verb);
        let entered = level::enter(level, self.began, now, work, hash, about, patience).await;
        drop(wait);
        // exempt requests never wait, so there is nothing to measure
        let waited = level.limits_requests().then(|| self.now().saturating_sub(now));
        match entered {
            Ok(seat) => {
                flows.dispatched(&level.name, name, waited);
                let slot = self.inflight.counted(&digest.info.verb);
                let held = Held {
                    _seat: seat,
                    bound: at,
                    metrics: self.metrics.clone(),
                    since: Instant::now(),
                    watch: digest.info.verb == "watch",
                    state: state.clone(),
                };
                Ok(Entered { matched, waited: waited.unwrap_or_default(), _held: Some(held), _slot: slot })
            }
            Err(level::Turned { reason, retry_after }) => {
                flows.rejected(&level.name, name, reason, waited);
                Err(Rejected { matched, retry_after })
            }
        }
    }

    /// The levels as metrics show them.
    pub fn levels(&self) -> Vec<Shown> {
        let levels = self.state().map(|state| state.levels.clone());
        levels.iter().flat_map(|levels| levels.values()).map(|level| level.shown()).collect()
    }

    /// How many requests run and wait now.
    pub fn running(&self) -> Running {
        self.inflight.running()
    }

    fn adapt(&self, state: &State, now: Duration) {
        let (at, last) = (now.as_millis() as u64, self.adapted.load(Ordering::Relaxed));
        let periods = at.saturating_sub(last) / PERIOD.as_millis() as u64;
        if periods > 0
            && let Some(_only) = self.adapting.try_lock()
        {
            self.adapted.store(at, Ordering::Relaxed);
            state.adapt(now, i32::try_from(periods).unwrap_or(i32::MAX));
            let gone = |level: &Arc<level::Level>| {
                let inner = level.inner.lock();
                inner.quiescing && inner.queues.is_unused()
            };
            if state.levels.values().any(gone) {
                self.reload.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;
