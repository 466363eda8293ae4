//! Carries out what a ReplicaSet's decision says.

use std::sync::Arc;
use std::time::Duration;

use client::write::Part;
use client::write::{ErrorKind, ignore_not_found, merge, namespace_terminating, namespaced};
use client::{Change, Key, Outcome, Queue, Store, Subscription, run_workers};
use futures_util::FutureExt;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::decide::{Plan, View, decide, next_available, status};
use super::set::Set;
use crate::common::{
    BY_CONTROLLER, Context, controller_of, controller_ref, matches, message, orphans, owners, pod_controller,
    pod_from_template, seen,
};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    service_account: "replicaset-controller",
    component: "replicaset-controller",
    on_by_default: true,
    start: |context| run::<ReplicaSet>(context).boxed(),
};

pub(crate) const REPLICATION_CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    service_account: "replication-controller",
    component: "replication-controller",
    on_by_default: true,
    start: |context| run::<ReplicationController>(context).boxed(),
};

/// The index of ReplicaSets by their controller's uid.
const BY_OWNER: &str = "owner";

const BOUND: Duration = Duration::from_secs(60);

struct Worker<S: Set> {
    context: Context,
    sets: Store<S>,
    pods: Store<Pod>,
}

async fn run<S: Set>(context: Context) {
    let worker = Worker::<S> { sets: context.informers.of(), pods: context.informers.of(), context };
    worker.pods.add_index(BY_CONTROLLER, pod_controller);
    worker
        .sets
        .add_index(BY_OWNER, |set| controller_of(set.meta()).map(|o| o.uid.clone()).into_iter().collect());
    worker.sets.synced().await;
    worker.pods.synced().await;
    let queue = Queue::named(S::QUEUE);
    let _watching = worker.subscribe(&queue);
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl<S: Set> Worker<S> {
    fn subscribe(&self, queue: &Queue) -> [Subscription; 2] {
        let sets_queue = queue.clone();
        let sets = self.sets.on_change(move |change| sets_queue.add(change.key.clone()));
        let (pods_queue, sets_store) = (queue.clone(), self.sets.clone());
        let pods = self.pods.on_change(move |change| pod_changed(change, &sets_store, &pods_queue));
        [sets, pods]
    }

    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(object) = self.sets.get(&key) else { return Ok(Outcome::Done) };
        let set = object.as_set();
        let namespace = key.namespace();
        let mut pods = self.pods.by_index(BY_CONTROLLER, &set.uid().unwrap_or_default());
        pods.extend(self.pods.by_index(BY_CONTROLLER, &orphans(namespace)));
        let related = self.related(&set);
        let plan = decide(&View { set: &set, pods: &pods, related: &related }, Timestamp::now());
        let failure = self.apply(&object, &set, namespace, plan).await;
        if let Err(error) = &failure
            && namespace_terminating(error)
        {
            return Ok(Outcome::Done);
        }
        // The pods as they are after our own writes.
        let mut pods = self.pods.by_index(BY_CONTROLLER, &set.uid().unwrap_or_default());
        let failed = failure.as_ref().err().map(message);
        let now = Timestamp::now();
        if let Some(changed) = status(&set, &pods, failed.as_deref(), now).and_then(|s| object.with_status(s))
        {
            let api: Api<S> = namespaced(&self.context.client, namespace);
            let written = api.replace_status(key.name(), &PostParams::default(), &changed).await;
            if let Some(set) = ignore_not_found(written)? {
                seen(&self.sets, &set).await;
            }
        }
        failure?;
        pods.retain(|pod| {
            matches(&set.spec.clone().unwrap_or_default().selector, pod.metadata.labels.as_ref())
        });
        Ok(next_available(&set, &pods, now).map_or(Outcome::Done, Outcome::After))
    }

    /// Pods of all ReplicaSets with the same controller.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match controller_of(&set.metadata) {
            Some(owner) => self.sets.by_index(BY_OWNER, &owner.uid),
            None => {
                return self.pods.by_index(BY_CONTROLLER, set.metadata.uid.as_deref().unwrap_or_default());
            }
        };
        let uids = siblings.iter().filter_map(|sibling| sibling.meta().uid.clone());
        uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, &uid)).collect()
    }

    /// Everything in the plan as far as it goes; the first error.
    async fn apply(
        &self,
        object: &S,
        set: &ReplicaSet,
        namespace: &str,
        plan: Plan,
    ) -> Result<(), kube::Error> {
        let api: Api<Pod> = namespaced(&self.context.client, namespace);
        if !plan.adopt.is_empty() {
            self.may_adopt(object, namespace).await?;
        }
        for pod in &plan.adopt {
            let body = json!({"metadata": {"uid": pod.uid(), "ownerReferences": [controller_ref(object)]}});
            let adopted = client::write::strategic(&api, &pod.name_any(), Part::Main, &body).await;
            if let Some(pod) = ignore_not_found(adopted)? {
                seen(&self.pods, &pod).await;
            }
        }
        for pod in &plan.release {
            let kept: Vec<_> = pod
                .owner_references()
                .iter()
                .filter(|owner| Some(&owner.uid) != set.metadata.uid.as_ref())
                .collect();
            let body = json!({"metadata": {"uid": pod.uid(), "ownerReferences": kept}});
            let released = merge(&api, &pod.name_any(), Part::Main, &body).await;
            match released {
                Ok(pod) => seen(&self.pods, &pod).await,
                Err(error) if matches!(ErrorKind::of(&error), ErrorKind::NotFound | ErrorKind::Invalid) => {}
                Err(error) => return Err(error),
            }
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        if let Some(template) = template {
            let pod = pod_from_template(template, namespace, controller_ref(object));
            self.create(object, &pod, &api, plan.create).await?;
        }
        self.delete(object, &api, plan.delete).await
    }

    /// Adopting must not race with our own deletion: asks the server, not the cache.
    async fn may_adopt(&self, set: &S, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<S> = namespaced(&self.context.client, namespace);
        let fresh = api.get(&set.name_any()).await?;
        if fresh.meta().uid == set.meta().uid && fresh.meta().deletion_timestamp.is_none() {
            return Ok(());
        }
        let gone = format!("{} is being deleted or was replaced", set.name_any());
        Err(kube::Error::Api(kube::core::Status::failure(&gone, "Conflict").with_code(409).boxed()))
    }

    /// Makes pods in batches of one, two, four, …, so that what always fails fails once.
    async fn create(&self, set: &S, pod: &Pod, api: &Api<Pod>, count: usize) -> Result<(), kube::Error> {
        let (mut left, mut batch) = (count, 1);
        let mut last: Option<Pod> = None;
        let mut failure = None;
        while left > 0 && failure.is_none() {
            batch = batch.min(left);
            let params = PostParams::default();
            for created in join_all((0..batch).map(|_| api.create(&params, pod))).await {
                match created {
                    Ok(pod) => {
                        let text = format!("Created pod: {}", pod.name_any());
                        self.context.recorder.normal(set, "SuccessfulCreate", text);
                        last = Some(newer(last, pod));
                    }
                    Err(error) => {
                        if !namespace_terminating(&error) {
                            let text = format!("Error creating: {}", message(&error));
                            self.context.recorder.warning(set, "FailedCreate", text);
                        }
                        failure = Some(error);
                    }
                }
            }
            left -= batch;
            batch *= 2;
        }
        if let Some(pod) = last {
            seen(&self.pods, &pod).await;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, set: &S, api: &Api<Pod>, pods: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let deletions = pods.iter().map(|pod| async move {
            let name = pod.name_any();
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                ..Default::default()
            };
            match api.delete(&name, &params).await {
                Ok(_) => {
                    let text = format!("Deleted pod: {name}");
                    self.context.recorder.normal(set, "SuccessfulDelete", text);
                }
                Err(error) if matches!(ErrorKind::of(&error), ErrorKind::NotFound | ErrorKind::Conflict) => {}
                Err(error) => {
                    let text = format!("Error deleting: {}", message(&error));
                    self.context.recorder.warning(set, "FailedDelete", text);
                    return Err(error);
                }
            }
            let going = |now: Option<&Pod>| {
                now.is_none_or(|p| {
                    p.metadata.uid != pod.metadata.uid || p.metadata.deletion_timestamp.is_some()
                })
            };
            let key = Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &name);
            self.pods.wait_for(&key, BOUND, going).await;
            Ok(())
        });
        join_all(deletions).await.into_iter().collect()
    }
}

fn newer(a: Option<Pod>, b: Pod) -> Pod {
    let version = |pod: &Pod| pod.resource_version().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    match a {
        Some(a) if version(&a) >= version(&b) => a,
        _ => b,
    }
}

/// Adds the ReplicaSets that a pod's change concerns.
fn pod_changed<S: Set>(change: &Change<'_, Pod>, sets: &Store<S>, queue: &Queue) {
    owners::<S, _>(change).for_each(|key| queue.add(key));
    // A pod without controller may be taken in.
    let Some(pod) = change.new.filter(|pod| controller_of(&pod.metadata).is_none()) else { return };
    let same = change.old.is_some_and(|old| {
        old.metadata.labels == pod.metadata.labels && controller_of(&old.metadata).is_none()
    });
    if same || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    for set in sets.list_namespace(change.key.namespace()) {
        if set.covers(pod) {
            queue.add(Key::new(change.key.namespace(), &set.name_any()));
        }
    }
}
