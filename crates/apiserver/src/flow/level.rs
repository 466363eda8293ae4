//! One priority level at work: its queues behind a lock, and requests that hold or await seats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::demand::Stats;
use super::queues::{Counts, Limit, Queues, Ticket, Work};
use super::retry::Refusals;
use super::shares::Limits;
use crate::authn::User;
use crate::front::RequestInfo;

/// What a level's API object says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub limit: Limit,
    pub shares: f64,
    pub lendable: i64,
    pub borrowing: Option<i64>,
}

pub struct Level {
    pub name: String,
    /// Most seats that one request may take; 0: no matter.
    most: AtomicU64,
    queues: AtomicBool,
    limits: AtomicBool,
    pub inner: Mutex<Inner>,
}

/// A level as metrics show it.
pub struct Shown {
    pub name: String,
    pub limits: Limits,
    pub seats: u64,
    pub stats: Stats,
    pub counts: Counts,
    /// By schema.
    pub used: BTreeMap<Arc<str>, Use>,
}

/// What the requests of one schema take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    pub running: usize,
    pub seats: usize,
    pub waiting: usize,
    pub seats_waiting: usize,
}

/// Why a request was turned away, and for how many seconds.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    pub reason: &'static str,
    pub retry_after: u64,
}

pub struct Inner {
    pub settings: Settings,
    pub limits: Limits,
    pub seats: u64,
    pub stats: Stats,
    pub queues: Queues<About>,
    /// Its object is gone; it goes when it is empty.
    pub quiescing: bool,
    refusals: Refusals,
}

/// What is known of a request in a level.
pub struct About {
    pub schema: Arc<str>,
    pub distinguisher: Box<str>,
    /// User, verb, path, namespace, name, group-version, resource, subresource: as the debugging page lists them.
    pub details: [Box<str>; 8],
    wake: Option<oneshot::Sender<()>>,
}

impl About {
    pub fn new(schema: Arc<str>, distinguisher: &str, info: &RequestInfo, user: &User) -> Self {
        let version = match info.group.as_str() {
            "" => info.version.as_str().into(),
            group => format!("{group}/{}", info.version).into_boxed_str(),
        };
        let details: [Box<str>; 8] = [
            user.name.as_str().into(),
            info.verb.as_str().into(),
            info.path.as_str().into(),
            info.namespace.as_str().into(),
            info.name.as_str().into(),
            version,
            info.resource.as_str().into(),
            info.subresource.as_str().into(),
        ];
        Self { schema, distinguisher: distinguisher.into(), details, wake: None }
    }
}

impl Level {
    pub fn new(name: &str, settings: Settings, now: Duration) -> Self {
        let inner = Inner {
            settings,
            limits: Limits::default(),
            seats: 0,
            stats: Stats::default(),
            queues: Queues::new(settings.limit, 0, now),
            quiescing: false,
            refusals: Refusals::default(),
        };
        let queues = AtomicBool::new(matches!(settings.limit, Limit::Queue { .. }));
        let limits = AtomicBool::new(settings.limit != Limit::Exempt);
        Self { name: name.to_owned(), most: AtomicU64::new(0), queues, limits, inner: Mutex::new(inner) }
    }

    /// False for an exempt level.
    pub fn limits_requests(&self) -> bool {
        self.limits.load(Ordering::Relaxed)
    }

    pub fn shown(&self) -> Shown {
        let inner = self.inner.lock();
        let mut used: BTreeMap<Arc<str>, Use> = BTreeMap::new();
        for request in inner.queues.requests() {
            let (of, seats) =
                (used.entry(request.about.schema.clone()).or_default(), request.work.seats() as usize);
            if request.waits() {
                of.waiting += 1;
                of.seats_waiting += seats;
            } else {
                of.running += usize::from(!request.lingers());
                of.seats += seats;
            }
        }
        Shown {
            name: self.name.clone(),
            limits: inner.limits,
            seats: inner.seats,
            stats: inner.stats,
            counts: inner.queues.counts(),
            used,
        }
    }

    pub fn queues_requests(&self) -> bool {
        self.queues.load(Ordering::Relaxed)
    }

