//! Taint eviction: pods leave nodes whose `NoExecute` taints they do not, or no longer, tolerate.

use std::time::Duration;

use client::write::{Part, ignore_not_found, namespaced, strategic};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::common::{BY_NODE, Context, is_finished, node_name, pod_node, tolerates};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    service_account: "node-controller",
    component: "taint-eviction-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    pods.add_index(BY_NODE, pod_node);
    nodes.synced().await;
    pods.synced().await;
    let queue = Queue::named("noexec_taint_pod");
    let (added, by_node) = (queue.clone(), pods.clone());
    let _nodes = nodes.on_change(move |change| {
        let taints = |node: &Node| no_execute(node).cloned().collect::<Vec<_>>();
        let new = change.new.map(|node| taints(node)).unwrap_or_default();
        if change.old.map(|node| taints(node)).unwrap_or_default() != new {
            for pod in by_node.by_index(BY_NODE, change.key.name()) {
                added.add(Key::new(&pod.namespace().unwrap_or_default(), &pod.name_any()));
            }
        }
    });
    let (added, tainted) = (queue.clone(), nodes.clone());
    let _pods = pods.on_change(move |change| {
        let Some(pod) = change.new else { return };
        let node = tainted.get(&Key::cluster(node_name(pod)));
        if node.is_some_and(|node| no_execute(&node).next().is_some()) {
            added.add(change.key.clone());
        }
    });
    let reconcile = |key: Key| reconcile(&context, &nodes, &pods, key);
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute")
}

async fn reconcile(
    context: &Context,
    nodes: &Store<Node>,
    pods: &Store<Pod>,
    key: Key,
) -> Result<Outcome, kube::Error> {
    let Some(pod) = pods.get(&key) else { return Ok(Outcome::Done) };
    let Some(node) = nodes.get(&Key::cluster(node_name(&pod))) else { return Ok(Outcome::Done) };
    if pod.metadata.deletion_timestamp.is_some() || is_finished(&pod) {
        return Ok(Outcome::Done);
    }
    let taints: Vec<&Taint> = no_execute(&node).collect();
    match decide(&pod, &taints, Timestamp::now()) {
        Stay::ForEver => return Ok(Outcome::Done),
        Stay::For(time) => return Ok(Outcome::After(time)),
        Stay::NoLonger => {}
    }
    let text = format!("Marking for deletion Pod {key}");
    context.recorder.normal(&*pod, "TaintManagerEviction", text);
    let api: Api<Pod> = namespaced(&context.client, key.namespace());
    let body = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(Timestamp::now()), "observedGeneration": pod.metadata.generation,
        }]},
    });
    ignore_not_found(strategic(&api, key.name(), Part::Status, &body).await)?;
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..Default::default()
    };
    ignore_not_found(api.delete(key.name(), &params).await)?;
    Ok(Outcome::Done)
}

#[derive(Debug, PartialEq)]
enum Stay {
    ForEver,
    For(Duration),
    NoLonger,
}

fn decide(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Stay {
    let tolerations: Vec<&Toleration> =
        pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
    let mut earliest: Option<Timestamp> = None;
    for taint in taints {
        let matching: Vec<&&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if matching.is_empty() {
            return Stay::NoLonger;
        }
        // Of several tolerations the shortest counts; one without a time is for ever.
        let Some(seconds) = matching.iter().filter_map(|t| t.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let until = since + k8s_openapi::jiff::SignedDuration::from_secs(seconds.max(0));
        earliest = Some(earliest.map_or(until, |other| other.min(until)));
    }
    match earliest {
        None => Stay::ForEver,
        Some(until) if until <= now => Stay::NoLonger,
        Some(until) => Stay::For(until.duration_since(now).unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::test::{at, pod};

    fn stay(tolerations: serde_json::Value, second: i64) -> Stay {
        let mut pod = pod("p", None, Some(0));
        pod.spec.as_mut().unwrap().tolerations = serde_json::from_value(tolerations).unwrap();
        let taint = |key: &str| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            value: None,
            time_added: Some(Time(at(100))),
        };
        decide(&pod, &[&taint("a"), &taint("b")], at(second))
    }

    #[test]
    fn every_taint_must_be_tolerated_and_the_shortest_time_counts() {
        assert_eq!(stay(json!([]), 100), Stay::NoLonger);
        assert_eq!(stay(json!([{"key": "a", "operator": "Exists"}]), 100), Stay::NoLonger);
        assert_eq!(stay(json!([{"operator": "Exists"}]), 100), Stay::ForEver);
        let timed = json!([
            {"key": "a", "operator": "Exists", "tolerationSeconds": 300},
            {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
        ]);
        assert_eq!(stay(timed.clone(), 110), Stay::For(Duration::from_secs(50)));
        assert_eq!(stay(timed, 160), Stay::NoLonger);
    }
}
