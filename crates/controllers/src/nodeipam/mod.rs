//! Node IPAM: every node gets a part of the cluster's pod ranges (`spec.podCIDR`, `spec.podCIDRs`), one per family.

mod decide;
#[cfg(test)]
mod tests;

use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::common::{Context, seen};
use crate::table::Controller;
use decide::{Range, part_for};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    service_account: "node-controller",
    component: "cidrAllocator",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let masks = context.config.node_cidr_masks;
    let ranges: Vec<Range> =
        context.config.cluster_cidrs.iter().filter_map(|text| Range::parse(text, masks)).collect();
    if ranges.len() < context.config.cluster_cidrs.len() {
        tracing::error!(ranges = ?context.config.cluster_cidrs, "a pod range is not usable; nodes get none of it");
    }
    if ranges.is_empty() {
        return;
    }
    let nodes = context.informers.of::<Node>();
    nodes.synced().await;
    let queue = Queue::named("node_ipam");
    let added = queue.clone();
    let _nodes = nodes.on_change(move |change| {
        if change.new.is_some_and(|node| node.spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none())) {
            added.add(change.key.clone());
        }
    });
    let api: Api<Node> = Api::all(context.client.clone());
    let reconcile = |key: Key| {
        let (nodes, ranges, api, recorder) = (&nodes, &ranges, &api, &context.recorder);
        async move {
            let Some(node) = nodes.get(&key) else { return Ok(Outcome::Done) };
            if node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some()) {
                return Ok(Outcome::Done);
            }
            let taken: Vec<String> = nodes
                .list()
                .iter()
                .filter_map(|node| node.spec.as_ref()?.pod_cidrs.clone())
                .flatten()
                .collect();
            let Some(parts) = part_for(ranges, &taken) else {
                let message = "Node CIDR allocation failed: the pod ranges are used up";
                recorder.warning(&*node, "CIDRNotAvailable", message);
                return Ok(Outcome::Done);
            };
            // The version makes sure that nobody else has given it a part meanwhile.
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"podCIDR": parts[0], "podCIDRs": parts},
            });
            let written = api.patch(key.name(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            seen(nodes, &written).await;
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    // One at a time: a part is free only as long as nobody else takes it.
    run_workers(&queue, 1, &context.shutdown, reconcile).await;
}
