//! A kind's objects as last seen, shared by all who read them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::Key;

/// What a store can hold. Every typed Kubernetes object is one; a hot consumer makes a slim struct of its own
/// (with `Deserialize` for just the fields it wants) and implements this for it.
pub trait Cached: DeserializeOwned + Send + Sync + 'static {
    fn key(&self) -> Key;
    fn object_uid(&self) -> &str;
    fn version(&self) -> &str;

    /// Called once before the object is kept: drop what nobody reads.
    fn trim(&mut self) {}
}

/// For `#[serde(deserialize_with)]` in slim structs: null is the default, as Go reads and writes it.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

impl<K> Cached for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    fn key(&self) -> Key {
        let meta = self.metadata();
        Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    fn object_uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    fn trim(&mut self) {
        // Absent on a write means "leave them", so an object read here can be written back.
        self.metadata_mut().managed_fields = None;
    }
}

/// One object's step from `old` to `new`; at least one of them is there. When a name was deleted and created
/// anew between two looks, `old` and `new` differ in uid.
#[derive(Debug)]
pub struct Change<'a, K> {
    pub key: &'a Key,
    pub old: Option<&'a Arc<K>>,
    pub new: Option<&'a Arc<K>>,
}

/// How far the store has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    synced: bool,
    revision: u64,
    /// Counts every change, for those who wait on content.
    changes: u64,
}

struct Index<K> {
    name: &'static str,
    of: fn(&K) -> Vec<String>,
    entries: HashMap<String, BTreeSet<Key>>,
}

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    indexes: Vec<Index<K>>,
}

