//! The watch cache: every stored object of a resource as prepared bytes, its recent history, and who watches.
//!
//! One [`feed`] follows the store and applies each revision to the caches in order, so all caches always stand at the
//! same revision, [`Progress`]. Reads wait for the revision they must see and then copy bytes.

mod entry;
pub mod feed;
mod fields;
mod lane;
mod progress;
mod watchers;

pub use entry::{Entry, Event, Prepared, stored_json};
pub use fields::Fields;
pub use lane::{Delivery, Subscription};
pub use progress::{Latest, Progress};
pub use watchers::{Change, Interest, Scope};

use std::collections::VecDeque;
use std::sync::Arc;

use imbl::OrdMap;
use machinery::Value;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::flow::Stored;
use watchers::Watchers;

/// All objects at one revision, ordered by key as the store orders them. Cloning costs nothing.
pub type Snapshot = OrdMap<Arc<str>, Arc<Entry>>;

/// The cache of one resource.
pub struct Cache {
    namespaced: bool,
    window: usize,
    pub fields: Fields,
    state: Mutex<State>,
    /// What writers have encoded already and the feed is about to see.
    handoff: Mutex<Vec<Prepared>>,
}

struct State {
    objects: Snapshot,
    /// Of all objects.
    bytes: usize,
    /// The revision of the last change of this resource.
    revision: i64,
    /// Changes after this revision are all in `history`.
    floor: i64,
    history: VecDeque<Arc<Event>>,
    watchers: Watchers,
    counts: Counts,
}

/// What has passed through a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Complete loads.
    pub loads: u64,
    /// Changes seen.
    pub received: u64,
    /// Changes given to watches, once for each.
    pub dispatched: u64,
    /// Objects that loads brought.
    pub initial: u64,
}

/// The revision asked for is older than the history kept.
#[derive(Debug, Clone, Copy)]
pub struct TooOld {
    pub oldest: i64,
}

