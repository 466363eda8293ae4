//! Who watches what: an event wakes only those whose scope and selectors it touches.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Entry, Event};
use crate::select::Selector;

/// Events a watcher may lag behind before it is dropped; the client then starts again from where it was.
const QUEUE: usize = 2048;

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
        Self { namespace: namespace.into(), scope, selector }
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

/// A running watch of a cache. `next` gives `None` when the watcher was too slow or the cache started anew.
pub struct Subscription {
    pub backlog: std::vec::IntoIter<(Change, Arc<Event>)>,
    live: mpsc::Receiver<(Change, Arc<Event>)>,
    /// Events up to this revision are none of this watch's business.
    after: i64,
}

impl Subscription {
    pub async fn next(&mut self) -> Option<(Change, Arc<Event>)> {
        if let Some(old) = self.backlog.next() {
            return Some(old);
        }
        loop {
            let next = self.live.recv().await?;
            if next.1.revision > self.after {
                return Some(next);
            }
        }
    }

    /// What is there without waiting.
    pub fn try_next(&mut self) -> Option<(Change, Arc<Event>)> {
        if let Some(old) = self.backlog.next() {
            return Some(old);
        }
        loop {
            let next = self.live.try_recv().ok()?;
            if next.1.revision > self.after {
                return Some(next);
            }
        }
    }
}

struct Watcher {
    interest: Interest,
    queue: mpsc::Sender<(Change, Arc<Event>)>,
}

#[derive(Default)]
struct Bucket(Vec<Watcher>);

pub struct Watchers {
    all: Bucket,
    namespaces: HashMap<Box<str>, Bucket>,
    keys: HashMap<Box<str>, Bucket>,
    fields: Vec<HashMap<Box<str>, Bucket>>,
}

impl Watchers {
    pub fn new(fields: usize) -> Self {
        Self {
            all: Bucket::default(),
            namespaces: HashMap::new(),
            keys: HashMap::new(),
            fields: (0..fields).map(|_| HashMap::new()).collect(),
        }
    }

    pub fn add(
        &mut self,
        interest: Interest,
        backlog: Vec<(Change, Arc<Event>)>,
        after: i64,
    ) -> Subscription {
        let (queue, live) = mpsc::channel(QUEUE);
        let bucket = match &interest.scope {
            Scope::All => &mut self.all,
            Scope::Namespace(ns) => self.namespaces.entry(ns.clone()).or_default(),
            Scope::Key(key) => self.keys.entry(key.clone()).or_default(),
            Scope::Field(at, value) => match self.fields.get_mut(*at) {
                Some(map) => map.entry(value.clone()).or_default(),
                None => &mut self.all,
            },
        };
        bucket.0.retain(|w| !w.queue.is_closed());
        bucket.0.push(Watcher { interest, queue });
        Subscription { backlog: backlog.into_iter(), live, after }
    }

    /// Watches of everything, of this namespace, and of this object.
    pub fn watching(&self, namespace: &str, key: &str) -> usize {
        let count = |bucket: Option<&Bucket>| bucket.map_or(0, |b| b.0.len());
        self.all.0.len() + count(self.namespaces.get(namespace)) + count(self.keys.get(key))
    }

    /// To how many?
    pub fn dispatch(&mut self, event: &Arc<Event>) -> u64 {
        let mut sent = self.all.send(event);
        if let Some(bucket) = self.namespaces.get_mut(event.namespace()) {
            sent += bucket.send(event);
        }
        if let Some(bucket) = self.keys.get_mut(&*event.key) {
            sent += bucket.send(event);
        }
        for (at, map) in self.fields.iter_mut().enumerate().filter(|(_, map)| !map.is_empty()) {
            let value = |e: &Option<Arc<Entry>>| e.as_ref().map(|e| e.fields[at].clone());
            let (old, new) = (value(&event.old), value(&event.new));
            for (value, twice) in [(&old, false), (&new, old == new)] {
                if let (Some(value), false) = (value, twice)
                    && let Some(bucket) = map.get_mut(value)
                {
                    sent += bucket.send(event);
                }
            }
        }
        sent
    }
}

impl Bucket {
    fn send(&mut self, event: &Arc<Event>) -> u64 {
        let mut sent = 0;
        self.0.retain(|watcher| match watcher.interest.change(event) {
            Some(change) => {
                let fits = watcher.queue.try_send((change, event.clone())).is_ok();
                sent += u64::from(fits);
                fits
            }
            None => !watcher.queue.is_closed(),
        });
        sent
    }
}
