//! InterPodAffinity: near some pods, away from others.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodAffinityTerm;

use crate::framework::{Cycle, Happenings, MOST, Plugin, Reject};
use crate::node::{NodeInfo, PodInfo, Snapshot};
use crate::objects::{Labels, Pod};
use crate::select::labels_match;

pub const PLUGIN: Plugin = Plugin {
    name: "InterPodAffinity",
    filter: Some(filter),
    score: Some((score, 2)),
    helped_by: Happenings::NODE_ADDED
        .or(Happenings::NODE_LABELS)
        .or(Happenings::POD_GONE)
        .or(Happenings::POD_PLACED)
        .or(Happenings::POD_LABELS)
        .or(Happenings::OWN_UPDATE)
        .or(Happenings::NAMESPACE),
};

/// What an existing pod's required affinity adds to a node's score.
const HARD_WEIGHT: i64 = 1;

/// Numbers of pods by topology key and value.
type Counts = HashMap<(String, String), i64>;

#[derive(Default)]
pub struct State {
    /// Pods there that want to be away from this one.
    repelling: Counts,
    affinity: Counts,
    anti_affinity: Counts,
}

/// Does `pod` fall under a term of a pod in `owner_namespace`?
fn matches(
    term: &PodAffinityTerm,
    owner: &Pod,
    pod: &Pod,
    namespaces: &dyn Fn(&str) -> Option<Labels>,
) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let own = listed.is_empty() && term.namespace_selector.is_none();
    let in_namespace = if own {
        pod.metadata.namespace == owner.metadata.namespace
    } else {
        listed.contains(&pod.metadata.namespace)
            || term.namespace_selector.as_ref().is_some_and(|selector| {
                labels_match(Some(selector), &namespaces(&pod.metadata.namespace).unwrap_or_default())
            })
    };
    in_namespace && selected(term, pod)
}

/// `matchLabelKeys` and `mismatchLabelKeys` have been merged into the selector when the pod was created.
fn selected(term: &PodAffinityTerm, pod: &Pod) -> bool {
    labels_match(term.label_selector.as_ref(), &pod.metadata.labels)
}

fn place(term: &PodAffinityTerm, node: &NodeInfo) -> Option<(String, String)> {
    let value = node.labels().get(&term.topology_key)?;
    Some((term.topology_key.clone(), value.clone()))
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot) -> State {
    let mut state = State::default();
    let namespaces = |name: &str| snapshot.namespaces.get(name).cloned();
    for node in snapshot.nodes.iter().filter(|node| node.with_affinity > 0) {
        for existing in &node.pods {
            for term in existing.required_anti_affinity() {
                if matches(term, &existing.pod, &pod.pod, &namespaces)
                    && let Some(place) = place(term, node)
                {
                    *state.repelling.entry(place).or_default() += 1;
                }
            }
        }
    }
    let (near, away) = (pod.required_affinity(), pod.required_anti_affinity());
    if near.is_empty() && away.is_empty() {
        return state;
    }
    for node in &snapshot.nodes {
        for existing in &node.pods {
            // Affinity counts pods that satisfy all the terms at once.
            if !near.is_empty() && near.iter().all(|term| matches(term, &pod.pod, &existing.pod, &namespaces))
            {
                for place in near.iter().filter_map(|term| place(term, node)) {
                    *state.affinity.entry(place).or_default() += 1;
                }
            }
            for term in away.iter().filter(|term| matches(term, &pod.pod, &existing.pod, &namespaces)) {
                if let Some(place) = place(term, node) {
                    *state.anti_affinity.entry(place).or_default() += 1;
                }
            }
        }
    }
    state
}

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    let (state, pod) = (&cycle.interpod, cycle.pod);
    let has = |counts: &Counts, place: Option<(String, String)>| {
        place.is_some_and(|p| counts.get(&p).is_some_and(|n| *n > 0))
    };
    let near = pod.required_affinity();
    if !near.is_empty() {
        let places = near.iter().all(|term| node.labels().contains_key(&term.topology_key));
        let company = near.iter().all(|term| has(&state.affinity, place(term, node)));
        // The first of a group that wants to be near itself may go anywhere.
        let namespaces = |name: &str| cycle.snapshot.namespaces.get(name).cloned();
        let first = || {
            state.affinity.is_empty()
                && near.iter().all(|term| matches(term, &pod.pod, &pod.pod, &namespaces))
        };
        if !places || !(company || first()) {
            return Err(Reject::node("node(s) didn't match pod affinity rules"));
        }
    }
    if pod.required_anti_affinity().iter().any(|term| has(&state.anti_affinity, place(term, node))) {
        return Err(Reject::pods("node(s) didn't match pod anti-affinity rules"));
    }
    let repelled = !state.repelling.is_empty()
        && state.repelling.keys().any(|(key, value)| node.labels().get(key) == Some(value));
    if repelled {
        return Err(Reject::pods("node(s) didn't satisfy existing pods anti-affinity rules"));
    }
    Ok(())
}

fn score(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let (pod, snapshot) = (cycle.pod, cycle.snapshot);
    let namespaces = |name: &str| snapshot.namespaces.get(name).cloned();
    let own = !pod.preferred_affinity().is_empty() || !pod.preferred_anti_affinity().is_empty();
    let mut sums: Counts = HashMap::new();
    for node in snapshot.nodes.iter().filter(|node| own || node.with_affinity > 0) {
        let mut add = |term: &PodAffinityTerm, weight: i64| {
            if let Some(place) = place(term, node) {
                *sums.entry(place).or_default() += weight;
            }
        };
        for existing in node.pods.iter().filter(|existing| own || existing.has_affinity()) {
            for (terms, sign) in [(pod.preferred_affinity(), 1), (pod.preferred_anti_affinity(), -1)] {
                for term in terms {
                    if matches(&term.pod_affinity_term, &pod.pod, &existing.pod, &namespaces) {
                        add(&term.pod_affinity_term, sign * i64::from(term.weight));
                    }
                }
            }
            for term in existing.required_affinity() {
                if matches(term, &existing.pod, &pod.pod, &namespaces) {
                    add(term, HARD_WEIGHT);
                }
            }
            for (terms, sign) in
                [(existing.preferred_affinity(), 1), (existing.preferred_anti_affinity(), -1)]
            {
                for term in terms {
                    if matches(&term.pod_affinity_term, &existing.pod, &pod.pod, &namespaces) {
                        add(&term.pod_affinity_term, sign * i64::from(term.weight));
                    }
                }
            }
        }
    }
    if sums.is_empty() {
        return vec![0; nodes.len()];
    }
    let sum = |node: &Arc<NodeInfo>| -> i64 {
        let here = sums.iter().filter(|((key, value), _)| node.labels().get(key) == Some(value));
        here.map(|(_, sum)| *sum).sum()
    };
    let raw: Vec<i64> = nodes.iter().map(sum).collect();
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    let scale = |score: i64| if most == least { 0 } else { MOST * (score - least) / (most - least) };
    raw.into_iter().map(scale).collect()
}
