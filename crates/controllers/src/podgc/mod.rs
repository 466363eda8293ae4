//! Pod garbage collection: pods of nodes that are gone, pods deleted before they had a node, and finished pods
//! beyond a number.

use std::sync::Arc;
use std::time::Duration;

use client::write::{Part, ignore_not_found, namespaced, strategic};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::common::{BY_NODE, Context, is_finished, node_name, pod_node};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector-controller",
    service_account: "pod-garbage-collector",
    component: "pod-garbage-collector-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// A node must be gone for this long: one that registers anew keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(40);

async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    pods.add_index(BY_NODE, pod_node);
    nodes.synced().await;
    pods.synced().await;
    let queue = Queue::named("orphaned_pods_nodes");
    let (added, by_node) = (queue.clone(), pods.clone());
    let _nodes = nodes.on_change(move |change| {
        if change.new.is_none() {
            for pod in by_node.by_index(BY_NODE, change.key.name()) {
                added.add_after(Key::new(&pod.namespace().unwrap_or_default(), &pod.name_any()), QUARANTINE);
            }
        }
    });
    let (added, known) = (queue.clone(), nodes.clone());
    let (all, threshold) = (pods.clone(), context.config.terminated_pod_threshold);
    let _pods = pods.on_change(move |change| {
        let Some(pod) = change.new else { return };
        let node = node_name(pod);
        if node.is_empty() {
            if pod.metadata.deletion_timestamp.is_some() {
                added.add(change.key.clone());
            }
        } else if known.get(&Key::cluster(node)).is_none() {
            added.add_after(change.key.clone(), QUARANTINE);
        }
        if threshold > 0 && is_finished(pod) && all.len() > threshold {
            beyond(&all.list(), threshold).into_iter().for_each(|key| added.add(key));
        }
    });
    let reconcile = |key: Key| reconcile(&context, &nodes, &pods, key);
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

/// The oldest of the finished pods, as many as are too many.
fn beyond(pods: &[Arc<Pod>], threshold: usize) -> Vec<Key> {
    let mut finished: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_finished(pod)).collect();
    let surplus = finished.len().saturating_sub(threshold);
    finished.sort_by_key(|pod| {
        (pod.metadata.creation_timestamp.as_ref().map(|t| t.0), pod.metadata.name.clone())
    });
    let key = |pod: &&Arc<Pod>| Key::new(&pod.namespace().unwrap_or_default(), &pod.name_any());
    finished.iter().take(surplus).map(key).collect()
}

async fn reconcile(
    context: &Context,
    nodes: &Store<Node>,
    pods: &Store<Pod>,
    key: Key,
) -> Result<Outcome, kube::Error> {
    let Some(pod) = pods.get(&key) else { return Ok(Outcome::Done) };
    let node = node_name(&pod);
    let api: Api<Pod> = namespaced(&context.client, key.namespace());
    let unscheduled = node.is_empty() && pod.metadata.deletion_timestamp.is_some();
    let orphaned = !node.is_empty() && nodes.get(&Key::cluster(node)).is_none() && {
        let live: Api<Node> = Api::all(context.client.clone());
        live.get_opt(node).await?.is_none()
    };
    let surplus = {
        let threshold = context.config.terminated_pod_threshold;
        threshold > 0 && pods.len() > threshold && beyond(&pods.list(), threshold).contains(&key)
    };
    if !unscheduled && !orphaned && !surplus {
        return Ok(Outcome::Done);
    }
    if !is_finished(&pod) {
        let mut status = json!({"phase": "Failed"});
        if orphaned {
            status["conditions"] = json!([{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Time(Timestamp::now()),
                "observedGeneration": pod.metadata.generation,
            }]);
        }
        let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
        ignore_not_found(strategic(&api, key.name(), Part::Status, &body).await)?;
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default().grace_period(0)
    };
    ignore_not_found(api.delete(key.name(), &params).await)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::test::{at, pod};

    #[test]
    fn the_oldest_finished_go_first() {
        let make = |name: &str, age: i64, phase: &str| {
            let mut pod = pod(name, None, None);
            pod.metadata.creation_timestamp = Some(Time(at(age)));
            pod.status.as_mut().unwrap().phase = Some(phase.into());
            Arc::new(pod)
        };
        let pods = [
            make("a", 3, "Failed"),
            make("b", 1, "Succeeded"),
            make("c", 0, "Running"),
            make("d", 2, "Failed"),
        ];
        assert_eq!(beyond(&pods, 1), [Key::new("ns", "b"), Key::new("ns", "d")]);
        assert!(beyond(&pods, 3).is_empty());
    }
}
