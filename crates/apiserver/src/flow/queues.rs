//! Fair queueing of the requests of one priority level: a pure state machine that is given the time.
//!
//! Requests are dealt into queues by shuffle sharding; the queue whose oldest request would finish first in virtual
//! time is served next. Virtual time (`r`, in seat-seconds per queue) runs at the rate at which each active queue gets
//! seats. KEP-1040 "API Priority and Fairness" describes the method.

use std::collections::VecDeque;
use std::time::Duration;

use super::demand::Demand;

/// How long a request is thought to take before it is known.
const EXPECTED: f64 = 0.003;

/// How a level limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Not at all.
    Exempt,
    /// What does not fit is refused.
    Reject,
    /// What does not fit waits.
    Queue { queues: usize, hand: usize, length: usize },
}

/// The seats that a request takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// While it runs.
    pub initial: u64,
    /// For `linger` after it has ended.
    pub last: u64,
    pub linger: Duration,
}

impl Work {
    pub const ONE: Work = Work { initial: 1, last: 0, linger: Duration::ZERO };

    pub fn seats(&self) -> u64 {
        self.initial.max(self.last)
    }

    fn total(&self) -> f64 {
        self.initial as f64 * EXPECTED + self.last as f64 * self.linger.as_secs_f64()
    }

    /// Fewer final seats for longer, the work being the same.
    fn narrowed(mut self, most: u64) -> Self {
        if self.last > most && most > 0 {
            self.linger = self.linger.mul_f64(self.last as f64 / most as f64);
            self.last = most;
        }
        self
    }
}

/// A request that runs or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    ConcurrencyLimit,
    QueueFull,
}

