//! The one task that follows the store and keeps all caches.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use machinery::Value;
use store::{EventKind, KeyRange, KeyValue, RangeRequest, Store, WatchMessage, WatchRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Entry, Progress, Snapshot};
use crate::encryption::Encryption;
use crate::kinds::{Home, Kinds};

/// Everything of ours lies under this.
pub const ROOT: &str = "/registry/";

/// Objects per page of the first load.
const PAGE: usize = 2000;

/// Asks the feed to load a home that came later (a custom resource); answered when its cache is complete.
pub type Load = (Arc<Home>, oneshot::Sender<()>);

pub struct Feed {
    pub store: Arc<dyn Store>,
    pub kinds: Arc<Kinds>,
    pub progress: Arc<Progress>,
    pub loads: mpsc::Receiver<Load>,
    /// Others write to the store, too: ask for progress so often while nothing of ours happens, so that the history
    /// that a resumed watch needs is not compacted meanwhile.
    pub quiet: Option<Duration>,
    pub encryption: Option<Arc<Encryption>>,
}

impl Feed {
    /// Loads everything once; the server can answer after this.
    pub async fn load_all(&self) -> store::Result<i64> {
        let map = self.kinds.now();
        let mut snapshots: HashMap<String, Snapshot> = HashMap::new();
        let mut take = |decoded: Vec<(Arc<Home>, Entry)>| {
            for (home, entry) in decoded {
                if !snapshots.contains_key(&home.prefix) {
                    snapshots.insert(home.prefix.clone(), Snapshot::default());
                }
                let snapshot = snapshots.get_mut(&home.prefix).expect("it was put in");
                snapshot.insert(entry.key.clone(), Arc::new(entry));
            }
        };
        let failed = |e: tokio::task::JoinError| store::Error::Unavailable(e.to_string());
        // reading is cheap, decoding is not: all processors take part, a page each
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut decoding: JoinSet<Vec<(Arc<Home>, Entry)>> = JoinSet::new();
        let mut pages = Pages::new(&*self.store, KeyRange::prefix(ROOT), 0);
        while let Some(kvs) = pages.next().await? {
            while decoding.len() > threads
                && let Some(decoded) = decoding.join_next().await
            {
                take(decoded.map_err(failed)?);
            }
            let (map, encryption) = (map.clone(), self.encryption.clone());
            decoding.spawn_blocking(move || {
                let decode = |kv: &KeyValue| {
                    let key = std::str::from_utf8(&kv.key).ok()?;
                    let home = map.home_of(key)?;
                    let entry = decode(encryption.as_deref(), home, &key[home.prefix.len()..], kv)?;
                    Some((home.clone(), entry))
                };
                kvs.iter().filter_map(decode).collect()
            });
        }
        while let Some(decoded) = decoding.join_next().await {
            take(decoded.map_err(failed)?);
        }
        let revision = pages.revision;
        for home in map.homes() {
            home.cache.reset(revision, snapshots.remove(&home.prefix).unwrap_or_default());
        }
        self.progress.set_applied(revision);
        self.progress.set_committed(revision);
        Ok(revision)
    }

