//! The way of events from a cache to one watcher: a bounded queue that wakes its reader once for many events if the
//! reader may wait for a moment.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Change, Event};
use crate::front::negotiate::Encoding;
use crate::kinds::Resource;

/// Events a watcher may lag behind before it is dropped; the client then starts again from where it was.
const QUEUE: usize = 2048;

/// A queue that was once longer gives its memory back.
const KEPT: usize = 64;

pub type Item = (Change, Arc<Delivery>);

/// An event on its way to those who watch it; what the first of them makes of it, the others take.
pub struct Delivery {
    event: Arc<Event>,
    frame: OnceLock<Frame>,
}

/// An event as it is sent.
struct Frame {
    resource: Arc<Resource>,
    encoding: Encoding,
    change: Change,
    bytes: Bytes,
}

impl Delivery {
    pub fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self { event, frame: OnceLock::new() })
    }

    /// The event as a change of whole objects of a resource in an encoding.
    pub fn frame(
        &self,
        resource: &Arc<Resource>,
        encoding: Encoding,
        change: Change,
        make: impl Fn() -> Bytes,
    ) -> Bytes {
        let first = || Frame { resource: resource.clone(), encoding, change, bytes: make() };
        let frame = self.frame.get_or_init(first);
        let same = Arc::ptr_eq(&frame.resource, resource);
        if same && (frame.encoding, frame.change) == (encoding, change) {
            frame.bytes.clone()
        } else {
            make()
        }
    }
}

impl std::ops::Deref for Delivery {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<Item>,
    /// The reader waits for more.
    reader: Option<Waker>,
    woken: Option<Instant>,
    /// The events wait for [`Lane::release`].
    held: bool,
    /// Nothing more will come.
    ended: bool,
    /// Nobody reads any more.
    left: bool,
}

#[derive(Default)]
pub struct Lane(Mutex<State>);

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    Now,
    /// It is the first that waits, and should be released at this time.
    Held(Instant),
    /// It waits behind others.
    Behind,
    /// The reader has left, or was too slow.
    Gone,
}

impl Lane {
    /// `pace`: the time now, and what must have passed since the reader was woken last; none wakes it in any case.
    fn push(&self, item: Item, pace: Option<(Instant, Duration)>) -> Sent {
        let mut state = self.0.lock();
        if state.left || state.events.len() >= QUEUE {
            return Sent::Gone;
        }
        state.events.push_back(item);
        if state.held {
            return Sent::Behind;
        }
        if let Some((now, pace)) = pace {
            match state.woken.map(|last| last + pace) {
                Some(due) if due > now => {
                    state.held = true;
                    return Sent::Held(due);
                }
                _ => state.woken = Some(now),
            }
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Sent::Now
    }

    /// Lets the reader have what waits.
    pub fn release(&self, now: Instant) {
        let mut state = self.0.lock();
        (state.held, state.woken) = (false, Some(now));
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }
}

/// The cache's end of a lane; the reader is told when it is dropped.
pub struct Sender(Arc<Lane>);

impl Sender {
    pub fn push(&self, item: Item, pace: Option<(Instant, Duration)>) -> Sent {
        self.0.push(item, pace)
    }

    /// Has the reader left?
    pub fn is_left(&self) -> bool {
        self.0.0.lock().left
    }

    pub fn lane(&self) -> Arc<Lane> {
        self.0.clone()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }
}

/// A running watch of a cache. `next` gives `None` when the watcher was too slow or the cache started anew.
pub struct Subscription {
    pub backlog: std::vec::IntoIter<Item>,
    /// Taken out of the lane already.
    taken: VecDeque<Item>,
    lane: Arc<Lane>,
    /// Events up to this revision are none of this watch's business.
    after: i64,
}

impl Subscription {
    pub fn new(backlog: Vec<Item>, after: i64) -> (Sender, Self) {
        let lane = Arc::new(Lane::default());
        let sender = Sender(lane.clone());
        (sender, Self { backlog: backlog.into_iter(), taken: VecDeque::new(), lane, after })
    }

    /// The next event, once it is due. Dropped before it is ready, it has taken nothing.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if let Some(item) = self.pop() {
                return Poll::Ready(Some(item));
            }
            let mut state = self.lane.0.lock();
            if state.events.is_empty() && state.ended {
                return Poll::Ready(None);
            }
            if state.events.is_empty() || (state.held && !state.ended) {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            Self::take(&mut self.taken, &mut state);
        }
    }

    /// What is there without waiting, due or not.
    pub fn try_next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.pop() {
                return Some(item);
            }
            let mut state = self.lane.0.lock();
            if state.events.is_empty() {
                return None;
            }
            Self::take(&mut self.taken, &mut state);
        }
    }

    fn pop(&mut self) -> Option<Item> {
        if let Some(old) = self.backlog.next() {
            return Some(old);
        }
        while let Some(item) = self.taken.pop_front() {
            if item.1.revision > self.after {
                return Some(item);
            }
        }
        None
    }

    fn take(taken: &mut VecDeque<Item>, state: &mut State) {
        if taken.capacity() > KEPT {
            *taken = VecDeque::new();
        }
        std::mem::swap(taken, &mut state.events);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.lane.0.lock();
        state.left = true;
        let (events, reader) = (std::mem::take(&mut state.events), state.reader.take());
        drop(state);
        drop((events, reader));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PACE: Duration = Duration::from_millis(4);

    fn item(revision: i64) -> Item {
        (Change::Added, Delivery::new(Arc::new(Event::new(revision, "ns/a".into(), None, None, true))))
    }

    /// What a reader gets without waiting: revisions, and 0 for the end.
    fn got(subscription: &mut Subscription) -> Vec<i64> {
        let mut out = Vec::new();
        while let Some(next) = subscription.next().now_or_never() {
            out.push(next.as_ref().map_or(0, |(_, event)| event.revision));
            if next.is_none() {
                break;
            }
        }
        out
    }

    #[test]
    fn the_first_event_comes_at_once_and_those_behind_it_together() {
        let (sender, mut subscription) = Subscription::new(vec![item(1)], 0);
        let now = Instant::now();
        let at = |millis| Some((now + Duration::from_millis(millis), PACE));
        assert_eq!(sender.push(item(2), at(0)), Sent::Now);
        assert_eq!(got(&mut subscription), [1, 2]);
        assert_eq!(sender.push(item(3), at(1)), Sent::Held(now + PACE));
        assert_eq!(sender.push(item(4), at(2)), Sent::Behind);
        assert!(got(&mut subscription).is_empty());
        sender.lane().release(now + PACE);
        assert_eq!(got(&mut subscription), [3, 4]);
        assert_eq!(sender.push(item(5), at(20)), Sent::Now);
        assert_eq!(sender.push(item(6), at(21)), Sent::Held(now + Duration::from_millis(24)));
        drop(sender);
        assert_eq!(got(&mut subscription), [5, 6, 0]);
    }

    #[test]
    fn a_slow_reader_is_let_go_and_one_that_left_is_forgotten() {
        let (sender, mut subscription) = Subscription::new(Vec::new(), 1);
        let taken = (1..).take_while(|revision| sender.push(item(*revision), None) == Sent::Now).count();
        assert_eq!(taken, QUEUE);
        drop(sender);
        assert_eq!(got(&mut subscription).len(), QUEUE, "all but the first, which it knows, and the end");
        let (sender, subscription) = Subscription::new(Vec::new(), 0);
        drop(subscription);
        assert!(sender.is_left() && sender.push(item(1), None) == Sent::Gone);
    }
}