impl Refused {
    pub fn text(self) -> &'static str {
        match self {
            Refused::ConcurrencyLimit => "concurrency-limit",
            Refused::QueueFull => "queue-full",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Lingering,
}

pub struct Request<T> {
    pub about: T,
    pub work: Work,
    pub arrived: Duration,
    pub started: Duration,
    arrived_r: f64,
    queue: Option<usize>,
    stage: Stage,
}

impl<T> Request<T> {
    pub fn waits(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// It has ended, and its seats are not yet free.
    pub fn lingers(&self) -> bool {
        self.stage == Stage::Lingering
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Ticket>,
    running: usize,
    /// Of those that run or linger.
    seats: u64,
    next_r: f64,
    waiting_initial: u64,
    waiting_seats: u64,
    waiting_work: f64,
}

/// What has happened since the level began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub dispatched: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}

/// The queues of one priority level. `T` is what the caller knows about a request.
pub struct Queues<T> {
    limit: Limit,
    /// Seats that may be taken at once.
    seats: u64,
    queues: Vec<Queue>,
    requests: Vec<Option<Request<T>>>,
    free: Vec<usize>,
    r: f64,
    at: Duration,
    robin: usize,
    arrivals: usize,
    /// Queues with a request that waits or runs.
    active: usize,
    waiting: usize,
    running: usize,
    seats_in_use: u64,
    seats_waiting: u64,
    pub totals: Totals,
    pub demand: Demand,
}

impl<T> Queues<T> {
    pub fn new(limit: Limit, seats: u64, now: Duration) -> Self {
        let mut new = Self {
            limit,
            seats,
            queues: Vec::new(),
            requests: Vec::new(),
            free: Vec::new(),
            r: 0.0,
            at: now,
            robin: 0,
            arrivals: 0,
            active: 0,
            waiting: 0,
            running: 0,
            seats_in_use: 0,
            seats_waiting: 0,
            totals: Totals::default(),
            demand: Demand::new(now),
        };
        let _ = new.configure(now, limit, seats);
        new
    }

    /// Takes another configuration; the requests that may run now.
    pub fn configure(&mut self, now: Duration, limit: Limit, seats: u64) -> Vec<Ticket> {
        self.advance(now);
        (self.limit, self.seats) = (limit, seats);
        if let Limit::Queue { queues, .. } = limit {
            // surplus queues stay until they are empty
            while self.queues.len() < queues {
                self.queues.push(Queue::default());
            }
            self.drop_surplus();
        }
        self.dispatch()
    }

    /// A request arrives. It runs if its ticket is among those that start, else it waits until a later call names it.
    pub fn arrive(
        &mut self,
        now: Duration,
        work: Work,
        hash: u64,
        about: T,
    ) -> Result<(Ticket, Vec<Ticket>), Refused> {
        self.advance(now);
        let mut request = Request {
            about,
            work,
            arrived: now,
            started: now,
            arrived_r: self.r,
            queue: None,
            stage: Stage::Running,
        };
        let Limit::Queue { queues, hand, length } = self.limit else {
            if !self.fits(work.seats()) {
                self.totals.rejected += 1;
                return Err(Refused::ConcurrencyLimit);
            }
            let ticket = self.keep(request);
            self.run(ticket);
            return Ok((ticket, vec![ticket]));
        };
        let at = self.choose(hash, queues, hand);
        if self.seats_in_use >= self.seats && self.queues[at].waiting.len() >= length {
            self.totals.rejected += 1;
            return Err(Refused::QueueFull);
        }
        request.queue = Some(at);
        let total = work.total();
        if self.is_idle(at) {
            self.queues[at].next_r = self.r;
            self.active += 1;
        }
        if self.waiting == 0 && self.seats_in_use < self.seats && self.fits(work.seats()) {
            // nobody to compare with: as if it had been queued and chosen
            request.work = work.narrowed(self.seats);
            self.robin = at;
            let ticket = self.keep(request);
            self.queues[at].next_r = self.queues[at].next_r.max(self.r) + total;
            self.run(ticket);
            return Ok((ticket, vec![ticket]));
        }
        request.stage = Stage::Waiting;
        let ticket = self.keep(request);
        let queue = &mut self.queues[at];
        queue.waiting.push_back(ticket);
        queue.waiting_initial += work.initial;
        queue.waiting_seats += work.seats();
        queue.waiting_work += total;
        self.waiting += 1;
        self.seats_waiting += work.seats();
        self.note();
        self.bound(at);
        Ok((ticket, self.dispatch()))
    }

    /// A running request has ended. Returns who may run now, and when the seats that it still takes are to be released
    /// (by [`Self::release`]).
    pub fn finish(&mut self, now: Duration, ticket: Ticket) -> (Vec<Ticket>, Option<Duration>) {
        self.advance(now);
        let Some(request) = self.requests[ticket.0].as_mut().filter(|r| r.stage == Stage::Running) else {
            return (Vec::new(), None);
        };
        request.stage = Stage::Lingering;
        let (work, took) = (request.work, now.saturating_sub(request.started).as_secs_f64());
        self.running -= 1;
        self.totals.dispatched += 1;
        if let Some(at) = request.queue {
            let queue = &mut self.queues[at];
            queue.running -= 1;
            queue.next_r -= work.initial as f64 * (EXPECTED - took);
            if self.is_idle(at) {
                self.active -= 1;
            }
            self.bound(at);
        }
        if work.linger.is_zero() {
            return (self.release(now, ticket), None);
        }
        (self.dispatch(), Some(work.linger))
    }

    /// The seats of a request that has ended are free.
    pub fn release(&mut self, now: Duration, ticket: Ticket) -> Vec<Ticket> {
        self.advance(now);
        let Some(request) = self.forget(ticket) else { return Vec::new() };
        self.seats_in_use -= request.work.seats();
        self.note();
        if let Some(at) = request.queue {
            self.queues[at].seats -= request.work.seats();
            self.drop_surplus();
        }
        self.dispatch()
    }

    /// A waiting request gives up; those that may run now. None if it no longer waits (it runs, or is gone).
    pub fn give_up(&mut self, now: Duration, ticket: Ticket) -> Option<Vec<Ticket>> {
        self.advance(now);
        let waits = |r: &Request<T>| r.stage == Stage::Waiting;
        if !self.requests[ticket.0].as_ref().is_some_and(waits) {
            return None;
        }
        let request = self.forget(ticket)?;
        if let Some(at) = request.queue {
            self.queues[at].waiting.retain(|t| *t != ticket);
            self.left_queue(at, &request.work);
            if self.is_idle(at) {
                self.active -= 1;
            }
            self.bound(at);
        }
        self.totals.rejected += 1;
        self.totals.cancelled += 1;
        self.note();
        Some(self.dispatch())
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Request<T>> {
        self.requests.get(ticket.0)?.as_ref()
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Request<T>> {
        self.requests.get_mut(ticket.0)?.as_mut()
    }

    pub fn requests(&self) -> impl Iterator<Item = &Request<T>> {
        self.requests.iter().flatten()
    }

    pub fn is_unused(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.waiting,
            running: self.running,
            seats_in_use: self.seats_in_use,
            seats_waiting: self.seats_waiting,
            r: self.r,
        }
    }

    /// All queues, with who waits in them.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_, T>> {
        self.queues.iter().enumerate().map(|(at, queue)| Shown {
            waiting: queue.waiting.iter().filter_map(|t| self.get(*t)).collect(),
            running: self.running_of(Some(at)),
            executing: queue.running,
            seats: queue.seats,
            next_r: queue.next_r,
            initial_sum: queue.waiting_initial,
            seats_sum: queue.waiting_seats,
            work_sum: queue.waiting_work,
        })
    }

    /// Running requests of a queue, or those of none.
    pub fn running_of(&self, queue: Option<usize>) -> Vec<&Request<T>> {
        let all = self.requests.iter().flatten();
        all.filter(|r| r.stage == Stage::Running && r.queue == queue).collect()
    }

    /// Virtual time runs on.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if self.active > 0 {
            let wanted = (self.seats_in_use + self.seats_waiting).min(self.seats) as f64;
            self.r += passed * wanted / self.active as f64;
        }
        self.demand.advance(self.at);
    }