    /// Follows the store until `shutdown`. A watch that breaks is resumed, or if it can't be, everything is loaded anew.
    pub async fn run(mut self, mut revision: i64, shutdown: CancellationToken) {
        loop {
            let followed = tokio::select! {
                () = shutdown.cancelled() => return,
                followed = self.follow(&mut revision) => followed,
            };
            let Err(error) = followed else { return };
            if matches!(error, store::Error::Closed) {
                return;
            }
            tracing::warn!(%error, revision, "the watch of the store ended; starting again");
            if matches!(error, store::Error::Compacted { .. }) {
                match self.load_all().await {
                    Ok(at) => revision = at,
                    Err(error) => tracing::error!(%error, "can't load from the store"),
                }
            }
            if !matches!(error, store::Error::TooSlow | store::Error::Compacted { .. }) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn follow(&mut self, revision: &mut i64) -> store::Result<()> {
        let request = WatchRequest {
            range: KeyRange::prefix(ROOT),
            start_revision: *revision + 1,
            prev_kv: false,
            progress: self.quiet,
        };
        let mut watch = self.store.watch(request).await?;
        let mut held = Held::default();
        loop {
            tokio::select! {
                () = held.due() => held.release(),
                message = watch.next() => match message? {
                    WatchMessage::Events { revision: at, events } => {
                        self.apply(at, &events, &mut held);
                        *revision = at;
                        self.progress.set_applied(at);
                    }
                    WatchMessage::Progress { revision: at } => {
                        *revision = at.max(*revision);
                        self.progress.set_applied(at);
                    }
                },
                () = self.progress.nudged() => watch.request_progress(),
                Some((home, done)) = self.loads.recv() => {
                    let mut objects = Snapshot::default();
                    let range = KeyRange::prefix(home.prefix.clone());
                    let mut pages = Pages::new(&*self.store, range, *revision);
                    while let Some(kvs) = pages.next().await? {
                        for kv in kvs {
                            let Ok(key) = std::str::from_utf8(&kv.key) else { continue };
                            if let Some(entry) = self.decode(&home, &key[home.prefix.len()..], &kv) {
                                objects.insert(entry.key.clone(), Arc::new(entry));
                            }
                        }
                    }
                    home.cache.reset(*revision, objects);
                    let _ = done.send(());
                }
            }
        }
    }

    fn apply(&self, revision: i64, events: &[store::Event], held: &mut Held) {
        let map = self.kinds.now();
        let mut changes: Vec<(Arc<Home>, Vec<_>)> = Vec::new();
        for event in events {
            let Ok(key) = std::str::from_utf8(&event.kv.key) else { continue };
            let Some(home) = map.home_of(key) else { continue };
            let local = &key[home.prefix.len()..];
            let change = match event.kind {
                EventKind::Delete => {
                    home.readable(local);
                    (Arc::from(local), None)
                }
                EventKind::Put => match self.decode(home, local, &event.kv) {
                    Some(entry) => (entry.key.clone(), Some(entry)),
                    None => continue,
                },
            };
            match changes.iter_mut().find(|(h, _)| Arc::ptr_eq(h, home)) {
                Some((_, list)) => list.push(change),
                None => changes.push((home.clone(), vec![change])),
            }
        }
        for (home, list) in changes {
            if let Some(due) = home.cache.apply(revision, list) {
                held.note(home, due);
            }
        }
    }
}

/// Caches with watchers that shall be woken a little later.
#[derive(Default)]
struct Held(Vec<(Instant, Arc<Home>)>);

impl Held {
    fn note(&mut self, home: Arc<Home>, due: Instant) {
        match self.0.iter_mut().find(|(_, noted)| Arc::ptr_eq(noted, &home)) {
            Some((at, _)) => *at = due,
            None => self.0.push((due, home)),
        }
    }

    /// Waits until the first of them is due; for ever if there is none.
    async fn due(&self) {
        match self.0.iter().map(|(due, _)| *due).min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn release(&mut self) {
        let now = Instant::now();
        self.0.retain(|(due, home)| {
            let waits = *due > now;
            if !waits {
                home.cache.release();
            }
            waits
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, home)| home.cache.release());
    }
}

/// A whole range at one revision, page by page.
struct Pages<'a> {
    store: &'a dyn Store,
    /// What is asked next; none after the last page.
    next: Option<RangeRequest>,
    /// 0: the newest, until the first page has told it.
    revision: i64,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn Store, range: KeyRange, revision: i64) -> Self {
        let next = Some(RangeRequest { limit: PAGE, revision, ..RangeRequest::new(range) });
        Self { store, next, revision }
    }

    async fn next(&mut self) -> store::Result<Option<Vec<KeyValue>>> {
        let Some(mut request) = self.next.take() else { return Ok(None) };
        let page = self.store.range(request.clone()).await?;
        if self.revision == 0 {
            self.revision = page.revision;
            request.revision = page.revision;
        }
        if let Some(last) = page.kvs.last().filter(|_| page.more) {
            let mut start = last.key.to_vec();
            start.push(0);
            request.range.start = start.into();
            self.next = Some(request);
        }
        Ok(Some(page.kvs))
    }
}

impl Feed {
    fn decode(&self, home: &Home, local: &str, kv: &KeyValue) -> Option<Entry> {
        decode(self.encryption.as_deref(), home, local, kv)
    }
}

/// The entry of a stored value; a value that can't be read is logged and left out, never served.
fn decode(encryption: Option<&Encryption>, home: &Home, local: &str, kv: &KeyValue) -> Option<Entry> {
    if let Some(prepared) = home.cache.take_handoff(local, &kv.value) {
        home.readable(local);
        return Some(prepared.into_entry(kv.mod_revision));
    }
    let plain = open(encryption, home, local, &kv.value);
    let read = |plain: Cow<'_, [u8]>| crate::codec::decode_for_cache(home, &plain).map_err(|e| e.to_string());
    match plain.and_then(read) {
        Ok(object) => {
            home.readable(local);
            let mut entry = Entry::new(Arc::from(local), kv.mod_revision, &object, &home.cache.fields);
            entry.odd = home.odd_version(&object);
            Some(entry)
        }
        Err(error) => {
            tracing::error!(key = %home.store_key(local), %error, "unreadable object in the store");
            home.unreadable(local, error);
            None
        }
    }
}

/// A stored value as an object of the home's version, deciphered if it is not plain.
pub fn read_object(
    encryption: Option<&Encryption>,
    home: &Home,
    local: &str,
    stored: &[u8],
) -> Result<Value, String> {
    let plain = open(encryption, home, local, stored)?;
    crate::codec::decode_stored(home, &plain).map_err(|e| e.to_string())
}

/// A stored value as it was before it was enciphered.
fn open<'a>(
    encryption: Option<&Encryption>,
    home: &Home,
    local: &str,
    stored: &'a [u8],
) -> Result<Cow<'a, [u8]>, String> {
    let opened = match encryption {
        Some(encryption) => {
            encryption.open(&home.name, &home.store_key(local), stored).map(|(plain, _)| plain)
        }
        None if crate::encryption::is_sealed(stored) => {
            crate::encryption::refuse_sealed().map(|()| Cow::Borrowed(stored))
        }
        None => Ok(Cow::Borrowed(stored)),
    };
    opened.map_err(|e| format!("unable to transform key \"{}\": {e}", home.store_key(local)))
}
