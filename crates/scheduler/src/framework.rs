//! Plugins, and how one pod is taken through them.
//!
//! A filter says why a node cannot take the pod, a score how well it would. Each is a function over a [`Cycle`]:
//! the pod, the snapshot, and what plugins have worked out about both beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::node::{NodeInfo, PodInfo, Snapshot};
use crate::plugins::{self, interpod, spread};

/// The best score a node can have of one plugin.
pub const MOST: i64 = 100;

/// Why a node is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reasons: Vec<String>,
    /// Removing other pods may help.
    pub by_pods: bool,
}

impl Reject {
    /// Other pods are in the way.
    pub fn pods(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], by_pods: true }
    }

    /// The node itself does not suit.
    pub fn node(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], by_pods: false }
    }
}

/// What happens in the cluster that may let a waiting pod in; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happenings(pub u16);

impl Happenings {
    pub const NODE_ADDED: Self = Self(1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABELS: Self = Self(1 << 2);
    pub const NODE_TAINTS: Self = Self(1 << 3);
    /// A pod has left a node, or asks for less.
    pub const POD_GONE: Self = Self(1 << 4);
    /// A pod has come to a node.
    pub const POD_PLACED: Self = Self(1 << 5);
    pub const POD_LABELS: Self = Self(1 << 6);
    /// The waiting pod itself has changed.
    pub const OWN_UPDATE: Self = Self(1 << 7);
    pub const NAMESPACE: Self = Self(1 << 8);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

pub type Filter = fn(&Cycle<'_>, &NodeInfo) -> Result<(), Reject>;
/// Scores of the given nodes, in their order, each in `0..=100`.
pub type Score = fn(&Cycle<'_>, &[Arc<NodeInfo>]) -> Vec<i64>;

pub struct Plugin {
    pub name: &'static str,
    pub filter: Option<Filter>,
    pub score: Option<(Score, i64)>,
    /// What may make its filter let a pod pass that it has held back.
    pub helped_by: Happenings,
}

/// One pod's way through the plugins.
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub snapshot: &'a Snapshot,
    pub spread: spread::State,
    pub interpod: interpod::State,
}

/// Where a pod goes, or why nowhere.
#[derive(Debug)]
pub enum Verdict {
    Node(String),
    Nowhere(Refusals),
}

/// Every node's reason.
#[derive(Debug, Default)]
pub struct Refusals {
    pub nodes: usize,
    pub by_node: BTreeMap<String, Reject>,
    /// The plugins that held the pod back; bits by place in [`plugins::ALL`].
    pub plugins: u32,
}

impl Refusals {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had …`
    pub fn message(&self) -> String {
        summary(
            self.nodes,
            self.by_node.values().flat_map(|reject| reject.reasons.iter().map(String::as_str)),
        )
    }
}

/// The names of the plugins in `rejecting`.
pub fn names(rejecting: u32) -> Vec<&'static str> {
    let all = plugins::ALL.iter().enumerate();
    all.filter(|(n, _)| rejecting & (1 << n) != 0).map(|(_, plugin)| plugin.name).collect()
}

/// True if `happening` concerns one of the plugins that held a pod back; without any, everything may help.
pub fn helped_by(rejecting: u32, happening: Happenings) -> bool {
    if rejecting == 0 {
        return true;
    }
    let all = plugins::ALL.iter().enumerate();
    all.filter(|(n, _)| rejecting & (1 << n) != 0).any(|(_, plugin)| plugin.helped_by.meets(happening))
}

/// Counts equal reasons, as FailedScheduling messages show them.
pub fn summary<'a>(nodes: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    let mut text = format!("0/{nodes} nodes are available:");
    if !parts.is_empty() {
        text.push_str(&format!(" {}.", parts.join(", ")));
    }
    text
}

impl<'a> Cycle<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        Self {
            spread: spread::prepare(pod, snapshot),
            interpod: interpod::prepare(pod, snapshot),
            pod,
            snapshot,
        }
    }

    /// Runs all filters on one node; the first to refuse decides, and says its place in [`plugins::ALL`].
    pub fn filter(&self, node: &NodeInfo) -> Result<(), (usize, Reject)> {
        for (n, plugin) in plugins::ALL.iter().enumerate() {
            if let Some(filter) = plugin.filter {
                filter(self, node).map_err(|reject| (n, reject))?;
            }
        }
        Ok(())
    }

    /// The best of the nodes that pass. `start` is where to begin, so that many nodes get their turn; `chance` in
    /// `0.0..1.0` chooses among equals.
    pub fn decide(&self, start: usize, chance: f64) -> Verdict {
        let nodes = &self.snapshot.nodes;
        let wanted = feasible_wanted(nodes.len());
        let mut feasible = Vec::new();
        let mut refusals = Refusals { nodes: nodes.len(), ..Refusals::default() };
        for n in 0..nodes.len() {
            let node = &nodes[(start + n) % nodes.len()];
            match self.filter(node) {
                Ok(()) => feasible.push(node.clone()),
                Err((plugin, reject)) => {
                    refusals.plugins |= 1 << plugin;
                    refusals.by_node.insert(node.name().to_owned(), reject);
                }
            }
            if feasible.len() >= wanted {
                break;
            }
        }
        match feasible.len() {
            0 => Verdict::Nowhere(refusals),
            1 => Verdict::Node(feasible[0].name().to_owned()),
            _ => Verdict::Node(self.best(&feasible, chance)),
        }
    }

    /// The total score of each node.
    pub fn scores(&self, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
        let mut totals = vec![0; nodes.len()];
        for (score, weight) in plugins::ALL.iter().filter_map(|plugin| plugin.score) {
            for (total, score) in totals.iter_mut().zip(score(self, nodes)) {
                *total += score * weight;
            }
        }
        totals
    }

    fn best(&self, nodes: &[Arc<NodeInfo>], chance: f64) -> String {
        let scores = self.scores(nodes);
        let most = scores.iter().max().copied().unwrap_or(0);
        let best: Vec<&Arc<NodeInfo>> =
            nodes.iter().zip(&scores).filter(|(_, score)| **score == most).map(|(node, _)| node).collect();
        best[(chance * best.len() as f64) as usize % best.len()].name().to_owned()
    }
}

/// In large clusters a part of the nodes is enough to choose from.
fn feasible_wanted(nodes: usize) -> usize {
    const AT_LEAST: usize = 100;
    if nodes < AT_LEAST {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(AT_LEAST)
}

/// Scales so that the highest becomes [`MOST`]; `reverse` makes the lowest the best.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().max().copied().unwrap_or(0);
    for score in scores {
        *score = match (most, reverse) {
            (0, true) => MOST,
            (0, false) => *score,
            (_, true) => MOST - *score * MOST / most,
            (_, false) => *score * MOST / most,
        };
    }
}
