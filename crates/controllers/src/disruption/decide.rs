//! A budget's status, from its pods and how many its owners want.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::common::{controller_of, is_ready, matches, scaled_up};

/// How long an eviction that the server has let through counts before its pod is seen to go.
const DISRUPTION_TIMEOUT: SignedDuration = SignedDuration::from_secs(2 * 60);
/// How long a pod may be marked as about to be disrupted without going.
pub(super) const STALE: SignedDuration = SignedDuration::from_secs(2 * 60);

/// What a decision is made from.
pub(super) struct View<'a> {
    pub budget: &'a PodDisruptionBudget,
    /// The pods that the budget selects.
    pub pods: &'a [Arc<Pod>],
    /// How many pods each controller (by uid) wants; an error if that is not known.
    pub scales: &'a HashMap<String, Result<i32, String>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    pub status: PodDisruptionBudgetStatus,
    /// When an eviction under way is given up.
    pub again: Option<Duration>,
    /// Pods without a controller, where the budget would have to know how many are wanted.
    pub unmanaged: bool,
    /// Why the budget lets nothing go.
    pub failure: Option<String>,
}

/// True if the budget covers a pod with these labels. No selector covers nothing, an empty one everything.
pub(super) fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref()))
}

pub(super) fn decide(view: &View<'_>, now: Timestamp) -> Decision {
    let (expected, desired, unmanaged) = match wanted(view) {
        Ok(wanted) => wanted,
        Err(failure) => return failed(view.budget, failure, now),
    };
    let mut disrupted = BTreeMap::new();
    let mut again: Option<SignedDuration> = None;
    let old = view.budget.status.clone().unwrap_or_default();
    for pod in view.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = old.disrupted_pods.as_ref().and_then(|pods| pods.get(&name)) else { continue };
        let left = DISRUPTION_TIMEOUT - now.duration_since(since.0);
        if left.is_positive() {
            again = Some(again.map_or(left, |other| other.min(left)));
            disrupted.insert(name, since.clone());
        }
    }
    let healthy = view.pods.iter().filter(|pod| {
        let going = disrupted.contains_key(pod.metadata.name.as_deref().unwrap_or_default());
        pod.metadata.deletion_timestamp.is_none() && !going && is_ready(pod)
    });
    let healthy = healthy.count() as i32;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: view.budget.metadata.generation,
        conditions: old.conditions,
    };
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, value, reason, "", now);
    let again = again.and_then(|again| Duration::try_from(again).ok());
    Decision { status, again, unmanaged, failure: None }
}

/// Fails safe: what cannot be counted must not be disrupted.
fn failed(budget: &PodDisruptionBudget, failure: String, now: Timestamp) -> Decision {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    status.observed_generation = budget.metadata.generation;
    set_condition(&mut status, "False", "SyncFailed", &failure, now);
    Decision { status, again: None, unmanaged: false, failure: Some(failure) }
}

/// Pods expected, pods that must be healthy, and whether some have nobody who says how many are wanted.
fn wanted(view: &View<'_>) -> Result<(i32, i32, bool), String> {
    let spec = view.budget.spec.clone().unwrap_or_default();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (expected, unmanaged) = scale(view)?;
            Ok((expected, (expected - scaled_up(most, expected)).max(0), unmanaged))
        }
        (None, Some(IntOrString::Int(least))) => Ok((view.pods.len() as i32, *least, false)),
        (None, Some(share)) => {
            let (expected, unmanaged) = scale(view)?;
            Ok((expected, scaled_up(share, expected), unmanaged))
        }
        (None, None) => Ok((0, 0, false)),
    }
}

fn scale(view: &View<'_>) -> Result<(i32, bool), String> {
    let mut by_owner: HashMap<&str, i32> = HashMap::new();
    let mut unmanaged = false;
    for pod in view.pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        if by_owner.contains_key(owner.uid.as_str()) {
            continue;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match view.scales.get(&owner.uid) {
            Some(Ok(scale)) => _ = by_owner.insert(&owner.uid, *scale),
            Some(Err(failure)) => return Err(failure.clone()),
            None => return Err(format!("found no controllers for pod \"{name}\"")),
        }
    }
    Ok((by_owner.values().sum(), unmanaged))
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter_mut().find(|condition| condition.type_ == "DisruptionAllowed");
    let new = Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: status.observed_generation,
        last_transition_time: match &old {
            Some(old) if old.status == value => old.last_transition_time.clone(),
            _ => Time(now),
        },
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// How long a pod that is marked as about to be disrupted is still waited for; None if it is not marked.
pub(super) fn stale_in(pod: &Pod, now: Timestamp) -> Option<SignedDuration> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mark = conditions.iter().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    if pod.metadata.deletion_timestamp.is_some() || crate::common::is_finished(pod) {
        return None;
    }
    // A pod that is preempted or evicted is deleted by who marked it.
    let since = mark.last_transition_time.as_ref()?.0;
    Some((STALE - now.duration_since(since)).max(SignedDuration::ZERO))
}