    pub fn most_seats(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Takes what the object says now, and its nominal limits.
    pub fn set(&self, settings: Settings, limits: Limits, now: Duration) {
        let mut inner = self.inner.lock();
        if inner.limits == Limits::default() {
            inner.seats = limits.nominal - (limits.nominal - limits.least) / 2;
        }
        inner.settings = settings;
        inner.limits = limits;
        inner.quiescing = false;
        let most = match settings.limit {
            Limit::Queue { hand, .. } => {
                let (nominal, hand) = (limits.nominal as f64, hand.max(1) as u64);
                // at most 15 % of the level's seats, and no more than let its hand run
                ((nominal * 0.15).ceil() as u64).min(limits.nominal / hand).max(1)
            }
            _ => 0,
        };
        self.most.store(most, Ordering::Relaxed);
        self.queues.store(matches!(settings.limit, Limit::Queue { .. }), Ordering::Relaxed);
        let seats = inner.seats;
        inner.configure(seats, now);
    }
}

impl Inner {
    /// Lets this many seats be taken.
    pub fn configure(&mut self, seats: u64, now: Duration) {
        self.seats = seats;
        let started = self.queues.configure(now, self.settings.limit, seats);
        self.wake(started);
    }

    fn wake(&mut self, started: Vec<Ticket>) {
        for ticket in started {
            if let Some(wake) = self.queues.get_mut(ticket).and_then(|request| request.about.wake.take()) {
                // if nobody waits any more, the ticket is handed back by whoever waited
                let _ = wake.send(());
            }
        }
    }
}

/// The seats of a running request, given back when it is dropped.
pub struct Seat {
    level: Arc<Level>,
    ticket: Ticket,
    began: Instant,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (level, ticket, began) = (self.level.clone(), self.ticket, self.began);
        let linger = {
            let mut inner = level.inner.lock();
            let (started, linger) = inner.queues.finish(began.elapsed(), ticket);
            inner.wake(started);
            linger
        };
        let Some(linger) = linger else { return };
        let release = move || {
            let mut inner = level.inner.lock();
            let started = inner.queues.release(began.elapsed(), ticket);
            inner.wake(started);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(linger).await;
                    release();
                });
            }
            // the server is going down
            Err(_) => release(),
        }
    }
}

/// A request in a queue: leaves it when dropped.
struct Waiting {
    level: Arc<Level>,
    ticket: Ticket,
    began: Instant,
    done: bool,
}

impl Waiting {
    fn seated(mut self) -> Seat {
        self.done = true;
        Seat { level: self.level.clone(), ticket: self.ticket, began: self.began }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut inner = self.level.inner.lock();
        match inner.queues.give_up(self.began.elapsed(), self.ticket) {
            Some(started) => inner.wake(started),
            None => {
                drop(inner);
                // its turn came at the same moment
                drop(Seat { level: self.level.clone(), ticket: self.ticket, began: self.began });
            }
        }
    }
}

/// Takes seats, now or when it is the request's turn. Or not: the queue is full, or patience ended.
pub async fn enter(
    level: &Arc<Level>,
    began: Instant,
    now: Duration,
    work: Work,
    hash: u64,
    about: About,
    patience: Duration,
) -> Result<Seat, Turned> {
    let (waiting, turn) = {
        let mut inner = level.inner.lock();
        match inner.queues.arrive(now, work, hash, about) {
            Err(why) => {
                let retry_after = inner.refusals.note(now.as_secs());
                return Err(Turned { reason: why.text(), retry_after });
            }
            Ok((ticket, started)) if started == [ticket] => {
                return Ok(Seat { level: level.clone(), ticket, began });
            }
            Ok((ticket, started)) => {
                inner.wake(started.iter().copied().filter(|t| *t != ticket).collect());
                if started.contains(&ticket) {
                    return Ok(Seat { level: level.clone(), ticket, began });
                }
                let (wake, turn) = oneshot::channel();
                if let Some(request) = inner.queues.get_mut(ticket) {
                    request.about.wake = Some(wake);
                }
                (Waiting { level: level.clone(), ticket, began, done: false }, turn)
            }
        }
    };
    match tokio::time::timeout(patience, turn).await {
        Ok(Ok(())) => Ok(waiting.seated()),
        _ => {
            drop(waiting);
            let retry_after = level.inner.lock().refusals.note(began.elapsed().as_secs());
            Err(Turned { reason: "time-out", retry_after })
        }
    }
}
