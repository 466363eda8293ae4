//! Watches budgets, pods and their owners, and writes budgets' statuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::write::{Part, ignore_not_found, namespaced, strategic};
use client::{Change, Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Resource};
use serde_json::json;

use super::decide::{Decision, View, covers, decide, stale_in};
use crate::common::{Context, controller_of, discover, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    service_account: "disruption-controller",
    component: "controllermanager",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Budget(Key),
    /// A pod that is marked as about to be disrupted.
    Marked(Key),
}

struct Worker {
    context: Context,
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    replica_sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    controllers: Store<ReplicationController>,
}

async fn run(context: Context) {
    let informers = context.informers.clone();
    let worker = Worker {
        budgets: informers.of(),
        pods: informers.of(),
        replica_sets: informers.of(),
        deployments: informers.of(),
        stateful_sets: informers.of(),
        controllers: informers.of(),
        context,
    };
    worker.budgets.synced().await;
    worker.pods.synced().await;
    worker.replica_sets.synced().await;
    worker.deployments.synced().await;
    worker.stateful_sets.synced().await;
    worker.controllers.synced().await;
    let queue = Queue::named("disruption");
    let added = queue.clone();
    let _budgets = worker.budgets.on_change(move |change| added.add(Item::Budget(change.key.clone())));
    let (added, budgets) = (queue.clone(), worker.budgets.clone());
    let _pods = worker.pods.on_change(move |change| pod_changed(change, &budgets, &added));
    // An owner that wants another number: its pods tell when they come or go, its budgets must know before.
    let owners = (
        owner_changed(&worker.deployments, &worker, &queue, |d| d.spec.as_ref().and_then(|s| s.replicas)),
        owner_changed(&worker.replica_sets, &worker, &queue, |r| r.spec.as_ref().and_then(|s| s.replicas)),
        owner_changed(&worker.stateful_sets, &worker, &queue, |s| s.spec.as_ref().and_then(|s| s.replicas)),
        owner_changed(&worker.controllers, &worker, &queue, |c| c.spec.as_ref().and_then(|s| s.replicas)),
    );
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |item| worker.reconcile(item)).await;
    drop(owners);
}

fn owner_changed<K: client::Cached>(
    store: &Store<K>,
    worker: &Worker,
    queue: &Queue<Item>,
    replicas: fn(&K) -> Option<i32>,
) -> client::Subscription {
    let (budgets, queue) = (worker.budgets.clone(), queue.clone());
    store.on_change(move |change| {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && replicas(old) != replicas(new)
        {
            for budget in budgets.list_namespace(change.key.namespace()) {
                queue.add(Item::Budget(client::Cached::key(&*budget)));
            }
        }
    })
}

/// Adds the budgets that cover the pod as it was or is.
fn pod_changed(change: &Change<'_, Pod>, budgets: &Store<PodDisruptionBudget>, queue: &Queue<Item>) {
    for budget in budgets.list_namespace(change.key.namespace()) {
        if [change.old, change.new].into_iter().flatten().any(|pod| covers(&budget, pod)) {
            queue.add(Item::Budget(client::Cached::key(&*budget)));
        }
    }
    if let Some(left) = change.new.and_then(|pod| stale_in(pod, Timestamp::now())) {
        queue.add_after(Item::Marked(change.key.clone()), left.try_into().unwrap_or(Duration::ZERO));
    }
}

impl Worker {
    async fn reconcile(&self, item: Item) -> Result<Outcome, kube::Error> {
        match item {
            Item::Budget(key) => self.budget(&key).await,
            Item::Marked(key) => self.unmark(&key).await,
        }
    }

