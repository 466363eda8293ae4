//! Watches what quotas count, and writes their statuses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::write::{ignore_not_found, namespaced};
use client::{Cached, Key, Outcome, Queue, Source, Store, Subscription, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::decide::{Kind, decide, kinds};
use crate::common::{Context, discover, is_finished, seen};
use crate::garbage::Object;
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    service_account: "resourcequota-controller",
    component: "resourcequota-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// How long after an object came its quota is counted anew. The server has charged for it already; the count only
/// heals what went wrong, and must not run into writes under way that are charged and not yet there.
const HEALS: Duration = Duration::from_secs(5);

struct Worker {
    context: Context,
    queue: Queue,
    quotas: Store<ResourceQuota>,
    pods: Store<Pod>,
    services: Store<Service>,
    claims: Store<PersistentVolumeClaim>,
    /// Kinds that are counted by number only, as they are asked for.
    numbers: Mutex<HashMap<Kind, (Store<Object>, Subscription)>>,
}

async fn run(context: Context) {
    let informers = context.informers.clone();
    let worker = Worker {
        queue: Queue::named("resourcequota_primary"),
        quotas: informers.of(),
        pods: informers.of(),
        services: informers.of(),
        claims: informers.of(),
        numbers: Mutex::default(),
        context,
    };
    worker.quotas.synced().await;
    worker.pods.synced().await;
    worker.services.synced().await;
    worker.claims.synced().await;
    let queue = worker.queue.clone();
    let _quotas = worker.quotas.on_change(move |change| {
        let settled = |quota: &ResourceQuota| quota.status.as_ref().and_then(|status| status.hard.clone());
        let wanted = change.new.and_then(|quota| quota.spec.as_ref()?.hard.clone());
        // The server's own charges change what is used all the time.
        if wanted != change.new.and_then(|quota| settled(quota)) || change.old.is_none() {
            queue.add(change.key.clone());
        }
    });
    let _pods = worker.watch(&worker.pods, |pod| is_finished(pod));
    let _services = worker.watch(&worker.services, |_| false);
    let _claims = worker.watch(&worker.claims, |_| false);
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&worker.queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    /// Adds the namespace's quotas when an object comes, changes or goes; `ended` ones count as gone.
    fn watch<K: Cached>(&self, store: &Store<K>, ended: fn(&K) -> bool) -> Subscription {
        let (quotas, queue) = (self.quotas.clone(), self.queue.clone());
        store.on_change(move |change| {
            let gone = change.new.is_none_or(|new| ended(new) && change.old.is_some_and(|old| !ended(old)));
            for quota in quotas.list_namespace(change.key.namespace()) {
                match gone {
                    true => queue.add(Cached::key(&*quota)),
                    false => queue.add_after(Cached::key(&*quota), HEALS),
                }
            }
        })
    }

    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(quota) = self.quotas.get(&key) else { return Ok(Outcome::Done) };
        let mut objects = Vec::new();
        for kind in kinds(&quota) {
            let found = self.objects(&kind, key.namespace()).await?;
            objects.push((kind, found));
        }
        let Some(status) = decide(&quota, &objects) else { return Ok(Outcome::Done) };
        let quota = ResourceQuota { status: Some(status), ..(*quota).clone() };
        let api: Api<ResourceQuota> = namespaced(&self.context.client, key.namespace());
        // A conflict means that the server has charged meanwhile: count again.
        let written = api.replace_status(key.name(), &PostParams::default(), &quota).await;
        if let Some(quota) = ignore_not_found(written)? {
            seen(&self.quotas, &quota).await;
        }
        Ok(Outcome::Done)
    }

    async fn objects(&self, kind: &Kind, namespace: &str) -> Result<Vec<Value>, kube::Error> {
        fn shown<K: Cached + serde::Serialize>(store: &Store<K>, namespace: &str) -> Vec<Value> {
            let all = store.list_namespace(namespace);
            all.iter().map(|object| serde_json::to_value(&**object).unwrap_or_default()).collect()
        }
        let (group, plural) = (kind.0.as_str(), kind.1.as_str());
        Ok(match (group, plural) {
            ("", "pods") => shown(&self.pods, namespace),
            ("", "services") => shown(&self.services, namespace),
            ("", "persistentvolumeclaims") => shown(&self.claims, namespace),
            _ => match self.numbers(kind).await? {
                Some(store) => {
                    store.synced().await;
                    vec![json!({}); store.list_namespace(namespace).len()]
                }
                None => Vec::new(),
            },
        })
    }

    /// The store of a kind that is counted by number; None if the server has no such kind.
    async fn numbers(&self, kind: &Kind) -> Result<Option<Store<Object>>, kube::Error> {
        let known = |all: &HashMap<Kind, (Store<Object>, Subscription)>| {
            all.get(kind).map(|(store, _)| store.clone())
        };
        if let Some(store) = known(&self.numbers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(store));
        }
        let found = discover(&self.context.client).await?;
        let resource = found.resources.into_iter().find(|r| (&r.group, &r.plural) == (&kind.0, &kind.1));
        let Some(resource) = resource.filter(|r| r.namespaced && r.can("list") && r.can("watch")) else {
            return Ok(None);
        };
        // The same watch as the garbage collector's.
        let store: Store<Object> =
            self.context.informers.watch(Source::path(resource.path("")).metadata_only());
        let handler = self.watch(&store, |_| false);
        let mut all = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(kind.clone(), (store.clone(), handler));
        Ok(Some(store))
    }
}
