//! Pods that wait for a node: ready to be tried, backing off, waiting for something to happen, or held by gates.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::{Happenings, helped_by};
use crate::node::PodInfo;

/// A failed pod waits so long before the next attempt, doubled with each up to the most.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(10);
/// What waits for something to happen is tried again after this long anyway.
const MOST_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Its gates are not open.
    Gated,
    Active,
    Backoff,
    /// Nothing but what helps one of these plugins (bits) gets it out.
    Waiting(u32),
    /// Being tried or bound.
    Away,
}

struct Entry {
    info: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// The order of arrival.
    arrival: u64,
    tried: Option<Instant>,
    /// Distinguishes this stay in a place from earlier ones.
    stamp: u64,
}

#[derive(PartialEq, Eq)]
struct Ready {
    priority: i32,
    arrival: Reverse<u64>,
    uid: String,
    stamp: u64,
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority, &self.arrival, self.stamp).cmp(&(other.priority, &other.arrival, other.stamp))
    }
}

#[derive(Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BinaryHeap<Ready>,
    timers: BinaryHeap<Reverse<(Instant, u64, String)>>,
    counter: u64,
}

impl Queue {
    /// A pod without node is new or has changed; `helps` if the change may make it fit.
    pub fn set(&mut self, info: Arc<PodInfo>, helps: bool, now: Instant) {
        let uid = info.pod.metadata.uid.clone();
        let gated = !info.pod.spec.scheduling_gates.is_empty();
        self.counter += 1;
        let counter = self.counter;
        let entry = self.entries.entry(uid.clone()).or_insert_with(|| Entry {
            info: info.clone(),
            place: Place::Gated,
            attempts: 0,
            arrival: counter,
            tried: None,
            stamp: counter,
        });
        entry.info = info;
        match (entry.place, gated) {
            (Place::Away, _) => {}
            (_, true) => entry.place = Place::Gated,
            (Place::Gated, false) => self.activate(&uid),
            (Place::Waiting(rejecting), false) if helps && helped_by(rejecting, Happenings::OWN_UPDATE) => {
                self.release(&uid, now);
            }
            _ => {}
        }
    }

    pub fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// The next pod to try: the one of highest priority, then the first come.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.wake(now);
        while let Some(ready) = self.active.pop() {
            if let Some(entry) = self.entries.get_mut(&ready.uid)
                && entry.place == Place::Active
                && entry.stamp == ready.stamp
            {
                entry.place = Place::Away;
                entry.attempts += 1;
                entry.tried = Some(now);
                return Some(entry.info.clone());
            }
        }
        None
    }

    /// No node takes the pod, for what these plugins say.
    pub fn unschedulable(&mut self, uid: &str, rejecting: u32, now: Instant) {
        let Some(stamp) = self.put(uid, Place::Waiting(rejecting)) else { return };
        self.timers.push(Reverse((now + MOST_WAIT, stamp, uid.to_owned())));
    }

    /// The attempt failed by accident: try again after the back-off.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        self.release(uid, now);
    }

    /// Something has happened: lets out the pods it may help.
    pub fn happened(&mut self, happening: Happenings, now: Instant) {
        if happening == Happenings::default() {
            return;
        }
        let helped: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::Waiting(rejecting) if helped_by(rejecting, happening)))
            .map(|(uid, _)| uid.clone())
            .collect();
        helped.iter().for_each(|uid| self.release(uid, now));
    }

    /// When to look again, if nothing happens.
    pub fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, stamp, uid))) = self.timers.peek() {
            if self.entries.get(uid).is_some_and(|entry| entry.stamp == *stamp) {
                return Some(*at);
            }
            self.timers.pop();
        }
        None
    }

    fn wake(&mut self, now: Instant) {
        while let Some(at) = self.next()
            && at <= now
        {
            if let Some(Reverse((_, _, uid))) = self.timers.pop() {
                self.activate(&uid);
            }
        }
    }

    /// To the active pods, or through the rest of its back-off.
    fn release(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        let wait = client::backoff::doubled(FIRST_BACKOFF, MOST_BACKOFF, entry.attempts.saturating_sub(1));
        let until = entry.tried.map_or(now, |tried| tried + wait);
        if until <= now {
            return self.activate(uid);
        }
        if let Some(stamp) = self.put(uid, Place::Backoff) {
            self.timers.push(Reverse((until, stamp, uid.to_owned())));
        }
    }

    fn activate(&mut self, uid: &str) {
        let Some(stamp) = self.put(uid, Place::Active) else { return };
        let entry = &self.entries[uid];
        if entry.place == Place::Active {
            self.active.push(Ready {
                priority: entry.info.pod.spec.priority,
                arrival: Reverse(entry.arrival),
                uid: uid.to_owned(),
                stamp,
            });
        }
    }

    fn put(&mut self, uid: &str, place: Place) -> Option<u64> {
        self.counter += 1;
        let entry = self.entries.get_mut(uid)?;
        entry.stamp = self.counter;
        let gated = !entry.info.pod.spec.scheduling_gates.is_empty();
        entry.place = if gated { Place::Gated } else { place };
        Some(self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::pod;

    fn info(name: &str, priority: i32, gates: &str) -> Arc<PodInfo> {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{name}"}},"spec":{{"priority":{priority},"schedulingGates":[{gates}]}}}}"#
        );
        Arc::new(PodInfo::new(Arc::new(pod(&text))))
    }

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|info| info.pod.metadata.name.clone()).collect()
    }

    #[test]
    fn by_priority_then_by_arrival() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.set(info(name, priority, ""), false, now);
        }
        queue.remove("c");
        assert_eq!(names(&mut queue, now), ["b", "d", "a"]);
    }

    #[test]
    fn waits_for_what_helps_and_backs_off() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(info("a", 0, ""), false, now);
        queue.pop(now);
        let fit = crate::plugins::ALL.iter().position(|plugin| plugin.name == "NodeResourcesFit").unwrap();
        queue.unschedulable("a", 1 << fit, now);
        queue.happened(Happenings::NODE_LABELS, now + Duration::from_secs(5));
        assert!(names(&mut queue, now + Duration::from_secs(5)).is_empty());
        queue.happened(Happenings::POD_GONE, now);
        assert!(names(&mut queue, now).is_empty());
        assert_eq!(queue.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(names(&mut queue, now + Duration::from_secs(1)), ["a"]);
        // The second time it takes twice as long.
        let later = now + Duration::from_secs(1);
        queue.unschedulable("a", 1 << fit, later);
        queue.happened(Happenings::POD_GONE, later);
        assert_eq!(queue.next(), Some(later + Duration::from_secs(2)));
    }

    #[test]
    fn is_tried_again_even_if_nothing_happens() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(info("a", 0, ""), false, now);
        queue.pop(now);
        queue.unschedulable("a", 1, now);
        assert_eq!(names(&mut queue, now + MOST_WAIT), ["a"]);
    }

    #[test]
    fn gates_hold_back() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(info("a", 0, r#"{"name":"g"}"#), false, now);
        assert!(names(&mut queue, now).is_empty());
        queue.set(info("a", 0, ""), true, now);
        assert_eq!(names(&mut queue, now), ["a"]);
    }
}
