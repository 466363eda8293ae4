//! Carries out what a Service's decision says.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::write::{ErrorKind, ignore_not_found, namespace_terminating, namespaced};
use client::{Change, Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use super::decide::{MANAGED_BY, MANAGER, SERVICE_NAME, View, decide};
use super::{services_of, touches_endpoints};
use crate::common::{Context, gone, matches_labels, message, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    service_account: "endpointslice-controller",
    component: "endpoint-slice-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// The index of slices by `namespace/service`.
pub(crate) const BY_SERVICE: &str = "service";

struct Worker {
    context: Context,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
}

async fn run(context: Context) {
    let worker = Arc::new(Worker {
        services: context.informers.of(),
        pods: context.informers.of(),
        nodes: context.informers.of(),
        slices: context.informers.of(),
        context,
    });
    index_by_service(&worker.slices);
    worker.services.synced().await;
    worker.pods.synced().await;
    worker.nodes.synced().await;
    worker.slices.synced().await;
    let queue = Queue::named("endpoint_slice");
    let added = queue.clone();
    let _services = worker.services.on_change(move |change| added.add(change.key.clone()));
    let (added, services) = (queue.clone(), worker.services.clone());
    let _pods = worker.pods.on_change(move |change| pod_changed(change, &services, &added));
    let added = queue.clone();
    let _slices = worker.slices.on_change(move |change| {
        for slice in [change.old, change.new].into_iter().flatten().filter(|slice| is_own(slice)) {
            if let Some(key) = service_of(slice) {
                added.add(key);
            }
        }
    });
    let (added, all) = (queue.clone(), worker.clone());
    let _nodes = worker.nodes.on_change(move |change| {
        const ZONE: &str = "topology.kubernetes.io/zone";
        let zone = |node: Option<&Arc<Node>>| node.and_then(|node| node.labels().get(ZONE).cloned());
        // A heartbeat is no news; a node that was waited for, or has moved, is.
        if change.old.is_none() || zone(change.old) != zone(change.new) {
            all.services_on(change.key.name()).into_iter().for_each(|key| added.add(key));
        }
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

pub(crate) fn index_by_service(slices: &Store<EndpointSlice>) {
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
}

pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn pod_changed(change: &Change<'_, Pod>, services: &Store<Service>, queue: &Queue) {
    if let (Some(old), Some(new)) = (change.old, change.new)
        && !touches_endpoints(old, new)
    {
        return;
    }
    let namespace = change.key.namespace();
    let services = services.list_namespace(namespace);
    for pod in [change.old, change.new].into_iter().flatten() {
        services_of(&services, pod).for_each(|name| queue.add(Key::new(namespace, name)));
    }
}

impl Worker {
    fn services_on(&self, node: &str) -> Vec<Key> {
        let mut keys = Vec::new();
        self.pods.for_each(|key, pod| {
            if crate::common::node_name(pod) == node {
                let services = self.services.list_namespace(key.namespace());
                keys.extend(services_of(&services, pod).map(|name| Key::new(key.namespace(), name)));
            }
        });
        keys
    }

    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        // The slices of a Service that is gone belong to the garbage collector.
        let Some(service) = self.services.get(&key) else { return Ok(Outcome::Done) };
        let spec = service.spec.clone().unwrap_or_default();
        let Some(selector) = spec.selector.filter(|selector| !selector.is_empty()) else {
            return Ok(Outcome::Done);
        };
        if spec.type_.as_deref() == Some("ExternalName") {
            return Ok(Outcome::Done);
        }
        let mut pods = self.pods.list_namespace(key.namespace());
        pods.retain(|pod| matches_labels(&selector, pod.metadata.labels.as_ref()));
        let mut slices = self.slices.by_index(BY_SERVICE, key.as_str());
        slices.retain(|slice| is_own(slice) && slice.metadata.deletion_timestamp.is_none());
        let node = |name: &str| -> Option<BTreeMap<String, String>> {
            self.nodes.get(&Key::cluster(name)).map(|node| node.labels().clone())
        };
        let plan = decide(&View { service: &service, pods: &pods, slices: &slices, node: &node });
        let api: Api<EndpointSlice> = namespaced(&self.context.client, key.namespace());
        let params = PostParams::default();
        for slice in &plan.create {
            match api.create(&params, slice).await {
                Ok(slice) => seen(&self.slices, &slice).await,
                Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
                Err(error) => return Err(self.failed(&service, error)),
            }
        }
        for slice in &plan.update {
            match api.replace(&slice.name_any(), &params, slice).await {
                Ok(slice) => seen(&self.slices, &slice).await,
                Err(error) => return Err(self.failed(&service, error)),
            }
        }
        for slice in &plan.delete {
            ignore_not_found(api.delete(&slice.name_any(), &DeleteParams::default()).await)?;
            gone(&self.slices, slice).await;
        }
        Ok(Outcome::Done)
    }

    fn failed(&self, service: &Service, error: kube::Error) -> kube::Error {
        if !matches!(ErrorKind::of(&error), ErrorKind::Conflict | ErrorKind::NotFound) {
            let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
            let text =
                format!("Error updating Endpoint Slices for Service {namespace}/{name}: {}", message(&error));
            self.context.recorder.warning(service, "FailedToUpdateEndpointSlices", text);
        }
        error
    }
}
