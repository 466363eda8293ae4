//! PodTopologySpread: keeps the numbers of like pods in zones, hosts, … close to each other.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::{Cycle, Happenings, MOST, Plugin, Reject};
use crate::node::{NodeInfo, PodInfo, Snapshot};
use crate::objects::Pod;
use crate::select::{labels_match, node_wanted, tolerates};

pub const PLUGIN: Plugin = Plugin {
    name: "PodTopologySpread",
    filter: Some(filter),
    score: Some((score, 2)),
    helped_by: Happenings::NODE_ADDED
        .or(Happenings::NODE_LABELS)
        .or(Happenings::NODE_TAINTS)
        .or(Happenings::POD_GONE)
        .or(Happenings::POD_PLACED)
        .or(Happenings::POD_LABELS)
        .or(Happenings::OWN_UPDATE),
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The hard constraints with the numbers of pods in each of their domains.
pub struct State {
    hard: Vec<(Constraint, HashMap<String, i64>)>,
}

struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: i64,
    honor_affinity: bool,
    honor_taints: bool,
    like: Like,
}

/// Which pods count.
enum Like {
    Selected(Option<LabelSelector>),
    /// Pods of the same controller: for constraints that nobody wrote down.
    Owned(String),
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, pod: &Pod) -> Self {
        let mut selector = constraint.label_selector.clone();
        if let Some(selector) = &mut selector {
            for key in constraint.match_label_keys.iter().flatten() {
                if let Some(value) = pod.metadata.labels.get(key) {
                    selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
                }
            }
        }
        Self {
            key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            like: Like::Selected(selector),
        }
    }

    fn counts_pod(&self, pod: &Pod, namespace: &str) -> bool {
        pod.metadata.deletion_timestamp.is_none() && pod.metadata.namespace == namespace && self.is_like(pod)
    }

    fn is_like(&self, pod: &Pod) -> bool {
        match &self.like {
            Like::Selected(selector) => labels_match(selector.as_ref(), &pod.metadata.labels),
            Like::Owned(uid) => pod.controller().is_some_and(|owner| owner.uid == *uid),
        }
    }

    /// Nodes that the pod could not go to anyway may not count.
    fn counts_node(&self, pod: &Pod, node: &NodeInfo) -> bool {
        let taints = || {
            let hard =
                node.node.spec.taints.iter().filter(|t| t.effect == "NoSchedule" || t.effect == "NoExecute");
            hard.into_iter().all(|taint| tolerates(&pod.spec.tolerations, taint))
        };
        (!self.honor_affinity || node_wanted(pod, &node.node)) && (!self.honor_taints || taints())
    }

    fn count_on(&self, node: &NodeInfo, namespace: &str) -> i64 {
        node.pods.iter().filter(|pod| self.counts_pod(&pod.pod, namespace)).count() as i64
    }
}

fn constraints(pod: &Pod, action: &str) -> Vec<Constraint> {
    let all = pod.spec.topology_spread_constraints.iter();
    all.filter(|c| c.when_unsatisfiable == action).map(|c| Constraint::new(c, pod)).collect()
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot) -> State {
    let hard = constraints(&pod.pod, "DoNotSchedule");
    let mut counted: Vec<(Constraint, HashMap<String, i64>)> =
        hard.into_iter().map(|c| (c, HashMap::new())).collect();
    if counted.is_empty() {
        return State { hard: counted };
    }
    for node in &snapshot.nodes {
        if !counted.iter().all(|(c, _)| node.labels().contains_key(&c.key)) {
            continue;
        }
        for (constraint, counts) in &mut counted {
            if constraint.counts_node(&pod.pod, node) {
                let count = constraint.count_on(node, &pod.pod.metadata.namespace);
                *counts.entry(node.labels()[&constraint.key].clone()).or_default() += count;
            }
        }
    }
    State { hard: counted }
}

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    const REASON: &str = "node(s) didn't match pod topology spread constraints";
    for (constraint, counts) in &cycle.spread.hard {
        let Some(value) = node.labels().get(&constraint.key) else {
            return Err(Reject::node(format!("{REASON} (missing required label)")));
        };
        let enough = counts.len() as i64 >= constraint.min_domains;
        let least = if enough { counts.values().min().copied().unwrap_or(0) } else { 0 };
        let own = i64::from(constraint.is_like(&cycle.pod.pod));
        if counts.get(value).copied().unwrap_or(0) + own - least > constraint.max_skew {
            return Err(Reject::pods(REASON));
        }
    }
    Ok(())
}

fn score(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let pod = &cycle.pod.pod;
    let written = !pod.spec.topology_spread_constraints.is_empty();
    let soft = if written { constraints(pod, "ScheduleAnyway") } else { defaults(pod) };
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    let namespace = &pod.metadata.namespace;
    let complete = |node: &NodeInfo| !written || soft.iter().all(|c| node.labels().contains_key(&c.key));
    let mut raw: Vec<f64> = vec![0.0; nodes.len()];
    for constraint in &soft {
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for node in nodes.iter().filter(|node| complete(node)) {
            if let Some(value) = node.labels().get(&constraint.key) {
                counts.entry(value).or_default();
            }
        }
        let domains = counts.len();
        for node in cycle.snapshot.nodes.iter().filter(|n| complete(n) && constraint.counts_node(pod, n)) {
            if let Some(value) = node.labels().get(&constraint.key)
                && let Some(count) = counts.get_mut(value.as_str())
            {
                *count += constraint.count_on(node, namespace);
            }
        }
        // The more domains, the more a difference in one of them weighs.
        let weight = ((domains + 2) as f64).ln();
        for (node, raw) in nodes.iter().zip(&mut raw) {
            if let Some(value) = node.labels().get(&constraint.key) {
                let count = counts.get(value.as_str()).copied().unwrap_or(0);
                *raw += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
    }
    let scores: Vec<Option<i64>> =
        nodes.iter().zip(raw).map(|(node, raw)| complete(node).then(|| raw.round() as i64)).collect();
    let most = scores.iter().flatten().max().copied().unwrap_or(0);
    let least = scores.iter().flatten().min().copied().unwrap_or(0);
    let scale = |score: i64| if most == 0 { MOST } else { MOST * (most + least - score) / most };
    scores.into_iter().map(|score| score.map_or(0, scale)).collect()
}

/// Pods of one controller are spread over hosts and zones without being told.
fn defaults(pod: &Pod) -> Vec<Constraint> {
    let Some(owner) = pod.controller() else { return Vec::new() };
    let make = |key: &str, max_skew| Constraint {
        key: key.to_owned(),
        max_skew,
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
        like: Like::Owned(owner.uid.clone()),
    };
    vec![make(HOSTNAME, 3), make(ZONE, 5)]
}