impl Cache {
    pub fn new(
        namespaced: bool,
        window: usize,
        selectable: &'static [&'static str],
        select: fn(&Value, &str) -> String,
    ) -> Self {
        Self::with_fields(namespaced, window, Fields::builtin(selectable, select))
    }

    pub fn with_fields(namespaced: bool, window: usize, fields: Fields) -> Self {
        let state = State {
            objects: OrdMap::new(),
            bytes: 0,
            revision: 0,
            floor: 0,
            history: VecDeque::new(),
            watchers: Watchers::new(fields.len()),
            counts: Counts::default(),
        };
        Self { namespaced, window, fields, state: Mutex::new(state), handoff: Mutex::default() }
    }

    /// The object now.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.lock().objects.get(key).cloned()
    }

    /// All objects now, and the revision of their last change.
    pub fn snapshot(&self) -> (Snapshot, i64) {
        let state = self.state.lock();
        (state.objects.clone(), state.revision)
    }

    pub fn len(&self) -> usize {
        self.state.lock().objects.len()
    }

    /// How many changes a watch may be behind.
    pub fn window(&self) -> usize {
        self.window
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// How much there is.
    pub fn stored(&self) -> Stored {
        let state = self.state.lock();
        Stored { objects: state.objects.len(), bytes: state.bytes }
    }

    /// How many watches may want a change of this object ("" for one not yet named).
    pub fn watching(&self, namespace: &str, name: &str) -> usize {
        let key = if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        self.state.lock().watchers.watching(namespace, &key)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes with this revision of the last one.
    pub fn revision(&self) -> i64 {
        self.state.lock().revision
    }

    /// All objects as they were at a revision, by undoing what came after it.
    pub fn snapshot_at(&self, revision: i64) -> Result<Snapshot, TooOld> {
        let (mut objects, history) = {
            let state = self.state.lock();
            if revision < state.floor {
                return Err(TooOld { oldest: state.floor });
            }
            let later: Vec<Arc<Event>> =
                state.history.iter().rev().take_while(|e| e.revision > revision).cloned().collect();
            (state.objects.clone(), later)
        };
        for event in history {
            match &event.old {
                Some(old) => objects.insert(old.key.clone(), old.clone()),
                None => objects.remove(&*event.key),
            };
        }
        Ok(objects)
    }

    /// Applies the changes of one revision, waking those who want them. The time at which the rest is to be woken, by
    /// [`Self::release`], if some shall be told a little later.
    pub fn apply(&self, revision: i64, changes: Vec<(Arc<str>, Option<Entry>)>) -> Option<Instant> {
        let mut state = self.state.lock();
        for (key, new) in changes {
            let new = new.map(Arc::new);
            let old = match &new {
                Some(entry) => state.objects.insert(key.clone(), entry.clone()),
                None => state.objects.remove(&*key),
            };
            if old.is_none() && new.is_none() {
                continue;
            }
            let size = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |e| e.bare.len());
            state.bytes = state.bytes + size(&new) - size(&old);
            let event = Arc::new(Event::new(revision, key, old, new, self.namespaced));
            state.counts.received += 1;
            state.counts.dispatched += state.watchers.dispatch(&event);
            state.history.push_back(event);
        }
        state.revision = state.revision.max(revision);
        while state.history.len() > self.window {
            // all events of a revision go together: a watch resumes between revisions, never within one
            let Some(gone) = state.history.pop_front() else { break };
            state.floor = state.floor.max(gone.revision);
            while state.history.front().is_some_and(|e| e.revision == gone.revision) {
                state.history.pop_front();
            }
        }
        state.watchers.due()
    }

    /// Wakes those whose events were held back.
    pub fn release(&self) {
        self.state.lock().watchers.release();
    }

    /// Starts anew from a complete load: history and watches end.
    pub fn reset(&self, revision: i64, objects: Snapshot) {
        let mut state = self.state.lock();
        state.revision = objects.values().map(|e| e.revision).max().unwrap_or(0);
        state.bytes = objects.values().map(|e| e.bare.len()).sum();
        state.counts.loads += 1;
        state.counts.initial += objects.len() as u64;
        state.objects = objects;
        state.history.clear();
        state.floor = revision;
        state.watchers = Watchers::new(self.fields.len());
    }

    /// Forgets the history up to a revision: watches from before it are told that it is gone.
    pub fn forget_before(&self, revision: i64) {
        let mut state = self.state.lock();
        while state.history.front().is_some_and(|e| e.revision <= revision) {
            state.history.pop_front();
        }
        state.floor = state.floor.max(revision);
    }

    /// Watches changes after `revision`: those in the history first, then what comes.
    pub fn watch_from(&self, revision: i64, interest: Interest) -> Result<Subscription, TooOld> {
        let mut state = self.state.lock();
        if revision < state.floor {
            return Err(TooOld { oldest: state.floor });
        }
        let start = state.history.partition_point(|e| e.revision <= revision);
        let item = |e: &Arc<Event>| Some((interest.change(e)?, Delivery::new(e.clone())));
        let backlog = state.history.range(start..).filter_map(item).collect();
        Ok(state.watchers.add(interest, backlog, revision))
    }

    /// Watches from now on; also gives all objects now and the revision of their last change.
    pub fn watch_now(&self, interest: Interest) -> (Subscription, Snapshot, i64) {
        let mut state = self.state.lock();
        let revision = state.revision;
        let subscription = state.watchers.add(interest, Vec::new(), 0);
        (subscription, state.objects.clone(), revision)
    }

    /// Ends all watches (the resource is no longer served).
    pub fn end_watches(&self) {
        self.state.lock().watchers = Watchers::new(self.fields.len());
    }

    /// Makes what a writer has encoded known to the feed; the guard takes it back if the write fails.
    pub fn hand_off(&self, prepared: Prepared) -> Handoff<'_> {
        let value = prepared.value.clone();
        self.handoff.lock().push(prepared);
        Handoff { cache: self, value, keep: false }
    }

    fn take_handoff(&self, key: &str, value: &[u8]) -> Option<Prepared> {
        let mut waiting = self.handoff.lock();
        let at = waiting.iter().position(|p| &*p.key == key && p.value[..] == *value)?;
        Some(waiting.swap_remove(at))
    }
}

/// A prepared version on its way to the feed.
pub struct Handoff<'a> {
    cache: &'a Cache,
    value: bytes::Bytes,
    keep: bool,
}

impl Handoff<'_> {
    /// The write was acknowledged: the feed will take it.
    pub fn written(mut self) {
        self.keep = true;
    }
}

impl Drop for Handoff<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.cache.handoff.lock().retain(|p| p.value.as_ptr() != self.value.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests;
