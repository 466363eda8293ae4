//! NodeAffinity: node selector, required and preferred node affinity.

use std::sync::Arc;

use crate::framework::{Cycle, Happenings, Plugin, Reject, normalize};
use crate::node::NodeInfo;
use crate::select::{node_wanted, term_matches};

pub const PLUGIN: Plugin = Plugin {
    name: "NodeAffinity",
    filter: Some(filter),
    score: Some((score, 2)),
    helped_by: Happenings::NODE_ADDED.or(Happenings::NODE_LABELS).or(Happenings::OWN_UPDATE),
};

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    if node_wanted(&cycle.pod.pod, &node.node) {
        return Ok(());
    }
    Err(Reject::node("node(s) didn't match Pod's node affinity/selector"))
}

fn score(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let affinity = cycle.pod.pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let preferred = preferred.unwrap_or_default();
    let sum = |node: &Arc<NodeInfo>| {
        let met = preferred.iter().filter(|term| term_matches(&term.preference, &node.node));
        met.map(|term| i64::from(term.weight)).sum()
    };
    let mut scores: Vec<i64> = nodes.iter().map(sum).collect();
    normalize(&mut scores, false);
    scores
}
