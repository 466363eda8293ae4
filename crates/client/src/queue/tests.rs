use std::cell::{Cell, RefCell};

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

/// Runs until `reconcile` cancels; the clock is tokio's paused one and jumps to the next timer.
async fn run<F: Future<Output = Result<Outcome, No>>>(
    queue: &Queue<&'static str>,
    shutdown: &CancellationToken,
    reconcile: impl Fn(&'static str) -> F,
) {
    run_workers(queue, 4, shutdown, reconcile).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_is_worked_on_once_however_often_added() {
    let (queue, stop, seen) = (Queue::new(), CancellationToken::new(), RefCell::new(Vec::new()));
    for key in ["a", "a", "b", "a", "end"] {
        queue.add(key);
    }
    run(&queue, &stop, |key| {
        seen.borrow_mut().push(key);
        if key == "end" {
            stop.cancel();
        }
        async { Ok(Outcome::Done) }
    })
    .await;
    assert_eq!(*seen.borrow(), ["a", "b", "end"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_during_its_work_comes_again_and_never_beside_itself() {
    let (queue, stop) = (Queue::new(), CancellationToken::new());
    let (at_once, most, runs) = (Cell::new(0), Cell::new(0), Cell::new(0));
    queue.add("a");
    run(&queue, &stop, |_| {
        runs.set(runs.get() + 1);
        at_once.set(at_once.get() + 1);
        most.set(most.get().max(at_once.get()));
        if runs.get() < 3 {
            queue.add("a");
        } else {
            stop.cancel();
        }
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            at_once.set(at_once.get() - 1);
            Ok(Outcome::Done)
        }
    })
    .await;
    assert_eq!((runs.get(), most.get()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_and_longer() {
    let (queue, stop) = (Queue::new(), CancellationToken::new());
    let (times, start) = (RefCell::new(Vec::new()), Instant::now());
    queue.add("a");
    run(&queue, &stop, |_| {
        times.borrow_mut().push(start.elapsed().as_millis());
        let last = times.borrow().len() == 5;
        if last {
            stop.cancel();
        }
        async move { if last { Ok(Outcome::Done) } else { Err(No) } }
    })
    .await;
    let gaps: Vec<u128> = times.borrow().windows(2).map(|w| w[1] - w[0]).collect();
    // Timers have a grain of 1 ms.
    for (gap, wanted) in gaps.iter().zip([5, 10, 20, 40]) {
        assert!((wanted..wanted + 2).contains(gap), "{gaps:?}");
    }
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_delay_stands_and_there_is_one_run() {
    let (queue, stop) = (Queue::new(), CancellationToken::new());
    let (times, start) = (RefCell::new(Vec::new()), Instant::now());
    queue.add_after("a", Duration::from_secs(9));
    queue.add_after("a", Duration::from_secs(3));
    queue.add_after("a", Duration::from_secs(6));
    queue.add_after("end", Duration::from_secs(20));
    run(&queue, &stop, |key| {
        times.borrow_mut().push((key, start.elapsed().as_secs()));
        if key == "end" {
            stop.cancel();
        }
        async { Ok(Outcome::Done) }
    })
    .await;
    assert_eq!(*times.borrow(), [("a", 3), ("end", 20)]);
}

#[tokio::test(start_paused = true)]
async fn many_failing_keys_share_a_bucket() {
    let queue: Queue<u32> = Queue::new();
    let waits: Vec<Duration> = (0..110).map(|key| queue.state().failure(&key)).collect();
    assert_eq!(waits[99], FIRST);
    assert_eq!(waits[109], Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn named_queues_tell_what_they_did() {
    let queue: Queue<u8> = Queue::named("of a test");
    let shutdown = CancellationToken::new();
    for key in [1, 2, 2] {
        queue.add(key);
    }
    let line = |metric: &str| {
        let start = format!("workqueue_{metric}{{name=\"of a test\"}} ");
        super::page().lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned)).unwrap()
    };
    assert_eq!((line("adds_total").as_str(), line("depth").as_str()), ("2", "2"));
    let failed = std::cell::Cell::new(false);
    let reconcile = |key: u8| {
        let fails = key == 1 && !failed.replace(true);
        let (left, shutdown) = (queue.len(), shutdown.clone());
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if fails {
                return Err(std::io::Error::other("once"));
            }
            if key == 1 && left == 0 {
                shutdown.cancel();
            }
            Ok(Outcome::Done)
        }
    };
    run_workers(&queue, 1, &shutdown, reconcile).await;
    assert_eq!((line("retries_total").as_str(), line("depth").as_str()), ("1", "0"));
    assert_eq!((line("work_duration_seconds_count").as_str(), line("adds_total").as_str()), ("3", "3"));
    assert_eq!(line("unfinished_work_seconds"), "0");
}
