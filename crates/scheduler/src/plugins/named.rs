//! NodeUnschedulable and NodeName.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Cycle, Happenings, Plugin, Reject};
use crate::node::NodeInfo;
use crate::select::tolerates;

pub const UNSCHEDULABLE: Plugin = Plugin {
    name: "NodeUnschedulable",
    filter: Some(unschedulable),
    score: None,
    helped_by: Happenings::NODE_ADDED.or(Happenings::NODE_TAINTS).or(Happenings::OWN_UPDATE),
};

pub const NODE_NAME: Plugin =
    Plugin { name: "NodeName", filter: Some(node_name), score: None, helped_by: Happenings::NODE_ADDED };

fn unschedulable(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    if !node.node.spec.unschedulable {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Default::default()
    };
    if tolerates(&cycle.pod.pod.spec.tolerations, &taint) {
        return Ok(());
    }
    Err(Reject::node("node(s) were unschedulable"))
}

fn node_name(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    let wanted = &cycle.pod.pod.spec.node_name;
    if wanted.is_empty() || wanted == node.name() {
        return Ok(());
    }
    Err(Reject::node("node(s) didn't match the requested node name"))
}
