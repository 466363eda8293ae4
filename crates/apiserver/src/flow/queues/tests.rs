use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn wide(seats: u64) -> Work {
    Work { initial: seats, ..Work::ONE }
}

/// A request arrives: its ticket, and whether it runs.
fn arrive<T: Default>(
    level: &mut Queues<T>,
    now: Duration,
    work: Work,
    hash: u64,
) -> Result<(Ticket, bool), Refused> {
    let (ticket, started) = level.arrive(now, work, hash, T::default())?;
    assert!(started.iter().all(|t| *t == ticket), "nobody else had to wait for this");
    Ok((ticket, started.contains(&ticket)))
}

const QUEUES: Limit = Limit::Queue { queues: 8, hand: 2, length: 3 };

#[test]
fn exempt_and_rejecting_levels() {
    let mut exempt: Queues<()> = Queues::new(Limit::Exempt, 0, ms(0));
    for _ in 0..100 {
        assert!(arrive(&mut exempt, ms(1), wide(5), 0).unwrap().1);
    }
    assert_eq!(exempt.counts().seats_in_use, 500);
    let mut reject: Queues<()> = Queues::new(Limit::Reject, 2, ms(0));
    let (first, _) = arrive(&mut reject, ms(0), Work::ONE, 0).unwrap();
    arrive(&mut reject, ms(0), Work::ONE, 0).unwrap();
    assert_eq!(arrive(&mut reject, ms(0), Work::ONE, 0), Err(Refused::ConcurrencyLimit));
    assert_eq!(reject.finish(ms(1), first), (vec![], None));
    assert!(arrive(&mut reject, ms(1), Work::ONE, 0).is_ok());
    assert_eq!((reject.totals.dispatched, reject.totals.rejected), (1, 1));
}

#[test]
fn queues_fill_up_and_empty_in_order() {
    let mut level: Queues<()> = Queues::new(Limit::Queue { queues: 1, hand: 1, length: 2 }, 1, ms(0));
    let (running, now) = arrive(&mut level, ms(0), Work::ONE, 7).unwrap();
    assert!(now);
    let (second, now) = arrive(&mut level, ms(1), Work::ONE, 7).unwrap();
    assert!(!now);
    let (third, _) = arrive(&mut level, ms(2), Work::ONE, 7).unwrap();
    assert_eq!(arrive(&mut level, ms(3), Work::ONE, 7), Err(Refused::QueueFull));
    assert_eq!(level.finish(ms(4), running).0, [second]);
    assert_eq!(level.give_up(ms(5), third), Some(vec![]), "it waits and may leave");
    assert_eq!(level.give_up(ms(5), second), None, "it runs already");
    assert_eq!(level.finish(ms(6), second), (vec![], None));
    assert!(level.is_unused());
    assert_eq!(level.counts(), Counts { r: level.counts().r, ..EMPTY });
    assert_eq!(level.totals, Totals { dispatched: 2, rejected: 2, cancelled: 1, timed_out: 0 });
}

const EMPTY: Counts = Counts { waiting: 0, running: 0, seats_in_use: 0, seats_waiting: 0, r: 0.0 };

#[test]
fn seats_linger_and_wide_requests_run_alone() {
    let mut level: Queues<()> = Queues::new(QUEUES, 4, ms(0));
    let lingering = Work { initial: 1, last: 3, linger: ms(5) };
    let (first, _) = arrive(&mut level, ms(0), lingering, 1).unwrap();
    assert_eq!(level.counts().seats_in_use, 3);
    let (second, now) = arrive(&mut level, ms(0), wide(2), 2).unwrap();
    assert!(!now);
    assert_eq!(level.finish(ms(1), first), (vec![], Some(ms(5))));
    assert_eq!(level.release(ms(6), first), [second]);
    // ten seats where there are four: when nothing else runs
    let (third, now) = arrive(&mut level, ms(6), wide(10), 3).unwrap();
    assert!(!now);
    assert_eq!(level.finish(ms(7), second).0, [third]);
    assert!(!arrive(&mut level, ms(7), Work::ONE, 4).unwrap().1);
    // the last seats of a request are narrowed to what there is, for as much longer
    let mut level: Queues<()> = Queues::new(QUEUES, 2, ms(0));
    let (ticket, _) = arrive(&mut level, ms(0), Work { initial: 1, last: 10, linger: ms(5) }, 1).unwrap();
    assert_eq!(level.get(ticket).unwrap().work, Work { initial: 1, last: 2, linger: ms(25) });
}

#[test]
fn more_seats_start_those_that_wait_and_none_start_at_zero() {
    let mut level: Queues<()> = Queues::new(QUEUES, 0, ms(0));
    let (first, now) = arrive(&mut level, ms(0), Work::ONE, 1).unwrap();
    assert!(!now);
    assert_eq!(level.configure(ms(1), QUEUES, 5), [first]);
    // fewer queues: those in use stay until they are empty
    level.configure(ms(2), Limit::Queue { queues: 1, hand: 1, length: 3 }, 5);
    assert!(level.shown().count() <= 8);
    level.finish(ms(3), first);
    assert_eq!(level.shown().count(), 1);
}

/// A flow that always has `at_once` requests in the level, each running this long.
struct Client {
    flow: u64,
    at_once: usize,
    takes: Duration,
}

