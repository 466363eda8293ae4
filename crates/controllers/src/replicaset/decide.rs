//! Which pods a ReplicaSet takes, makes and gives up, and its status.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::common::{
    available_in, is_active, is_available, is_controlled_by, is_finished, is_ready, is_terminating, matches,
    matches_labels, node_name, nonzero, phase, restarts,
};

/// The most pods made or deleted in one go.
const BURST: usize = 500;

/// What a decision is made from.
pub(super) struct View<'a> {
    pub set: &'a ReplicaSet,
    /// The set's own pods and the namespace's pods without controller.
    pub pods: &'a [Arc<Pod>],
    /// All pods of the ReplicaSets with the same controller: pods go first from where many of them are.
    pub related: &'a [Arc<Pod>],
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub adopt: Vec<Arc<Pod>>,
    pub release: Vec<Arc<Pod>>,
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
}

impl Plan {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn decide(view: &View<'_>, now: Timestamp) -> Plan {
    let View { set, pods, related } = view;
    let Some(spec) = &set.spec else { return Plan::default() };
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let mut plan = Plan::default();
    let mut active = Vec::new();
    for pod in pods.iter().filter(|pod| is_active(pod)) {
        let selected = matches(&spec.selector, pod.metadata.labels.as_ref());
        match (is_controlled_by(&pod.metadata, uid), selected) {
            (true, true) => active.push(pod.clone()),
            (true, false) => plan.release.push(pod.clone()),
            (false, true) if set.metadata.deletion_timestamp.is_none() => {
                active.push(pod.clone());
                plan.adopt.push(pod.clone());
            }
            (false, _) => {}
        }
    }
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let wanted = spec.replicas.unwrap_or(1).max(0) as usize;
    if active.len() < wanted {
        plan.create = (wanted - active.len()).min(BURST);
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        if surplus < active.len() {
            let mut crowd: HashMap<&str, usize> = HashMap::new();
            for pod in related.iter().filter(|pod| is_active(pod)) {
                *crowd.entry(node_name(pod)).or_default() += 1;
            }
            let rank = |pod: &Pod| crowd.get(node_name(pod)).copied().unwrap_or(0);
            active.sort_by(|a, b| less_missed(a, b, rank(a), rank(b), now));
        }
        active.truncate(surplus);
        plan.delete = active;
    }
    plan
}

/// Orders pods so that the ones least missed come first.
pub(crate) fn less_missed(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let unassigned_first = |pod: &Pod| !node_name(pod).is_empty();
    let phase_rank = |pod: &Pod| match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| -> i32 {
        let annotations = pod.metadata.annotations.as_ref();
        annotations
            .and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    unassigned_first(a)
        .cmp(&unassigned_first(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| {
            // The shorter a pod has been ready the less it is missed; on a logarithmic scale, so that pods of
            // about the same age are told apart by nothing but chance.
            if is_ready(a) && is_ready(b) {
                log_age(ready_since(a), now).cmp(&log_age(ready_since(b), now))
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| {
            let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
            log_age(created(a), now).cmp(&log_age(created(b), now))
        })
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    crate::common::condition(pod, "Ready")?.last_transition_time.as_ref().map(|t| t.0)
}

/// The number of binary digits of an age in nanoseconds; what has no time is youngest.
fn log_age(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let nanos = since.map_or(0, |since| now.duration_since(since).as_nanos().max(0));
    128 - (nanos as u128).leading_zeros()
}

/// The status that follows from the pods, and from how acting on them went. None if it is what it was.
pub(super) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&str>,
    now: Timestamp,
) -> Option<ReplicaSetStatus> {
    let spec = set.spec.as_ref()?;
    let old = set.status.clone().unwrap_or_default();
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec
        .template
        .as_ref()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
    let (mut total, mut labelled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    for pod in pods {
        let own =
            is_controlled_by(&pod.metadata, uid) && matches(&spec.selector, pod.metadata.labels.as_ref());
        if !own || is_finished(pod) {
            continue;
        }
        if is_terminating(pod) {
            terminating += 1;
            continue;
        }
        total += 1;
        labelled += i32::from(matches_labels(&template_labels, pod.metadata.labels.as_ref()));
        ready += i32::from(is_ready(pod));
        available += i32::from(is_available(pod, min_ready, now));
    }
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let failed_before = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some(message) if !failed_before => {
            let short = total < spec.replicas.unwrap_or(1);
            conditions.push(ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                last_transition_time: Some(Time(now)),
                reason: Some(if short { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(message.to_owned()),
            });
        }
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(_) => {}
    }
    let new = ReplicaSetStatus {
        replicas: total,
        fully_labeled_replicas: nonzero(labelled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    };
    (!same(&old, &new)).then_some(new)
}

fn same(old: &ReplicaSetStatus, new: &ReplicaSetStatus) -> bool {
    let counts = |s: &ReplicaSetStatus| {
        [
            Some(s.replicas),
            Some(s.fully_labeled_replicas.unwrap_or(0)),
            Some(s.ready_replicas.unwrap_or(0)),
            Some(s.available_replicas.unwrap_or(0)),
            s.terminating_replicas,
        ]
    };
    let conditions = |s: &ReplicaSetStatus| s.conditions.clone().unwrap_or_default();
    counts(old) == counts(new)
        && old.observed_generation.unwrap_or(0) == new.observed_generation.unwrap_or(0)
        && conditions(old) == conditions(new)
}

/// When the next of the pods becomes available by mere passing of time.
pub(super) fn next_available(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref()?.min_ready_seconds.unwrap_or(0);
    pods.iter().filter(|pod| is_active(pod)).filter_map(|pod| available_in(pod, min_ready, now)).min()
}
