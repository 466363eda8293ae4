//! How many requests are in the server, and the plain limits that hold without priorities
//! (`--max-requests-inflight`, `--max-mutating-requests-inflight`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
struct Counts {
    running: [AtomicUsize; 2],
    waiting: [AtomicUsize; 2],
}

pub struct InFlight {
    /// 0: no limit.
    limits: [usize; 2],
    counts: Arc<Counts>,
}

/// Requests that run and wait now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub reading: usize,
    pub mutating: usize,
    pub reading_waiting: usize,
    pub mutating_waiting: usize,
}

/// A request that is counted until this is dropped.
pub struct Slot {
    counts: Arc<Counts>,
    mutates: usize,
    waits: bool,
}

impl Slot {
    fn counter(&self) -> &AtomicUsize {
        let counts = if self.waits { &self.counts.waiting } else { &self.counts.running };
        &counts[self.mutates]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counter().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Index of the counter for a verb.
fn mutates(verb: &str) -> usize {
    usize::from(!matches!(verb, "get" | "list" | "watch"))
}

impl InFlight {
    pub fn new(reads: usize, writes: usize) -> Self {
        Self { limits: [reads, writes], counts: Arc::default() }
    }

    fn slot(&self, verb: &str, waits: bool) -> (Slot, usize) {
        let slot = Slot { counts: self.counts.clone(), mutates: mutates(verb), waits };
        let before = slot.counter().fetch_add(1, Ordering::Relaxed);
        (slot, before)
    }

    pub fn counted(&self, verb: &str) -> Slot {
        self.slot(verb, false).0
    }

    pub fn waiting(&self, verb: &str) -> Slot {
        self.slot(verb, true).0
    }

    /// None if there are too many already (administrators always get in).
    pub fn limited(&self, verb: &str, always: bool) -> Option<Slot> {
        let (slot, before) = self.slot(verb, false);
        let limit = self.limits[slot.mutates];
        (limit == 0 || before < limit || always).then_some(slot)
    }

    pub fn running(&self) -> Running {
        let of = |counts: &[AtomicUsize; 2]| {
            [counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed)]
        };
        let ([reading, mutating], [reading_waiting, mutating_waiting]) =
            (of(&self.counts.running), of(&self.counts.waiting));
        Running { reading, mutating, reading_waiting, mutating_waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_reads_and_writes_apart() {
        let inflight = InFlight::new(1, 1);
        let read = inflight.limited("get", false).unwrap();
        assert!(inflight.limited("list", false).is_none());
        assert!(inflight.limited("list", true).is_some());
        let write = inflight.limited("create", false).unwrap();
        assert_eq!(inflight.running(), Running { reading: 1, mutating: 1, ..Running::default() });
        drop((read, write));
        assert!(inflight.limited("watch", false).is_some());
    }
}
