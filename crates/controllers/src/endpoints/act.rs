//! Keeps the Endpoints of Services that select pods.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use client::write::{ErrorKind, ignore_not_found, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::decide::decide;
use crate::common::{Context, matches_labels, seen};
use crate::endpointslice::{services_of, touches_endpoints};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpoints-controller",
    service_account: "endpoint-controller",
    component: "endpoint-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let endpoints = context.informers.of::<Endpoints>();
    services.synced().await;
    pods.synced().await;
    endpoints.synced().await;
    let queue = Queue::named("endpoint");
    let gone = Arc::new(Mutex::new(HashSet::new()));
    let (added, noted) = (queue.clone(), gone.clone());
    let _services = services.on_change(move |change| {
        if change.new.is_none() {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(change.key.clone());
        }
        added.add(change.key.clone());
    });
    let added = queue.clone();
    let _endpoints = endpoints.on_change(move |change| {
        if change.old.is_some() {
            added.add(change.key.clone());
        }
    });
    let (added, all) = (queue.clone(), services.clone());
    let _pods = pods.on_change(move |change| {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && !touches_endpoints(old, new)
        {
            return;
        }
        let services = all.list_namespace(change.key.namespace());
        for pod in [change.old, change.new].into_iter().flatten() {
            services_of(&services, pod).for_each(|name| added.add(Key::new(change.key.namespace(), name)));
        }
    });
    let reconcile = |key: Key| reconcile(&context, &services, &pods, &endpoints, &gone, key);
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

async fn reconcile(
    context: &Context,
    services: &Store<Service>,
    pods: &Store<Pod>,
    endpoints: &Store<Endpoints>,
    gone: &Mutex<HashSet<Key>>,
    key: Key,
) -> Result<Outcome, kube::Error> {
    let api: Api<Endpoints> = namespaced(&context.client, key.namespace());
    let old = endpoints.get(&key);
    let Some(service) = services.get(&key) else {
        // Endpoints may live without any Service; those that had one go with it, whoever wrote them: as upstream.
        let note = |deleted: bool| {
            let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
            if deleted { gone.remove(&key) } else { gone.insert(key.clone()) }
        };
        let managed = old.is_some_and(|old| {
            old.metadata.labels.as_ref().is_some_and(|l| l.contains_key("endpoints.kubernetes.io/managed-by"))
        });
        let had_service = note(true);
        if managed || had_service {
            let deleted = ignore_not_found(api.delete(key.name(), &DeleteParams::default()).await);
            if deleted.is_err() && had_service {
                note(false);
            }
            deleted?;
        }
        return Ok(Outcome::Done);
    };
    let spec = service.spec.clone().unwrap_or_default();
    let Some(selector) = spec.selector.filter(|selector| !selector.is_empty()) else {
        return Ok(Outcome::Done);
    };
    if spec.type_.as_deref() == Some("ExternalName") || service.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    let mut pods = pods.list_namespace(key.namespace());
    pods.retain(|pod| matches_labels(&selector, pod.metadata.labels.as_ref()));
    let Some(new) = decide(&service, &pods, old.as_deref()) else { return Ok(Outcome::Done) };
    let params = PostParams::default();
    let written = match &old {
        Some(_) => api.replace(key.name(), &params, &new).await,
        None => api.create(&params, &new).await,
    };
    match written {
        Ok(written) => seen(endpoints, &written).await,
        Err(error) if namespace_terminating(&error) || ErrorKind::of(&error) == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(Outcome::Done)
}
