//! Who watches what: an event wakes only those whose scope and selectors it touches, and many that want the same are
//! woken once for several events when those follow each other closely.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::{Delivery, Item, Lane, Sender, Sent, Subscription};
use super::{Entry, Event};
use crate::select::Selector;

/// How much further apart the wake-ups of each watcher are for every watcher that wants the same events: sending to one
/// over its connection takes some tenths of this, most of it the same for one event and for many.
const SPREAD: Duration = Duration::from_micros(80);

/// Less is not waited for.
const SHORTEST: Duration = Duration::from_millis(1);

/// Watchers are woken at least this often while there are events for them.
const LONGEST: Duration = Duration::from_millis(8);

/// The narrowest set of objects that holds all a watcher may want.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Namespace(Box<str>),
    Key(Box<str>),
    /// A selectable field (by position) with one value.
    Field(usize, Box<str>),
}

/// What a watcher wants.
#[derive(Clone)]
pub struct Interest {
    /// "" for all.
    pub namespace: Box<str>,
    pub scope: Scope,
    pub selector: Selector,
    /// May it be told of several events at once, some milliseconds later? (The first after a pause comes at once.)
    pub patient: bool,
}

/// What an event means to one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// By whether an object was wanted before and is wanted after it; `None` if neither.
    pub fn of(before: bool, after: bool) -> Option<Self> {
        match (before, after) {
            (false, true) => Some(Self::Added),
            (true, true) => Some(Self::Modified),
            (true, false) => Some(Self::Deleted),
            (false, false) => None,
        }
    }
}

impl Interest {
    /// The scope follows from the namespace and the selector.
    pub fn new(namespace: &str, selector: Selector) -> Self {
        let scope = selector.scope(namespace);
        Self { namespace: namespace.into(), scope, selector, patient: false }
    }

    pub fn wants(&self, entry: &Entry) -> bool {
        let here = self.namespace.is_empty() || entry.namespace() == &*self.namespace;
        here && self.selector.matches(entry)
    }

    /// How this watcher sees an event; `None` if it does not concern it.
    pub fn change(&self, event: &Event) -> Option<Change> {
        let before = event.old.as_deref().is_some_and(|e| self.wants(e));
        let after = event.new.as_deref().is_some_and(|e| self.wants(e));
        Change::of(before, after)
    }
}

struct Watcher {
    interest: Interest,
    lane: Sender,
}

/// Watchers of one scope.
#[derive(Default)]
struct Bucket {
    watchers: Vec<Watcher>,
    /// As many patient ones as wanted the last event.
    patient: u32,
}

/// Watchers with events that are not due yet.
#[derive(Default)]
struct Held {
    lanes: Vec<Arc<Lane>>,
    due: Option<Instant>,
}

pub struct Watchers {
    all: Bucket,
    namespaces: HashMap<Box<str>, Bucket>,
    keys: HashMap<Box<str>, Bucket>,
    fields: Vec<HashMap<Box<str>, Bucket>>,
    held: Held,
}

impl Watchers {
    pub fn new(fields: usize) -> Self {
        Self {
            all: Bucket::default(),
            namespaces: HashMap::new(),
            keys: HashMap::new(),
            fields: (0..fields).map(|_| HashMap::new()).collect(),
            held: Held::default(),
        }
    }

    pub fn add(&mut self, interest: Interest, backlog: Vec<Item>, after: i64) -> Subscription {
        let (lane, subscription) = Subscription::new(backlog, after);
        let bucket = match &interest.scope {
            Scope::All => &mut self.all,
            Scope::Namespace(ns) => self.namespaces.entry(ns.clone()).or_default(),
            Scope::Key(key) => self.keys.entry(key.clone()).or_default(),
            Scope::Field(at, value) => match self.fields.get_mut(*at) {
                Some(map) => map.entry(value.clone()).or_default(),
                None => &mut self.all,
            },
        };
        bucket.watchers.retain(|w| !w.lane.is_left());
        bucket.watchers.push(Watcher { interest, lane });
        subscription
    }

    /// Watches of everything, of this namespace, and of this object.
    pub fn watching(&self, namespace: &str, key: &str) -> usize {
        let count = |bucket: Option<&Bucket>| bucket.map_or(0, |b| b.watchers.len());
        self.all.watchers.len() + count(self.namespaces.get(namespace)) + count(self.keys.get(key))
    }

    /// To how many?
    pub fn dispatch(&mut self, event: &Arc<Event>) -> u64 {
        let event = &Delivery::new(event.clone());
        let (now, held) = (Instant::now(), &mut self.held);
        let mut sent = self.all.send(event, now, held);
        if let Some(bucket) = self.namespaces.get_mut(event.namespace()) {
            sent += bucket.send(event, now, held);
        }
        if let Some(bucket) = self.keys.get_mut(&*event.key) {
            sent += bucket.send(event, now, held);
        }
        for (at, map) in self.fields.iter_mut().enumerate().filter(|(_, map)| !map.is_empty()) {
            let value = |e: &Option<Arc<Entry>>| e.as_ref().map(|e| e.fields[at].clone());
            let (old, new) = (value(&event.old), value(&event.new));
            for (value, twice) in [(&old, false), (&new, old == new)] {
                if let (Some(value), false) = (value, twice)
                    && let Some(bucket) = map.get_mut(value)
                {
                    sent += bucket.send(event, now, held);
                }
            }
        }
        sent
    }

    /// When [`Self::release`] should be called; none if nobody waits.
    pub fn due(&self) -> Option<Instant> {
        self.held.due
    }

    /// Wakes all whose events were held back.
    pub fn release(&mut self) {
        let now = Instant::now();
        self.held.due = None;
        self.held.lanes.drain(..).for_each(|lane| lane.release(now));
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.release();
    }
}

impl Bucket {
    fn send(&mut self, event: &Arc<Delivery>, now: Instant, held: &mut Held) -> u64 {
        let pace = Some((SPREAD * self.patient).min(LONGEST)).filter(|pace| *pace >= SHORTEST);
        let mut sent = 0;
        self.patient = 0;
        self.watchers.retain(|Watcher { interest, lane }| {
            let Some(change) = interest.change(event) else { return !lane.is_left() };
            self.patient += u32::from(interest.patient);
            let pace = pace.filter(|_| interest.patient).map(|pace| (now, pace));
            match lane.push((change, event.clone()), pace) {
                Sent::Now | Sent::Behind => {}
                Sent::Gone => return false,
                Sent::Held(due) => {
                    held.lanes.push(lane.lane());
                    held.due = Some(held.due.map_or(due, |first| first.min(due)));
                }
            }
            sent += 1;
            true
        });
        sent
    }
}