    fn note(&mut self) {
        self.demand.set((self.seats_in_use + self.seats_waiting) as f64);
    }

    fn fits(&self, seats: u64) -> bool {
        match self.limit {
            Limit::Exempt => true,
            // wider than all there is: alone
            _ if seats > self.seats => self.running == 0,
            _ => self.seats_in_use + seats <= self.seats,
        }
    }

    fn is_idle(&self, at: usize) -> bool {
        self.queues[at].waiting.is_empty() && self.queues[at].running == 0
    }

    fn keep(&mut self, request: Request<T>) -> Ticket {
        match self.free.pop() {
            Some(at) => {
                self.requests[at] = Some(request);
                Ticket(at)
            }
            None => {
                self.requests.push(Some(request));
                Ticket(self.requests.len() - 1)
            }
        }
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Request<T>> {
        let request = self.requests.get_mut(ticket.0)?.take()?;
        self.free.push(ticket.0);
        Some(request)
    }

    fn left_queue(&mut self, at: usize, work: &Work) {
        let queue = &mut self.queues[at];
        queue.waiting_initial -= work.initial;
        queue.waiting_seats -= work.seats();
        queue.waiting_work = if queue.waiting.is_empty() { 0.0 } else { queue.waiting_work - work.total() };
        self.waiting -= 1;
        self.seats_waiting -= work.seats();
    }

    /// Takes its seats.
    fn run(&mut self, ticket: Ticket) {
        let at = self.at;
        let Some(request) = self.requests[ticket.0].as_mut() else { return };
        request.stage = Stage::Running;
        request.started = at;
        let (seats, queue) = (request.work.seats(), request.queue);
        self.running += 1;
        self.seats_in_use += seats;
        if let Some(at) = queue {
            self.queues[at].running += 1;
            self.queues[at].seats += seats;
        }
        self.note();
    }

    /// The least loaded queue of the hand that the hash deals; those that are even take turns.
    fn choose(&mut self, hash: u64, queues: usize, hand: usize) -> usize {
        let mut dealt = [0usize; MOST_CARDS];
        let hand = deal(hash, queues, hand.clamp(1, MOST_CARDS), &mut dealt);
        let offset = self.arrivals % hand.len();
        self.arrivals = self.arrivals.wrapping_add(1);
        let (front, back) = hand.split_at(offset);
        let mut best = (f64::MAX, 0);
        for at in back.iter().chain(front) {
            let work = self.queues[*at].waiting_work;
            if work < best.0 {
                best = (work, *at);
            }
        }
        best.1
    }

    /// A queue is not served for time in which nobody waited in it.
    fn bound(&mut self, at: usize) {
        let oldest = self.queues[at].waiting.front().and_then(|t| self.requests[t.0].as_ref());
        if let Some(bound) = oldest.map(|r| r.arrived_r) {
            self.queues[at].next_r = self.queues[at].next_r.max(bound);
        }
    }

    fn dispatch(&mut self) -> Vec<Ticket> {
        let mut started = Vec::new();
        while self.waiting > 0 && self.seats_in_use < self.seats {
            let Some(ticket) = self.dispatch_one() else { break };
            started.push(ticket);
        }
        started
    }

    fn dispatch_one(&mut self) -> Option<Ticket> {
        let count = self.queues.len();
        let mut best: Option<(f64, usize, Ticket)> = None;
        for step in 1..=count {
            let at = (self.robin + step) % count;
            let queue = &self.queues[at];
            let Some(oldest) = queue.waiting.front() else { continue };
            let work = self.requests[oldest.0].as_ref().map_or(0.0, |r| r.work.total());
            let finish = queue.next_r + work;
            if best.is_none_or(|(least, ..)| finish < least) {
                best = Some((finish, at, *oldest));
            }
        }
        let (_, at, ticket) = best?;
        let work = self.requests[ticket.0].as_ref()?.work;
        if !self.fits(work.seats()) {
            // it is its turn: nobody passes it
            return None;
        }
        self.robin = at;
        self.queues[at].waiting.pop_front();
        self.left_queue(at, &work);
        if let Some(request) = self.requests[ticket.0].as_mut() {
            request.work = work.narrowed(self.seats);
        }
        self.run(ticket);
        self.queues[at].next_r += work.total();
        self.bound(at);
        Some(ticket)
    }

    /// Empty queues at the end that are no longer wanted go.
    fn drop_surplus(&mut self) {
        let Limit::Queue { queues, .. } = self.limit else { return };
        while self.queues.len() > queues {
            let last = self.queues.len() - 1;
            if !self.is_idle(last) || self.queues[last].seats > 0 {
                return;
            }
            self.queues.pop();
            self.robin = self.robin.min(last.saturating_sub(1));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    pub waiting: usize,
    pub running: usize,
    pub seats_in_use: u64,
    pub seats_waiting: u64,
    pub r: f64,
}

/// A queue as the debugging pages show it.
pub struct Shown<'a, T> {
    pub waiting: Vec<&'a Request<T>>,
    pub running: Vec<&'a Request<T>>,
    pub executing: usize,
    pub seats: u64,
    pub next_r: f64,
    pub initial_sum: u64,
    pub seats_sum: u64,
    pub work_sum: f64,
}

/// More cards than validation lets a hand have.
const MOST_CARDS: usize = 15;

/// Deals a hand of different cards from a deck, by a hash.
fn deal(mut hash: u64, deck: usize, hand: usize, dealt: &mut [usize; MOST_CARDS]) -> &[usize] {
    let hand = hand.min(deck).max(1);
    let mut rests = [0usize; MOST_CARDS];
    for (i, rest) in rests.iter_mut().enumerate().take(hand) {
        let left = (deck - i).max(1) as u64;
        *rest = (hash % left) as usize;
        hash /= left;
    }
    for i in 0..hand {
        let mut card = rests[i];
        // each rest counts among the cards that the ones before it left
        for before in rests[..i].iter().rev() {
            card += usize::from(card >= *before);
        }
        dealt[i] = card;
    }
    &dealt[..hand]
}

#[cfg(test)]
mod tests;