    async fn budget(&self, key: &Key) -> Result<Outcome, kube::Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.list_namespace(key.namespace());
        pods.retain(|pod| covers(&budget, pod));
        let recorder = &self.context.recorder;
        if pods.is_empty() {
            recorder.normal(&*budget, "NoPods", "No matching pods found");
        }
        let scales = self.scales(key.namespace(), &pods).await;
        let view = View { budget: &budget, pods: &pods, scales: &scales };
        let Decision { status, again, unmanaged, failure } = decide(&view, Timestamp::now());
        if let Some(failure) = &failure {
            let text = format!("Failed to calculate the number of expected pods: {failure}");
            recorder.warning(&*budget, "CalculateExpectedPodCountFailed", text);
        }
        if unmanaged {
            let text = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status \
                of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
                these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
            recorder.warning(&*budget, "UnmanagedPods", text);
        }
        if budget.status.as_ref() != Some(&status) {
            let budget = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
            let api: Api<PodDisruptionBudget> = namespaced(&self.context.client, key.namespace());
            // A conflict means that the server has let an eviction through meanwhile: its count must not be lost.
            let written = api.replace_status(key.name(), &PostParams::default(), &budget).await;
            if let Some(budget) = ignore_not_found(written)? {
                seen(&self.budgets, &budget).await;
            }
        }
        Ok(again.map_or(Outcome::Done, Outcome::After))
    }

    /// How many pods each of the pods' controllers wants, as far as anybody knows.
    async fn scales(&self, namespace: &str, pods: &[Arc<Pod>]) -> HashMap<String, Result<i32, String>> {
        let mut scales = HashMap::new();
        for owner in pods.iter().filter_map(|pod| controller_of(&pod.metadata)) {
            if scales.contains_key(&owner.uid) {
                continue;
            }
            if let Some(scale) = self.scale(namespace, owner).await.transpose() {
                scales.insert(owner.uid.clone(), scale);
            }
        }
        scales
    }

    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<i32>, String> {
        let key = Key::new(namespace, &owner.name);
        let same = |uid: Option<&String>| uid == Some(&owner.uid);
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        Ok(match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self.replica_sets.get(&key).filter(|set| same(set.meta().uid.as_ref()))
                else {
                    return Ok(None);
                };
                match controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
                    // While it rolls out, several sets have pods; the Deployment's number is what is wanted.
                    Some(owner) => self
                        .deployments
                        .get(&Key::new(namespace, &owner.name))
                        .filter(|deployment| deployment.meta().uid.as_ref() == Some(&owner.uid))
                        .and_then(|deployment| deployment.spec.as_ref()?.replicas),
                    None => set.spec.as_ref().and_then(|spec| spec.replicas),
                }
            }
            ("apps", "StatefulSet") => {
                let set = self.stateful_sets.get(&key).filter(|set| same(set.meta().uid.as_ref()));
                set.and_then(|set| set.spec.as_ref()?.replicas)
            }
            ("", "ReplicationController") => {
                let controller = self.controllers.get(&key).filter(|c| same(c.meta().uid.as_ref()));
                controller.and_then(|controller| controller.spec.as_ref()?.replicas)
            }
            _ => return self.scale_subresource(namespace, owner).await,
        })
    }

    /// Any other kind: what its scale says.
    async fn scale_subresource(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<i32>, String> {
        let client = &self.context.client;
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let found = discover(client).await.map_err(|error| error.to_string())?;
        let resource = found.resources.iter().find(|r| r.group == group && r.kind == owner.kind);
        let Some(resource) = resource else { return Ok(None) };
        let kind = GroupVersionKind::gvk(group, version, &owner.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &resource.plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        match api.get_scale(&owner.name).await {
            Ok(scale) => Ok(scale.spec.and_then(|spec| spec.replicas)),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(format!("{}.{group} does not implement the scale subresource", resource.plural))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// A pod that was to be disrupted and was not: the mark is taken back.
    async fn unmark(&self, key: &Key) -> Result<Outcome, kube::Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Outcome::Done) };
        match stale_in(&pod, Timestamp::now()) {
            None => return Ok(Outcome::Done),
            Some(left) if left.is_positive() => {
                return Ok(Outcome::After(left.try_into().unwrap_or(Duration::ZERO)));
            }
            Some(_) => {}
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({"type": "DisruptionTarget", "status": "False", "lastTransitionTime": now});
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = namespaced(&self.context.client, key.namespace());
        let written = strategic(&api, key.name(), Part::Status, &body).await;
        if let Some(pod) = ignore_not_found(written)? {
            seen(&self.pods, &pod).await;
        }
        Ok(Outcome::Done)
    }
}
