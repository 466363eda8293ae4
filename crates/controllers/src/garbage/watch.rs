//! Watches every kind there is, also those that come and go, and keeps the graph.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Queue, Source, Store, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{Graph, Object, Todo};
use crate::common::{Context, Resource, discover};

/// The graph with the queues that its changes fill. Shared by all watches.
#[derive(Default)]
pub(super) struct World {
    pub graph: Mutex<Graph>,
    pub kinds: Mutex<Kinds>,
    pub delete: Queue<String>,
    pub orphan: Queue<String>,
}

/// The kinds by group and kind.
#[derive(Default)]
pub(super) struct Kinds {
    by_kind: HashMap<(String, String), Arc<Resource>>,
}

impl Kinds {
    pub fn of(&self, owner: &OwnerReference) -> Option<Arc<Resource>> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.by_kind.get(&(group.to_owned(), owner.kind.clone())).cloned()
    }
}

impl World {
    pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn todo(&self, todo: Todo) {
        todo.delete.into_iter().for_each(|uid| self.delete.add(uid));
        todo.orphan.into_iter().for_each(|uid| self.orphan.add(uid));
    }

    pub fn set(&self, resource: &Arc<Resource>, object: &Object) {
        // Kinds before graph, always in this order.
        let kinds = Self::lock(&self.kinds);
        let todo = Self::lock(&self.graph).set(resource, &object.metadata, &|owner| kinds.of(owner));
        drop(kinds);
        self.todo(todo);
    }

    pub fn remove(&self, uid: &str) {
        let todo = Self::lock(&self.graph).remove(uid);
        self.todo(todo);
    }
}

/// One watched kind; dropping it ends the handler, not the watch.
struct Watched {
    store: Store<Object>,
    _handler: Subscription,
}

pub(super) struct Watches {
    world: Arc<World>,
    running: HashMap<Resource, Watched>,
}

impl Watches {
    pub fn new(world: Arc<World>) -> Self {
        Self { world, running: HashMap::new() }
    }

    /// Asks what kinds there are, starts watches for new ones and ends those of kinds that have gone. True if
    /// something has changed.
    pub async fn refresh(&mut self, context: &Context) -> Result<bool, kube::Error> {
        let found = discover(&context.client).await?;
        let mut wanted: Vec<Resource> = found.resources;
        wanted.retain(|r| r.can("delete") && r.can("list") && r.can("watch") && !is_ignored(r));
        let mut kinds = HashMap::new();
        for resource in &wanted {
            let kind = (resource.group.clone(), resource.kind.clone());
            kinds.entry(kind).or_insert_with(|| Arc::new(resource.clone()));
        }
        World::lock(&self.world.kinds).by_kind = kinds;
        let mut changed = false;
        // Of a group whose server is away nothing is known: its kinds stay.
        let stale = |r: &Resource| found.stale.contains(&format!("{}/{}", r.group, r.version));
        let gone: Vec<Resource> =
            self.running.keys().filter(|r| !wanted.contains(r) && !stale(r)).cloned().collect();
        for resource in gone {
            changed = true;
            context.informers.forget::<Object>(&source(&resource));
            if let Some(watched) = self.running.remove(&resource) {
                let objects = watched.store.list();
                drop(watched);
                objects.iter().for_each(|object| self.world.remove(&object.metadata.uid));
            }
        }
        for resource in wanted {
            if !self.running.contains_key(&resource) {
                changed = true;
                self.start(context, resource);
            }
        }
        Ok(changed)
    }

    fn start(&mut self, context: &Context, resource: Resource) {
        let store: Store<Object> = context.informers.watch(source(&resource));
        let (world, kind) = (self.world.clone(), Arc::new(resource.clone()));
        let handler = store.on_change(move |change| {
            let replaced =
                change.old.filter(|old| change.new.is_none_or(|n| n.metadata.uid != old.metadata.uid));
            if let Some(old) = replaced {
                world.remove(&old.metadata.uid);
            }
            if let Some(new) = change.new {
                world.set(&kind, new);
            }
        });
        self.running.insert(resource, Watched { store, _handler: handler });
    }

    pub async fn synced(&self) {
        let stores: Vec<Store<Object>> = self.running.values().map(|watched| watched.store.clone()).collect();
        for store in stores {
            // A kind whose list keeps failing must not hold up all the others for ever.
            let bound = std::time::Duration::from_secs(30);
            if tokio::time::timeout(bound, store.synced()).await.is_err() {
                tracing::warn!("a kind cannot be listed; garbage collection goes on without it");
            }
        }
    }
}

fn source(resource: &Resource) -> Source {
    Source::path(resource.path("")).metadata_only()
}

/// Events own nothing and are owned by nothing.
fn is_ignored(resource: &Resource) -> bool {
    resource.plural == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io")
}
