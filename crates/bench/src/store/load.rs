//! The loads.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::{KeyRange, Op, RangeRequest, Store, Txn, WatchMessage, WatchRequest};
use anyhow::Result;
use bytes::Bytes;

use super::client;
use super::target::{Kind, Target};

/// What the disk itself takes: the median of 200.
pub fn sync_probe(dir: &Path) -> Result<Duration> {
    let file = std::fs::File::create(dir.join("probe"))?;
    let block = [7; 4096];
    let mut times = Vec::new();
    for i in 0..200 {
        let start = Instant::now();
        file.write_all_at(&block, i * 4096)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[100])
}

#[derive(Clone, Copy, Default)]
pub struct Writes {
    pub per_second: f64,
    pub median: Duration,
    pub p99: Duration,
}

fn put(key: String, value: Bytes) -> Txn {
    Txn { success: vec![Op::Put { key: key.into(), value, lease: 0, prev_kv: false }], ..Txn::default() }
}

/// A key as the API server makes them.
fn key(i: usize) -> String {
    format!("/registry/pods/namespace-{:03}/pod-{:016x}", i % 100, i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn value(len: usize, i: usize) -> Bytes {
    (0..len).map(|at| (at * 31 + i * 17) as u8).collect::<Vec<_>>().into()
}

/// Clients share connections, eight of them one, as far as there are so many.
fn shared_by(clients: usize) -> usize {
    clients.div_ceil(8).min(16)
}

async fn connections(target: &Target, clients: usize) -> Result<Vec<Arc<dyn Store>>> {
    let mut all = Vec::new();
    for _ in 0..shared_by(clients) {
        all.push(target.connect().await?);
    }
    Ok(all)
}

/// Puts what `next` has for each writer and how often it has put; a writer waits for its answer before the next put.
async fn put_all(target: &Target, writers: usize, next: impl client::Next) -> Result<Vec<Duration>> {
    if let Some(address) = target.address() {
        return client::put(address.to_owned(), writers, shared_by(writers), next).await;
    }
    let store = target.connect().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, next) = (store.clone(), next.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while let Some((key, value)) = next(writer, times.len()) {
                let begin = Instant::now();
                store.txn(put(key, value)).await?;
                times.push(begin.elapsed());
            }
            Ok::<_, ::store::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

/// Writers that each wait for their write before the next.
pub async fn write(target: &Target, writers: usize, len: usize, time: Duration) -> Result<Writes> {
    let value = value(len, writers);
    let start = Instant::now();
    let next = move |writer: usize, i: usize| {
        (start.elapsed() < time).then(|| (key(writer << 24 | i), value.clone()))
    };
    let mut times = put_all(target, writers, next).await?;
    let took = start.elapsed();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(Writes { per_second: times.len() as f64 / took.as_secs_f64(), median: at(0.5), p99: at(0.99) })
}

/// Everything that needs many objects.
pub async fn large(kind: Kind, dir: &Path, objects: usize) -> Result<Vec<(String, Option<f64>)>> {
    let mut rows = Vec::new();
    let target = Target::start(kind, dir).await?;
    let start = Instant::now();
    let next = move |writer: usize, i: usize| {
        let i = writer + i * 64;
        (i < objects).then(|| (key(i), value(2048, i)))
    };
    put_all(&target, 64, next).await?;
    rows.push((
        "created with 64 writers, per second".to_owned(),
        Some(objects as f64 / start.elapsed().as_secs_f64()),
    ));
    rows.push(("memory after that, MB".to_owned(), target.memory().map(|(all, _)| all)));
    rows.push(("of it without file pages, MB".to_owned(), target.memory().map(|(_, own)| own)));

    let stores = connections(&target, 64).await?;
    let store = &stores[0];
    let start = Instant::now();
    let mut range = KeyRange::prefix("/registry/");
    let mut seen = 0;
    loop {
        let page = store.range(RangeRequest { limit: 500, ..RangeRequest::new(range) }).await?;
        seen += page.kvs.len();
        let Some(last) = page.kvs.last().filter(|_| page.more) else { break };
        let start = [&last.key[..], &[0]].concat().into();
        range = KeyRange { start, end: Some(Bytes::from_static(b"/registry0")) };
    }
    anyhow::ensure!(seen == objects, "{seen} of {objects} objects were listed");
    rows.push((
        "objects listed in pages of 500, per second".to_owned(),
        Some(seen as f64 / start.elapsed().as_secs_f64()),
    ));

    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for reader in 0..16 {
        let store = stores[reader % stores.len()].clone();
        tasks.spawn(async move {
            for i in 0..1000 {
                store.range(RangeRequest::new(KeyRange::key(key((i * 97 + reader * 31) % objects)))).await?;
            }
            Ok::<_, ::store::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    rows.push((
        "single reads with 16 readers, per second".to_owned(),
        Some(16_000.0 / start.elapsed().as_secs_f64()),
    ));
    rows.push(("events to 50 watchers under 64 writers, per second".to_owned(), Some(watch(&stores).await?)));
    rows.push(("memory at the end, MB".to_owned(), target.memory().map(|(all, _)| all)));
    drop(stores);
    let (target, took) = target.crash_and_open().await?;
    rows.push((
        "from start to the first answer after a crash, ms".to_owned(),
        Some(took.as_secs_f64() * 1e3),
    ));
    rows.push(("memory then, MB".to_owned(), target.memory().map(|(all, _)| all)));
    Ok(rows)
}

const WATCHERS: usize = 50;
const EVENTS: usize = 4_000;

/// Deliveries per second while clients write as fast as they can.
async fn watch(stores: &[Arc<dyn Store>]) -> Result<f64> {
    let mut watchers = tokio::task::JoinSet::new();
    for watcher in 0..WATCHERS {
        let range = KeyRange::prefix("/registry/watched/");
        let request = WatchRequest { range, start_revision: 0, prev_kv: false, progress: None };
        let mut watch = stores[watcher % stores.len()].watch(request).await?;
        watchers.spawn(async move {
            let mut seen = 0;
            while seen < EVENTS {
                if let WatchMessage::Events { events, .. } = watch.next().await? {
                    seen += events.len();
                }
            }
            Ok::<_, ::store::Error>(())
        });
    }
    let start = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = stores[writer % stores.len()].clone();
        writers.spawn(async move {
            for i in (writer..EVENTS).step_by(64) {
                store.txn(put(format!("/registry/watched/{i}"), value(512, i))).await?;
            }
            Ok::<_, ::store::Error>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    while let Some(done) = watchers.join_next().await {
        done??;
    }
    Ok((WATCHERS * EVENTS) as f64 / start.elapsed().as_secs_f64())
}
