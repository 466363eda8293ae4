//! ConfigMaps and Secrets that pods of this node refer to, kept true by one watch each while someone refers to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Informers, Key, Source, Store, Subscription};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::sync::Notify;

use crate::refs::{Found, Names};

/// How long a pod waits for the first look at an object.
const FIRST_LOOK: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    ConfigMap,
    Secret,
}

type Id = (Kind, String, String);

enum Watched {
    ConfigMap(Store<ConfigMap>),
    Secret(Store<Secret>),
}

struct Entry {
    watched: Watched,
    /// Pods (by uid) that refer to it, and how to wake them.
    users: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
    _subscription: Subscription,
}

/// The registry of one node.
pub struct Objects {
    informers: Informers,
    entries: Mutex<HashMap<Id, Entry>>,
}

fn source(kind: Kind, namespace: &str, name: &str) -> Source {
    let collection = match kind {
        Kind::ConfigMap => "configmaps",
        Kind::Secret => "secrets",
    };
    Source::path(format!("/api/v1/namespaces/{namespace}/{collection}"))
        .fields(format!("metadata.name={name}"))
}

impl Objects {
    pub fn new(informers: Informers) -> Self {
        Objects { informers, entries: Mutex::default() }
    }

    /// Watches what the pod refers to, ends watches nobody needs any more, and gives what is there. `wake` is notified
    /// at every later change.
    pub async fn resolve(&self, uid: &str, namespace: &str, names: &Names, wake: &Arc<Notify>) -> Found {
        self.register(uid, namespace, names, wake);
        let mut found = Found::default();
        let deadline = tokio::time::Instant::now() + FIRST_LOOK;
        for name in &names.config_maps {
            if let Some(Watched::ConfigMap(store)) = self.store(Kind::ConfigMap, namespace, name) {
                let _ = tokio::time::timeout_at(deadline, store.synced()).await;
                found.config_maps.extend(store.get(&Key::new(namespace, name)).map(|c| (name.clone(), c)));
            }
        }
        for name in &names.secrets {
            if let Some(Watched::Secret(store)) = self.store(Kind::Secret, namespace, name) {
                let _ = tokio::time::timeout_at(deadline, store.synced()).await;
                found.secrets.extend(store.get(&Key::new(namespace, name)).map(|s| (name.clone(), s)));
            }
        }
        found
    }

    /// Ends the pod's interest in everything.
    pub fn forget(&self, uid: &str) {
        self.drop_unused(uid, &HashSet::new());
    }

    fn store(&self, kind: Kind, namespace: &str, name: &str) -> Option<Watched> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&(kind, namespace.to_owned(), name.to_owned())).map(|e| match &e.watched {
            Watched::ConfigMap(store) => Watched::ConfigMap(store.clone()),
            Watched::Secret(store) => Watched::Secret(store.clone()),
        })
    }

    fn register(&self, uid: &str, namespace: &str, names: &Names, wake: &Arc<Notify>) {
        let ids: HashSet<Id> = names
            .config_maps
            .iter()
            .map(|n| (Kind::ConfigMap, namespace.to_owned(), n.clone()))
            .chain(names.secrets.iter().map(|n| (Kind::Secret, namespace.to_owned(), n.clone())))
            .collect();
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            for id in &ids {
                let entry = entries.entry(id.clone()).or_insert_with(|| self.watch(id));
                let mut users = entry.users.lock().unwrap_or_else(PoisonError::into_inner);
                users.insert(uid.to_owned(), wake.clone());
            }
        }
        self.drop_unused(uid, &ids);
    }

    fn watch(&self, (kind, namespace, name): &Id) -> Entry {
        let users: Arc<Mutex<HashMap<String, Arc<Notify>>>> = Arc::default();
        let wake = {
            let users = users.clone();
            move || {
                for user in users.lock().unwrap_or_else(PoisonError::into_inner).values() {
                    user.notify_one();
                }
            }
        };
        let source = source(*kind, namespace, name);
        let (watched, subscription) = match kind {
            Kind::ConfigMap => {
                let store = self.informers.watch::<ConfigMap>(source);
                let subscription = store.on_change(move |_| wake());
                (Watched::ConfigMap(store), subscription)
            }
            Kind::Secret => {
                let store = self.informers.watch::<Secret>(source);
                let subscription = store.on_change(move |_| wake());
                (Watched::Secret(store), subscription)
            }
        };
        Entry { watched, users, _subscription: subscription }
    }

    fn drop_unused(&self, uid: &str, keep: &HashSet<Id>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|id, entry| {
            if keep.contains(id) {
                return true;
            }
            let mut users = entry.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.remove(uid);
            if !users.is_empty() {
                return true;
            }
            let source = source(id.0, &id.1, &id.2);
            match entry.watched {
                Watched::ConfigMap(_) => self.informers.forget::<ConfigMap>(&source),
                Watched::Secret(_) => self.informers.forget::<Secret>(&source),
            }
            false
        });
    }
}
