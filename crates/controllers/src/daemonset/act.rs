//! Carries out what a DaemonSet's decision says.

use std::sync::Arc;

use client::write::{ignore_not_found, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::decide::{Plan, View, decide, new_pod, status, target};
use crate::common::{
    BY_CONTROLLER, Context, PodControl, REVISION_LABEL, Revisions, available_in, owners, pod_controller,
    seen, template_hash,
};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    service_account: "daemon-set-controller",
    component: "daemonset-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

struct Worker {
    context: Context,
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
}

async fn run(context: Context) {
    let worker = Worker {
        sets: context.informers.of(),
        pods: context.informers.of(),
        nodes: context.informers.of(),
        revisions: context.informers.of(),
        context,
    };
    worker.pods.add_index(BY_CONTROLLER, pod_controller);
    worker.sets.synced().await;
    worker.pods.synced().await;
    worker.nodes.synced().await;
    worker.revisions.synced().await;
    let queue = Queue::named("daemonset");
    let added = queue.clone();
    let _sets = worker.sets.on_change(move |change| added.add(change.key.clone()));
    let added = queue.clone();
    let _pods =
        worker.pods.on_change(move |change| owners::<DaemonSet, _>(&change).for_each(|key| added.add(key)));
    let (added, sets) = (queue.clone(), worker.sets.clone());
    let _nodes = worker.nodes.on_change(move |change| {
        // Heartbeats change nothing here.
        let place = |node: &Arc<Node>| {
            (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone()))
        };
        if change.old.map(place) != change.new.map(place) {
            sets.keys().into_iter().for_each(|key| added.add(key));
        }
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(set) = self.sets.get(&key) else { return Ok(Outcome::Done) };
        let Some(spec) = &set.spec else { return Ok(Outcome::Done) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let kept = Revisions::keep(&self.context, &self.revisions, &*set, &spec.template, |data| {
            template_hash(&data["spec"]["template"], collisions)
        })
        .await;
        let revisions = match kept {
            Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
            kept => kept?,
        };
        let hash = revisions.hash();
        let (nodes, pods) = (self.nodes.list(), self.own(&set));
        let plan = decide(&View { set: &set, nodes: &nodes, pods: &pods, hash: &hash }, Timestamp::now());
        let acted = self.apply(&set, plan, &hash).await;
        let pods = self.own(&set);
        let view = View { set: &set, nodes: &nodes, pods: &pods, hash: &hash };
        if let Some(status) = status(&view, Timestamp::now()) {
            let mut set = (*set).clone();
            set.status = Some(status);
            let api: Api<DaemonSet> = namespaced(&self.context.client, key.namespace());
            let written = api.replace_status(key.name(), &PostParams::default(), &set).await;
            if let Some(set) = ignore_not_found(written)? {
                seen(&self.sets, &set).await;
            }
        }
        match acted {
            Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
            acted => acted?,
        }
        let limit = spec.revision_history_limit.unwrap_or(10).max(0) as usize;
        let in_use =
            |name: &str| pods.iter().any(|pod| pod.labels().get(REVISION_LABEL).is_some_and(|h| h == name));
        revisions.clean_up(&self.context, limit, in_use).await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let next = pods.iter().filter_map(|pod| available_in(pod, min_ready, Timestamp::now())).min();
        Ok(next.map_or(Outcome::Done, Outcome::After))
    }

    fn own(&self, set: &DaemonSet) -> Vec<Arc<Pod>> {
        self.pods.by_index(BY_CONTROLLER, set.metadata.uid.as_deref().unwrap_or_default())
    }

    async fn apply(&self, set: &DaemonSet, plan: Plan, hash: &str) -> Result<(), kube::Error> {
        let control = PodControl { context: &self.context, pods: &self.pods };
        for pod in &plan.failed {
            let (namespace, name, node) = (pod.namespace().unwrap_or_default(), pod.name_any(), target(pod));
            let (word, reason) = match crate::common::phase(pod) {
                "Succeeded" => ("succeeded", "SucceededDaemonPod"),
                _ => ("failed", "FailedDaemonPod"),
            };
            let text =
                format!("Found {word} daemon pod {namespace}/{name} on node {node}, will try to kill it");
            self.context.recorder.warning(set, reason, text);
        }
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let deleted = join_all(plan.delete.iter().map(|pod| control.delete(set, pod))).await;
        let (mut nodes, mut batch) = (plan.create.as_slice(), 1);
        while !nodes.is_empty() {
            let (now, later) = nodes.split_at(batch.min(nodes.len()));
            let made = now
                .iter()
                .map(|node| async move { control.create(set, namespace, &new_pod(set, node, hash)).await });
            join_all(made).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            (nodes, batch) = (later, batch * 2);
        }
        deleted.into_iter().collect()
    }
}
