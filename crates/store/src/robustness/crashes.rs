//! Child processes that serve a store and are killed while clients work: at random moments and at failpoints.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Dice, History, Told, Traffic, Watched, check};
use crate::embedded::{self, FAILPOINTS, Options};
use crate::etcd::Config;
use crate::{KeyRange, RangeRequest, Store};

/// What came of many crashes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub cycles: u64,
    /// How the child ended, and how often.
    pub ends: BTreeMap<String, u64>,
    pub acknowledged: u64,
    /// Writes whose outcome no client was told.
    pub unknown: u64,
    pub reads: u64,
    pub conflicts: u64,
    pub events: u64,
    /// The longest time from the start of a child to its first answer.
    pub slowest_start: Duration,
    pub took: Duration,
}

/// The child: serves the directory on a port of its own, says `listening ADDRESS`, and never ends by itself.
pub async fn serve_child(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // Small, so that every kind of file work comes by often.
    let options =
        Options { segment_size: 128 << 10, checkpoint_every: 64 << 10, retain: None, ..Options::default() };
    let store = embedded::open(dir, options)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    crate::face::serve(listener, None, store, crate::face::Options::default(), stop).await?;
    Ok(())
}

/// How many crashes one store lives through before its history is judged and a new one begins.
const EPOCH: u64 = 25;

/// Crashes `cycles` children; `command` makes the command of a child that calls [`serve_child`] with the directory.
/// Fails with the first thing that cannot be, naming the seed; the directory is left for a look.
pub async fn run(
    command: impl Fn(&Path) -> Command,
    cycles: u64,
    seed: u64,
    mut progress: impl FnMut(u64),
) -> Result<Report, String> {
    let start = Instant::now();
    let mut report = Report::default();
    let mut epoch = 0;
    while report.cycles < cycles {
        let seed = seed + epoch;
        let dir = tempfile_dir(seed).map_err(|e| e.to_string())?;
        let wanted = EPOCH.min(cycles - report.cycles);
        let result = self::epoch(&command, &dir, wanted, seed, &mut report, &mut progress).await;
        result.map_err(|what| format!("seed {seed}, {}: {what}", dir.display()))?;
        std::fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
        epoch += 1;
    }
    report.took = start.elapsed();
    Ok(report)
}

