//! Listens for signs of life, and writes conditions and taints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::events::Severity;
use client::write::{Part, ignore_not_found, strategic};
use client::{Key, Outcome, Queue, Source, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::decide::{condition, is_ready, taints, time_left, unknown};
use crate::common::{BY_NODE, Context, pod_node, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-lifecycle-controller",
    service_account: "node-controller",
    component: "node-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// The last sign of life of each node, by our own clock: nodes' clocks may be wrong.
#[derive(Default)]
struct Signs(Mutex<HashMap<String, Instant>>);

impl Signs {
    fn note(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), Instant::now());
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    fn last(&self, node: &str) -> Instant {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(node.to_owned())
            .or_insert_with(Instant::now)
    }
}

struct Worker {
    context: Context,
    nodes: Store<Node>,
    pods: Store<Pod>,
    signs: Arc<Signs>,
}

async fn run(context: Context) {
    let worker = Worker {
        nodes: context.informers.of(),
        pods: context.informers.of(),
        signs: Arc::default(),
        context,
    };
    let leases: Store<Lease> =
        worker.context.informers.watch(Source::of_namespace::<Lease>("kube-node-lease"));
    worker.pods.add_index(BY_NODE, pod_node);
    worker.nodes.synced().await;
    worker.pods.synced().await;
    leases.synced().await;
    let queue = Queue::named("node_lifecycle_controller");
    let signs = worker.signs.clone();
    let _leases = leases.on_change(move |change| {
        if change.new.is_some() {
            signs.note(change.key.name());
        }
    });
    let (added, signs, nodes) = (queue.clone(), worker.signs.clone(), worker.nodes.clone());
    let _nodes = worker.nodes.on_change(move |change| {
        let Some(new) = change.new else { return signs.forget(change.key.name()) };
        let heartbeat =
            |node: &Node| condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
        if change.old.is_none_or(|old| heartbeat(old) != heartbeat(new)) {
            signs.note(change.key.name());
        }
        // The first or last ready node changes what is done about all of them.
        if change.old.is_some_and(|old| is_ready(old) != is_ready(new)) {
            nodes.keys().into_iter().for_each(|key| added.add(key));
        }
        added.add(change.key.clone());
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(node) = self.nodes.get(&key) else { return Ok(Outcome::Done) };
        let silent = self.signs.last(key.name()).elapsed();
        let left = time_left(&node, silent, self.context.config.node_monitor_grace);
        let api: Api<Node> = Api::all(self.context.client.clone());
        if left.is_none()
            && let Some(conditions) = unknown(&node, Timestamp::now())
        {
            let was_ready = is_ready(&node);
            let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
            let written = api.patch_status(key.name(), &PatchParams::default(), &patch).await;
            let Some(written) = ignore_not_found(written)? else { return Ok(Outcome::Done) };
            seen(&self.nodes, &written).await;
            if was_ready {
                self.tell(&node);
                self.unready_pods(key.name()).await?;
            }
            return Ok(Outcome::Done);
        }
        let mut any_ready = false;
        self.nodes.for_each(|_, node| any_ready |= is_ready(node));
        if let Some(taints) = taints(&node, any_ready, Timestamp::now()) {
            // The whole list, and only if nobody else has changed the node.
            let body = json!({
                "metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints},
            });
            let written = api.patch(key.name(), &PatchParams::default(), &Patch::Merge(body)).await;
            if let Some(node) = ignore_not_found(written)? {
                seen(&self.nodes, &node).await;
            }
        }
        Ok(left.map_or(Outcome::Done, Outcome::After))
    }

    fn tell(&self, node: &Node) {
        let name = node.name_any();
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(name.clone()),
            uid: node.uid(),
            ..Default::default()
        };
        let text = format!("Node {name} status is now: NodeNotReady");
        self.context.recorder.event(about, Severity::Normal, "NodeNotReady", text);
    }

    /// Nobody knows whether its pods still answer: they count as not ready.
    async fn unready_pods(&self, node: &str) -> Result<(), kube::Error> {
        for pod in self.pods.by_index(BY_NODE, node).iter().filter(|pod| crate::common::is_ready(pod)) {
            let namespace = pod.namespace().unwrap_or_default();
            let api: Api<Pod> = client::write::namespaced(&self.context.client, &namespace);
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
            let body = json!({
                "metadata": {"uid": pod.uid()},
                "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]},
            });
            ignore_not_found(strategic(&api, &pod.name_any(), Part::Status, &body).await)?;
            self.context.recorder.warning(&**pod, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }
}
