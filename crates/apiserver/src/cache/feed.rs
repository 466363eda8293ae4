//! The one task that follows the store and keeps all caches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use machinery::Value;
use store::{EventKind, KeyRange, KeyValue, RangeRequest, Store, WatchMessage, WatchRequest};
use tokio::sync::{mpsc, oneshot};
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
        let (revision, kvs) = read(&*self.store, KeyRange::prefix(ROOT), 0).await?;
        let map = self.kinds.now();
        let mut snapshots: HashMap<String, Snapshot> = HashMap::new();
        for kv in kvs {
            let Ok(key) = std::str::from_utf8(&kv.key) else { continue };
            let Some(home) = map.home_of(key) else { continue };
            if let Some(entry) = self.decode(home, &key[home.prefix.len()..], &kv) {
                let snapshot = snapshots.entry(home.prefix.clone()).or_default();
                snapshot.insert(entry.key.clone(), Arc::new(entry));
            }
        }
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
        loop {
            tokio::select! {
                message = watch.next() => match message? {
                    WatchMessage::Events { revision: at, events } => {
                        self.apply(at, &events);
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
                    let (_, kvs) = read(&*self.store, KeyRange::prefix(home.prefix.clone()), *revision).await?;
                    let entries = kvs.iter().filter_map(|kv| {
                        let key = std::str::from_utf8(&kv.key).ok()?;
                        let entry = self.decode(&home, &key[home.prefix.len()..], kv)?;
                        Some((entry.key.clone(), Arc::new(entry)))
                    });
                    home.cache.reset(*revision, entries.collect());
                    let _ = done.send(());
                }
            }
        }
    }

    fn apply(&self, revision: i64, events: &[store::Event]) {
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
            home.cache.apply(revision, list);
        }
    }
}

/// A whole range at one revision, page by page.
async fn read(store: &dyn Store, range: KeyRange, at: i64) -> store::Result<(i64, Vec<KeyValue>)> {
    let mut request = RangeRequest { limit: PAGE, revision: at, ..RangeRequest::new(range) };
    let mut all = Vec::new();
    loop {
        let page = store.range(request.clone()).await?;
        if request.revision == 0 {
            request.revision = page.revision;
        }
        let last = page.kvs.last().map(|kv| kv.key.clone());
        all.extend(page.kvs);
        match last {
            Some(key) if page.more => {
                let mut next = key.to_vec();
                next.push(0);
                request.range.start = next.into();
            }
            _ => return Ok((request.revision, all)),
        }
    }
}

impl Feed {
    /// The entry of a stored value; a value that can't be read is logged and left out, never served.
    fn decode(&self, home: &Home, local: &str, kv: &KeyValue) -> Option<Entry> {
        if let Some(prepared) = home.cache.take_handoff(local, &kv.value) {
            home.readable(local);
            return Some(prepared.into_entry(kv.mod_revision));
        }
        match read_object(self.encryption.as_deref(), home, local, &kv.value) {
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
}

/// A stored value as an object of the home's version, deciphered if it is not plain.
pub fn read_object(
    encryption: Option<&Encryption>,
    home: &Home,
    local: &str,
    stored: &[u8],
) -> Result<Value, String> {
    let opened = match encryption {
        Some(encryption) => {
            encryption.open(&home.name, &home.store_key(local), stored).map(|(plain, _)| plain)
        }
        None if crate::encryption::is_sealed(stored) => {
            crate::encryption::refuse_sealed().map(|()| std::borrow::Cow::Borrowed(stored))
        }
        None => Ok(std::borrow::Cow::Borrowed(stored)),
    };
    let plain = opened.map_err(|e| format!("unable to transform key \"{}\": {e}", home.store_key(local)))?;
    crate::codec::decode_stored(home, &plain).map_err(|e| e.to_string())
}