fn tempfile_dir(seed: u64) -> std::io::Result<std::path::PathBuf> {
    let dir = std::env::temp_dir().join(format!("r8s-robustness-{}-{seed}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}

/// A child that is not left behind.
struct Served {
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn spawn(mut command: Command, failpoint: Option<&str>) -> Result<Option<Served>, String> {
    command.stdout(Stdio::piped()).stdin(Stdio::null()).env_remove("STORE_FAILPOINT");
    if let Some(failpoint) = failpoint {
        command.env("STORE_FAILPOINT", failpoint);
    }
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let out = child.stdout.take().ok_or("no output")?;
    let listening = tokio::task::spawn_blocking(move || {
        BufReader::new(out).lines().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("listening ")?;
            Some(address.to_owned())
        })
    });
    match listening.await.map_err(|e| e.to_string())? {
        Some(address) => Ok(Some(Served { child, address })),
        None => {
            let status = child.wait().map_err(|e| e.to_string())?;
            // A failpoint may end it while it opens the store.
            if failpoint.is_some() { Ok(None) } else { Err(format!("the store does not open: {status}")) }
        }
    }
}

async fn connect(address: &str) -> Result<Arc<dyn Store>, String> {
    let config = Config {
        request_timeout: Duration::from_secs(10),
        retry_for: Duration::ZERO,
        ..Config::new([address])
    };
    crate::etcd::connect(config).await.map_err(|e| e.to_string())
}

async fn epoch(
    command: &impl Fn(&Path) -> Command,
    dir: &Path,
    cycles: u64,
    seed: u64,
    report: &mut Report,
    progress: &mut impl FnMut(u64),
) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let data = dir.join("data");
    let traffic = Arc::new(Traffic::default());
    let watched =
        ["", "", "/registry/pods/", "/registry/leases/ns-1/"].map(|prefix| Arc::new(Watched::new(prefix, 2)));
    for cycle in 0..cycles {
        let failpoint = (dice.roll(2) == 0).then(|| {
            let name = FAILPOINTS[dice.roll(FAILPOINTS.len() as u64) as usize];
            // The rare ones come by a few times in a life, the others at every batch.
            let rare =
                name.starts_with("roll") || name.starts_with("checkpoint") || name.starts_with("clean");
            (name, 1 + dice.roll(if rare { 2 } else { 80 }))
        });
        let armed = failpoint.map(|(name, count)| format!("{name}:{count}"));
        let began = Instant::now();
        let mut end = failpoint.map_or("killed".to_owned(), |(name, _)| name.to_owned());
        if let Some(mut served) = spawn(command(&data), armed.as_deref()).await? {
            let store = match connect(&served.address).await {
                Ok(store) => Some(store),
                // Gone already, at its failpoint.
                Err(_) if failpoint.is_some() => None,
                Err(error) => return Err(error),
            };
            report.slowest_start = report.slowest_start.max(began.elapsed());
            if let Some(store) = store {
                // Time enough to come to the failpoint.
                let lifetime = if failpoint.is_some() { 1500 } else { 20 + dice.roll(280) };
                let lifetime = Duration::from_millis(lifetime);
                let seed = seed * 1_000_000 + cycle * 1000;
                if !disturbed_work(&mut served, store, &traffic, &watched, lifetime, seed).await? {
                    end = "killed".to_owned();
                }
            }
        }
        *report.ends.entry(end).or_default() += 1;
        report.cycles += 1;
        progress(report.cycles);
    }
    judge(command(&data), &traffic, &watched, report).await
}

/// Lets clients work until the child is gone; kills it if it has not gone by itself. `true` if it had.
async fn disturbed_work(
    served: &mut Served,
    store: Arc<dyn Store>,
    traffic: &Arc<Traffic>,
    watched: &[Arc<Watched>],
    lifetime: Duration,
    seed: u64,
) -> Result<bool, String> {
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..6 {
        tasks.spawn(traffic.clone().client(store.clone(), seed + client, stop.clone()));
    }
    for one in watched {
        let (one, store, stop) = (one.clone(), store.clone(), stop.clone());
        tasks.spawn(async move { drop(one.follow(&*store, None, &stop).await) });
    }
    let begin = Instant::now();
    let mut by_itself = false;
    let mut compacted = Instant::now();
    while begin.elapsed() < lifetime {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if served.child.try_wait().map_err(|e| e.to_string())?.is_some() {
            by_itself = true;
            break;
        }
        if compacted.elapsed() > Duration::from_millis(30) {
            compacted = Instant::now();
            let seen = watched.iter().map(|w| w.next()).min().unwrap_or(1) - 1;
            let store = store.clone();
            tasks.spawn(async move { drop(store.compact(seen).await) });
        }
    }
    served.child.kill().map_err(|e| e.to_string())?;
    served.child.wait().map_err(|e| e.to_string())?;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(by_itself)
}

async fn judge(
    command: Command,
    traffic: &Traffic,
    watched: &[Arc<Watched>],
    report: &mut Report,
) -> Result<(), String> {
    let served = spawn(command, None).await?.ok_or("the store does not open")?;
    let store = connect(&served.address).await?;
    let revision = store.status().await.map_err(|e| e.to_string())?.revision;
    let stop = CancellationToken::new();
    for one in watched {
        one.follow(&*store, Some(revision), &stop).await.map_err(|e| format!("resuming a watch: {e}"))?;
    }
    let last = store.range(RangeRequest::new(KeyRange::prefix(""))).await.map_err(|e| e.to_string())?;
    // Leases may have expired since; the watchers must have seen that, too.
    for one in watched {
        one.follow(&*store, Some(last.revision), &stop).await.map_err(|e| e.to_string())?;
    }
    let history = History {
        attempts: traffic.attempts(),
        seen: watched.iter().map(|w| w.seen()).collect(),
        last: (last.revision, last.kvs),
    };
    report.acknowledged += traffic.acknowledged.load(Ordering::SeqCst);
    report.events += history.seen.iter().map(|s| s.commits.len() as u64).sum::<u64>();
    for attempt in &history.attempts {
        match attempt.told {
            Told::Unknown => report.unknown += 1,
            Told::Read { .. } => report.reads += 1,
            Told::Conflict { .. } => report.conflicts += 1,
            Told::Done { .. } | Told::Failed => {}
        }
    }
    check(&history).map_err(|violation| violation.to_string())
}
