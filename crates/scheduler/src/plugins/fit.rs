//! NodeResourcesFit (least allocated) and NodeResourcesBalancedAllocation.

use std::sync::Arc;

use crate::framework::{Cycle, Happenings, MOST, Plugin, Reject};
use crate::node::NodeInfo;

pub const PLUGIN: Plugin = Plugin {
    name: "NodeResourcesFit",
    filter: Some(filter),
    score: Some((least_allocated, 1)),
    helped_by: Happenings::NODE_ADDED
        .or(Happenings::NODE_ALLOCATABLE)
        .or(Happenings::POD_GONE)
        .or(Happenings::OWN_UPDATE),
};

pub const BALANCED: Plugin = Plugin {
    name: "NodeResourcesBalancedAllocation",
    filter: None,
    score: Some((balanced, 1)),
    helped_by: Happenings(0),
};

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    let wanted = &cycle.pod.requests;
    let mut reject = Reject { reasons: Vec::new(), by_pods: true };
    if node.pods.len() as i64 + 1 > node.pod_limit {
        reject.reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wanted: i64, allocatable: i64, taken: i64| {
        if wanted > 0 && wanted > allocatable - taken {
            reject.reasons.push(format!("Insufficient {name}"));
            // More than the whole node: no pod's leaving helps.
            reject.by_pods &= wanted <= allocatable;
        }
    };
    let (has, taken) = (&node.allocatable, &node.requested);
    check("cpu", wanted.cpu, has.cpu, taken.cpu);
    check("memory", wanted.memory, has.memory, taken.memory);
    check("ephemeral-storage", wanted.storage, has.storage, taken.storage);
    for (name, amount) in &wanted.other {
        let of = |amounts: &crate::resources::Amounts| amounts.other.get(name).copied().unwrap_or(0);
        check(name, *amount, of(has), of(taken));
    }
    if reject.reasons.is_empty() { Ok(()) } else { Err(reject) }
}

fn least_allocated(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let wanted = &cycle.pod.nonzero;
    let free = |has: i64, taken: i64| {
        if has == 0 {
            None
        } else if taken > has {
            Some(0)
        } else {
            Some((has - taken) * MOST / has)
        }
    };
    nodes
        .iter()
        .map(|node| {
            let cpu = free(node.allocatable.cpu, node.nonzero.cpu + wanted.cpu);
            let memory = free(node.allocatable.memory, node.nonzero.memory + wanted.memory);
            let known: Vec<i64> = [cpu, memory].into_iter().flatten().collect();
            if known.is_empty() { 0 } else { known.iter().sum::<i64>() / known.len() as i64 }
        })
        .collect()
}

/// How much the pod would bring CPU and memory of the node nearer to being used alike.
fn balanced(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let wanted = &cycle.pod.requests;
    if wanted.cpu == 0 && wanted.memory == 0 {
        return vec![0; nodes.len()];
    }
    nodes
        .iter()
        .map(|node| {
            let (has, taken) = (&node.allocatable, &node.requested);
            let with =
                evenness([(taken.cpu + wanted.cpu, has.cpu), (taken.memory + wanted.memory, has.memory)]);
            let without = evenness([(taken.cpu, has.cpu), (taken.memory, has.memory)]);
            MOST / 2 + (MOST / 2 + with - without) / 2
        })
        .collect()
}

fn evenness(used: [(i64, i64); 2]) -> i64 {
    let shares: Vec<f64> = used
        .iter()
        .filter(|(_, has)| *has != 0)
        .map(|(taken, has)| (*taken as f64 / *has as f64).min(1.0))
        .collect();
    let deviation = if let [a, b] = shares[..] { ((a - b) / 2.0).abs() } else { 0.0 };
    ((1.0 - deviation) * MOST as f64) as i64
}
