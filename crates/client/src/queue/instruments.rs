//! What the named queues of this process have done, in the words of upstream's workqueue metrics.
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Seconds: from ten nanoseconds on, each ten times the one before.
const BOUNDS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// The queues that have a name. They say themselves what they hold.
static QUEUES: Mutex<Vec<(&'static str, Weak<dyn Shown>)>> = Mutex::new(Vec::new());

/// A queue, as far as it shows.
pub(super) trait Shown: Send + Sync {
    fn times(&self) -> &Spent;
    fn now(&self) -> Now;
}

/// What a queue holds now, and what it has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub adds: u64,
    pub retries: u64,
    pub depth: usize,
    /// Seconds that the work under way has taken so far, all together and the longest.
    pub unfinished: f64,
    pub longest: f64,
}

/// How long keys have waited and been worked on.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub waited: Times,
    pub worked: Times,
}

#[derive(Debug, Default)]
pub(super) struct Times {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, metric: &str, name: &str) -> std::fmt::Result {
        let mut total = 0;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = match BOUNDS.get(at) {
                None => "+Inf".to_owned(),
                Some(bound) if *bound < 1e-4 => format!("{bound:e}").replace("e-", "e-0"),
                Some(bound) => bound.to_string(),
            };
            writeln!(out, "{metric}_bucket{{name=\"{name}\",le=\"{bound}\"}} {total}")?;
        }
        let sum = self.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        writeln!(out, "{metric}_sum{{name=\"{name}\"}} {sum}\n{metric}_count{{name=\"{name}\"}} {total}")
    }
}

pub(super) fn register(name: &'static str, queue: &Arc<impl Shown + 'static>) {
    let queue: Arc<dyn Shown> = queue.clone();
    let mut all = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(_, known)| known.strong_count() > 0);
    all.push((name, Arc::downgrade(&queue)));
}

/// All of it as text for Prometheus; queues of one name count as one where that makes sense: the last one shows.
pub fn page() -> String {
    let all = QUEUES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut queues: Vec<(&str, Arc<dyn Shown>)> =
        all.iter().filter_map(|(name, queue)| Some((*name, queue.upgrade()?))).collect();
    queues.reverse();
    queues.sort_by_key(|(name, _)| *name);
    queues.dedup_by_key(|(name, _)| *name);
    let mut out = String::new();
    // writing to a string does not fail
    let _ = write_all(&mut out, &queues);
    out
}

type Value = fn(&Now) -> f64;

fn write_all(out: &mut String, queues: &[(&str, Arc<dyn Shown>)]) -> std::fmt::Result {
    let simple: [(&str, &str, &str, Value); 5] = [
        ("adds_total", "counter", "Keys that were added.", |q| q.adds as f64),
        ("depth", "gauge", "Keys that wait.", |q| q.depth as f64),
        ("longest_running_processor_seconds", "gauge", "Time of the longest work under way.", |q| q.longest),
        ("retries_total", "counter", "Keys that came back after a failure.", |q| q.retries as f64),
        ("unfinished_work_seconds", "gauge", "Time of all work under way.", |q| q.unfinished),
    ];
    for (metric, kind, help, value) in simple {
        head(out, metric, kind, help, queues)?;
        for (name, queue) in queues {
            writeln!(out, "workqueue_{metric}{{name=\"{name}\"}} {}", value(&queue.now()))?;
        }
    }
    let times: [(&str, &str, fn(&Spent) -> &Times); 2] = [
        ("queue_duration_seconds", "Time that keys wait.", |spent| &spent.waited),
        ("work_duration_seconds", "Time that the work on a key takes.", |spent| &spent.worked),
    ];
    for (metric, help, of) in times {
        head(out, metric, "histogram", help, queues)?;
        for (name, queue) in queues {
            of(queue.times()).write(out, &format!("workqueue_{metric}"), name)?;
        }
    }
    Ok(())
}

fn head(
    out: &mut String,
    metric: &str,
    kind: &str,
    help: &str,
    queues: &[(&str, Arc<dyn Shown>)],
) -> std::fmt::Result {
    match queues.is_empty() {
        true => Ok(()),
        false => writeln!(out, "# HELP workqueue_{metric} [BETA] {help}\n# TYPE workqueue_{metric} {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_times() {
        let times = Times::default();
        for millis in [0, 5, 20_000] {
            times.add(Duration::from_millis(millis));
        }
        let mut out = String::new();
        times.write(&mut out, "m", "q").unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "m_bucket{name=\"q\",le=\"1e-08\"} 1");
        assert_eq!(lines[6], "m_bucket{name=\"q\",le=\"0.01\"} 2");
        assert_eq!(lines[10], "m_bucket{name=\"q\",le=\"+Inf\"} 3");
        assert_eq!(lines[11..], ["m_sum{name=\"q\"} 20.005", "m_count{name=\"q\"} 3"]);
    }
}