/// Simulates clients for a time; the requests that each got through.
fn simulate(limit: Limit, seats: u64, clients: &[Client], length: Duration) -> Vec<usize> {
    let mut level: Queues<usize> = Queues::new(limit, seats, ms(0));
    let mut done = vec![0; clients.len()];
    let mut ends: BTreeSet<(Duration, usize)> = BTreeSet::new();
    let mut running: BTreeMap<usize, Ticket> = BTreeMap::new();
    let mut serial = 0;
    let mut begin =
        |at: Duration, who: usize, ticket: Ticket, ends: &mut BTreeSet<_>, running: &mut BTreeMap<_, _>| {
            serial += 1;
            ends.insert((at + clients[who].takes, serial));
            running.insert(serial, ticket);
        };
    for (who, client) in clients.iter().enumerate() {
        for _ in 0..client.at_once {
            if let Ok((_, started)) = level.arrive(ms(0), Work::ONE, client.flow, who) {
                for ticket in started {
                    begin(ms(0), who, ticket, &mut ends, &mut running);
                }
            }
        }
    }
    while let Some((at, id)) = ends.pop_first() {
        if at > length {
            break;
        }
        let ticket = running.remove(&id).unwrap();
        let who = level.get(ticket).unwrap().about;
        done[who] += 1;
        let (mut started, _) = level.finish(at, ticket);
        if let Ok((_, more)) = level.arrive(at, Work::ONE, clients[who].flow, who) {
            started.extend(more);
        }
        for ticket in started {
            let who = level.get(ticket).unwrap().about;
            begin(at, who, ticket, &mut ends, &mut running);
        }
    }
    done
}

#[test]
fn elephants_do_not_trample_mice() {
    let queues = Limit::Queue { queues: 64, hand: 4, length: 50 };
    let client = |flow, at_once, takes| Client { flow, at_once, takes: ms(takes) };
    // the hashes deal hands that do not overlap fully
    let clients = [client(0x1234_5678_9abc, 40, 10), client(0xfeed_beef_cafe, 2, 10)];
    let got = simulate(queues, 4, &clients, Duration::from_secs(10));
    // 4 seats for 10 s of 10 ms each: 4000 in all; the small flow could use 2 seats, and gets them
    assert!((3900..=4000).contains(&(got[0] + got[1])), "{got:?}");
    assert!(got[1] >= 700, "the small flow starves: {got:?}");
    // without queues apart the small flow would get 2 parts of 42
    let one = Limit::Queue { queues: 1, hand: 1, length: 50 };
    let unfair = simulate(one, 4, &clients, Duration::from_secs(10));
    assert!(unfair[1] < 400, "{unfair:?}");
}

#[test]
fn long_requests_pay_for_their_time() {
    let queues = Limit::Queue { queues: 64, hand: 1, length: 200 };
    let client = |flow, takes| Client { flow, at_once: 20, takes: ms(takes) };
    let clients = [client(3, 10), client(40, 50)];
    let got = simulate(queues, 4, &clients, Duration::from_secs(20));
    // equal seats: five short ones for each long one
    let ratio = got[0] as f64 / got[1] as f64;
    assert!((3.5..6.5).contains(&ratio), "{got:?}");
}

#[test]
fn hands_are_dealt_without_repeats_and_evenly() {
    let mut hits = [0usize; 16];
    for hash in 0..20_000u64 {
        let mut dealt = [0; MOST_CARDS];
        let hand = deal(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15), 16, 4, &mut dealt);
        let different: BTreeSet<usize> = hand.iter().copied().collect();
        assert_eq!(different.len(), 4);
        hand.iter().for_each(|card| hits[*card] += 1);
    }
    assert!(hits.iter().all(|n| (4500..5500).contains(n)), "{hits:?}");
}

/// Whatever is done in whatever order: counts add up, and at the end nothing is left.
#[test]
fn random_use_keeps_the_books() {
    let mut seed = 7u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut level: Queues<()> = Queues::new(QUEUES, 5, ms(0));
    let (mut waiting, mut running, mut lingering) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..20_000u64 {
        let now = ms(step);
        let mut started = Vec::new();
        match next(10) {
            0..=4 => {
                let work = Work { initial: 1 + next(3), last: next(4), linger: ms(next(3)) };
                if let Ok((ticket, more)) = level.arrive(now, work, next(1 << 40), ()) {
                    waiting.push(ticket);
                    started = more;
                }
            }
            5..=7 if !running.is_empty() => {
                let ticket = running.swap_remove(next(running.len() as u64) as usize);
                let (more, linger) = level.finish(now, ticket);
                started = more;
                if linger.is_some() {
                    lingering.push(ticket);
                }
            }
            8 if !waiting.is_empty() => {
                let ticket = waiting.swap_remove(next(waiting.len() as u64) as usize);
                started = level.give_up(now, ticket).unwrap();
            }
            _ if !lingering.is_empty() => started = level.release(now, lingering.remove(0)),
            _ => started = level.configure(now, QUEUES, 1 + next(8)),
        }
        for ticket in started {
            waiting.retain(|t| *t != ticket);
            running.push(ticket);
        }
        let counts = level.counts();
        assert_eq!((counts.waiting, counts.running), (waiting.len(), running.len()), "step {step}");
    }
    let end = ms(30_000);
    level.configure(end, QUEUES, 1000);
    for ticket in waiting.drain(..) {
        running.push(ticket);
    }
    for ticket in running {
        if level.finish(end, ticket).1.is_some() {
            lingering.push(ticket);
        }
    }
    for ticket in lingering {
        level.release(end, ticket);
    }
    let counts = level.counts();
    assert_eq!((counts.waiting, counts.running, counts.seats_in_use, counts.seats_waiting), (0, 0, 0, 0));
    assert_eq!(level.active, 0);
}
