//! What happens next to the pods of a StatefulSet, and its status.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use super::identity::{ordinal, revision};
use crate::common::{is_available, is_finished, is_ready, nonzero, scaled_up};

pub(super) struct View<'a> {
    pub set: &'a StatefulSet,
    /// The set's own pods.
    pub pods: &'a [Arc<Pod>],
    /// The name of the present template's revision.
    pub update: &'a str,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Make the pod of that ordinal, and its claims, of the revision of that name.
    Create(i32, String),
    Delete(Arc<Pod>),
}

/// The revision that all pods were of when the last update was complete.
pub(super) fn current_revision<'a>(view: &'a View<'_>) -> &'a str {
    let status = view.set.status.as_ref();
    status.and_then(|s| s.current_revision.as_deref()).filter(|name| !name.is_empty()).unwrap_or(view.update)
}

/// First ordinal, replicas, and whether one waits for the other.
fn shape(set: &StatefulSet) -> (i32, i32, bool) {
    let spec = set.spec.clone().unwrap_or_default();
    let start = spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
    (start, spec.replicas.unwrap_or(1), spec.pod_management_policy.as_deref() != Some("Parallel"))
}

/// The steps that can be taken now; in order, and none that waits for another.
pub(super) fn decide(view: &View<'_>, now: Timestamp) -> Vec<Step> {
    let set = view.set;
    if set.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let (start, replicas, ordered) = shape(set);
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let mut by_ordinal: BTreeMap<i32, &Arc<Pod>> =
        view.pods.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
    let condemned = by_ordinal.split_off(&(start + replicas));
    let below: Vec<i32> = by_ordinal.keys().copied().filter(|ordinal| *ordinal < start).collect();
    let mut condemned: Vec<&Arc<Pod>> = condemned.into_values().collect();
    condemned.extend(below.iter().filter_map(|ordinal| by_ordinal.remove(ordinal)));
    let leaving = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let healthy = |pod: &Pod| !leaving(pod) && is_available(pod, min_ready, now);
    let mut steps = Vec::new();
    for ordinal in start..start + replicas {
        match by_ordinal.get(&ordinal) {
            None => steps.push(Step::Create(ordinal, revision_for(view, ordinal).to_owned())),
            Some(pod) if is_finished(pod) && !leaving(pod) => steps.push(Step::Delete((*pod).clone())),
            Some(pod) if healthy(pod) => continue,
            Some(_) => {}
        }
        if ordered {
            return steps;
        }
    }
    // From the last to the first, each only when the one above is gone.
    condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(set, pod)));
    // One that is not well goes only if it is the first such: else the others would be taken down unwell too.
    let first_unwell = condemned.iter().rfind(|pod| leaving(pod) || !is_ready(pod)).copied();
    for pod in &condemned {
        if ordered && !healthy(pod) && first_unwell.is_none_or(|first| !Arc::ptr_eq(first, pod)) {
            return steps;
        }
        if !leaving(pod) {
            steps.push(Step::Delete((*pod).clone()));
        }
        if ordered {
            return steps;
        }
    }
    if steps.is_empty() {
        steps.extend(outdated(view, &by_ordinal, healthy).map(Step::Delete));
    }
    steps
}

/// The revision a missing pod is made of: during an update those not yet reached stay of the old one.
fn revision_for<'a>(view: &'a View<'_>, ordinal: i32) -> &'a str {
    let (start, replicas, _) = shape(view.set);
    let current = current_revision(view);
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return view.update;
    }
    let partition = strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0);
    let still_current = view.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
    let below = if partition == 0 { start + still_current.min(replicas) } else { start + partition };
    if current != view.update && ordinal < below { current } else { view.update }
}

/// The pods to take down for the update: from the last down to the partition, when all above are well.
fn outdated(
    view: &View<'_>,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    healthy: impl Fn(&Pod) -> bool,
) -> impl Iterator<Item = Arc<Pod>> {
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
    let rolling = strategy.rolling_update.unwrap_or_default();
    let (start, replicas, _) = shape(view.set);
    let lowest = start + rolling.partition.unwrap_or(0);
    let allowed = scaled_up(&rolling.max_unavailable.unwrap_or(IntOrString::Int(1)), replicas).max(1);
    let mut room = if strategy.type_.as_deref() == Some("OnDelete") { 0 } else { allowed };
    let mut down = Vec::new();
    for (_, pod) in pods.iter().rev().filter(|(ordinal, _)| **ordinal >= lowest) {
        if room <= 0 {
            break;
        }
        if revision(pod) != view.update && pod.metadata.deletion_timestamp.is_none() {
            down.push((*pod).clone());
            room -= 1;
        } else if !healthy(pod) {
            room -= 1;
        }
    }
    down.into_iter()
}

/// The status; none if it is so already.
pub(super) fn status(view: &View<'_>, now: Timestamp) -> Option<StatefulSetStatus> {
    let set = view.set;
    let old = set.status.clone().unwrap_or_default();
    let (_, replicas, _) = shape(set);
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let current = current_revision(view).to_owned();
    let (mut total, mut ready, mut available, mut of_current, mut of_update) = (0, 0, 0, 0, 0);
    for pod in view.pods.iter().filter(|pod| ordinal(set, pod).is_some()) {
        total += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(is_available(pod, min_ready, now));
        if pod.metadata.deletion_timestamp.is_none() && !is_finished(pod) {
            of_current += i32::from(revision(pod) == current);
            of_update += i32::from(revision(pod) == view.update);
        }
    }
    let mut new = StatefulSetStatus {
        replicas: total,
        ready_replicas: nonzero(ready),
        available_replicas: Some(available),
        current_replicas: nonzero(of_current),
        updated_replicas: nonzero(of_update),
        current_revision: Some(current),
        update_revision: Some(view.update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count.or(Some(0)),
        conditions: old.conditions.clone(),
    };
    let rolling = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref())
        != Some("OnDelete");
    if rolling && of_update == total && ready == total && total == replicas {
        new.current_replicas = new.updated_replicas;
        new.current_revision = new.update_revision.clone();
    }
    let plain = |status: &StatefulSetStatus| {
        let mut status = status.clone();
        for count in [
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.current_replicas,
            &mut status.updated_replicas,
            &mut status.collision_count,
        ] {
            *count = count.filter(|count| *count != 0);
        }
        status
    };
    (plain(&old) != plain(&new)).then_some(new)
}
