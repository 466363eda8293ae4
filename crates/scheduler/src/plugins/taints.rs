//! TaintToleration: out with a taint that is not tolerated, better with fewer that would rather not.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;

use crate::framework::{Cycle, Happenings, Plugin, Reject, normalize};
use crate::node::NodeInfo;
use crate::select::tolerates;

pub const PLUGIN: Plugin = Plugin {
    name: "TaintToleration",
    filter: Some(filter),
    score: Some((score, 3)),
    helped_by: Happenings::NODE_ADDED.or(Happenings::NODE_TAINTS).or(Happenings::OWN_UPDATE),
};

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    let tolerations = &cycle.pod.pod.spec.tolerations;
    let hard =
        node.node.spec.taints.iter().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
    if hard.into_iter().all(|taint| tolerates(tolerations, taint)) {
        return Ok(());
    }
    Err(Reject::node("node(s) had untolerated taint(s)"))
}

fn score(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let soft = |t: &Toleration| t.effect.as_deref().is_none_or(|e| e.is_empty() || e == "PreferNoSchedule");
    let tolerations: Vec<Toleration> =
        cycle.pod.pod.spec.tolerations.iter().filter(|t| soft(t)).cloned().collect();
    let count = |node: &Arc<NodeInfo>| {
        let taints = node.node.spec.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        taints.filter(|taint| !tolerates(&tolerations, taint)).count() as i64
    };
    let mut scores: Vec<i64> = nodes.iter().map(count).collect();
    normalize(&mut scores, true);
    scores
}