type Handler<K> = Arc<dyn Fn(&Change<'_, K>) + Send + Sync>;

struct Shared<K> {
    objects: RwLock<Objects<K>>,
    /// Held while objects change and handlers run, so that a new handler misses nothing and sees nothing twice.
    handlers: Mutex<Vec<(u64, Handler<K>)>>,
    progress: watch::Sender<Progress>,
}

/// A cheap handle to the objects of one kind. Reads are of memory only, and of what was true a moment ago.
pub struct Store<K>(Arc<Shared<K>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Cached> Default for Store<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a handler registered; dropping it ends the calls.
#[must_use = "dropping the subscription ends it"]
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl<K: Cached> Store<K> {
    /// An empty store that nobody fills: for tests, and for [`crate::Informers`].
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            objects: RwLock::new(Objects { by_key: BTreeMap::new(), indexes: Vec::new() }),
            handlers: Mutex::new(Vec::new()),
            progress: watch::Sender::new(Progress::default()),
        }))
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().by_key.get(key).cloned()
    }

    /// Every object, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().by_key.values().cloned().collect()
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let (from, to) = Key::bounds(namespace);
        self.read().by_key.range(from..to).map(|(_, object)| object.clone()).collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.read().by_key.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.read().by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` for every object under the lock: for counting without copying handles.
    pub fn for_each(&self, mut f: impl FnMut(&Key, &Arc<K>)) {
        for (key, object) in &self.read().by_key {
            f(key, object);
        }
    }

    /// Keeps an index from now on; asking for the same name again changes nothing.
    pub fn add_index(&self, name: &'static str, of: fn(&K) -> Vec<String>) {
        let _changing = self.handlers();
        let mut objects = self.0.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, of, entries: HashMap::new() };
        for (key, object) in &objects.by_key {
            index.insert(key, object);
        }
        objects.indexes.push(index);
    }

    /// The objects an index has under `value`, ordered by key; none for an index that was never added.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let Some(index) = objects.indexes.iter().find(|index| index.name == name) else { return Vec::new() };
        let Some(keys) = index.entries.get(value) else { return Vec::new() };
        keys.iter().filter_map(|key| objects.by_key.get(key).cloned()).collect()
    }

    /// Calls `handler` for each object there is, then at every change, in order, from one task. The store already
    /// shows the change. A handler must be short (add to a queue), and must not subscribe to the same store.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) -> Subscription {
        let mut handlers = self.handlers();
        let existing: Vec<(Key, Arc<K>)> =
            self.read().by_key.iter().map(|(key, object)| (key.clone(), object.clone())).collect();
        for (key, object) in &existing {
            handler(&Change { key, old: None, new: Some(object) });
        }
        let id = handlers.last().map_or(0, |(id, _)| id + 1);
        handlers.push((id, Arc::new(handler)));
        let shared: Weak<Shared<K>> = Arc::downgrade(&self.0);
        Subscription {
            end: Some(Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared
                        .handlers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .retain(|(other, _)| *other != id);
                }
            })),
        }
    }

    /// True once the first list is complete.
    pub fn has_synced(&self) -> bool {
        self.0.progress.borrow().synced
    }

    /// Waits for the first list to be complete.
    pub async fn synced(&self) {
        let mut progress = self.0.progress.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = progress.wait_for(|p| p.synced).await;
    }

    /// The latest resource version the watch has told of, 0 before the first.
    pub fn revision(&self) -> u64 {
        self.0.progress.borrow().revision
    }

    /// Waits until the store shows a write whose answer carried `resource_version`; false after `bound`.
    ///
    /// A reconciler that has written calls this before it ends, so that its next run sees its own writes.
    pub async fn caught_up(&self, resource_version: &str, bound: Duration) -> bool {
        let Ok(wanted) = resource_version.parse::<u64>() else { return true };
        let mut progress = self.0.progress.subscribe();
        tokio::time::timeout(bound, progress.wait_for(|p| p.revision >= wanted)).await.is_ok()
    }

    /// Waits until `test` holds for the object under `key` (or its absence); false after `bound`.
    pub async fn wait_for(&self, key: &Key, bound: Duration, test: impl Fn(Option<&K>) -> bool) -> bool {
        let mut progress = self.0.progress.subscribe();
        let wait = async {
            loop {
                progress.borrow_and_update();
                if test(self.get(key).as_deref()) || progress.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(bound, wait).await.is_ok()
    }

    /// Puts in one object as a watch event would.
    pub fn apply(&self, mut object: K) {
        object.trim();
        let (key, revision) = (object.key(), object.version().parse().unwrap_or(0));
        self.step(key, Some(Arc::new(object)), revision);
    }

    /// Takes out one object as a watch event would; `revision` is that of the deletion, 0 if not known.
    pub fn remove(&self, key: &Key, revision: u64) {
        self.step(key.clone(), None, revision);
    }

    /// Makes the store equal to a complete list taken at `revision`.
    pub fn replace(&self, objects: Vec<K>, revision: u64) {
        let handlers = self.handlers();
        let mut fresh = BTreeMap::new();
        for mut object in objects {
            object.trim();
            fresh.insert(object.key(), Arc::new(object));
        }
        let gone: Vec<Key> =
            self.read().by_key.keys().filter(|key| !fresh.contains_key(key)).cloned().collect();
        for key in gone {
            self.change(&handlers, &key, None);
        }
        for (key, object) in fresh {
            let same = self.read().by_key.get(&key).is_some_and(|old| {
                old.object_uid() == object.object_uid() && old.version() == object.version()
            });
            if !same {
                self.change(&handlers, &key, Some(object));
            }
        }
        self.advance(revision, true);
    }

    /// Notes that the watch has reached `revision` without a change.
    pub(crate) fn bookmark(&self, revision: u64) {
        self.0.progress.send_if_modified(|p| {
            let newer = revision > p.revision;
            p.revision = p.revision.max(revision);
            newer
        });
    }

    fn step(&self, key: Key, new: Option<Arc<K>>, revision: u64) {
        let handlers = self.handlers();
        self.change(&handlers, &key, new);
        self.advance(revision, false);
    }

    fn advance(&self, revision: u64, synced: bool) {
        self.0.progress.send_modify(|p| {
            p.synced |= synced;
            p.revision = p.revision.max(revision);
            p.changes += 1;
        });
    }

    fn change(&self, handlers: &[(u64, Handler<K>)], key: &Key, new: Option<Arc<K>>) {
        let old = {
            let mut objects = self.0.objects.write().unwrap_or_else(PoisonError::into_inner);
            let Objects { by_key, indexes } = &mut *objects;
            let old = match &new {
                Some(object) => by_key.insert(key.clone(), object.clone()),
                None => by_key.remove(key),
            };
            for index in indexes {
                if let Some(old) = &old {
                    index.remove(key, old);
                }
                if let Some(new) = &new {
                    index.insert(key, new);
                }
            }
            old
        };
        if old.is_none() && new.is_none() {
            return;
        }
        let change = Change { key, old: old.as_ref(), new: new.as_ref() };
        for (_, handler) in handlers {
            if catch_unwind(AssertUnwindSafe(|| handler(&change))).is_err() {
                tracing::error!(%key, "a change handler panicked");
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<(u64, Handler<K>)>> {
        self.0.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &Key, object: &K) {
        for value in (self.of)(object) {
            self.entries.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.of)(object) {
            if let Some(keys) = self.entries.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
