//! The pod's status for the API, computed from spec, last status, runtime and probes.
//!
//! [`generate`] is the entry; it changes nothing and knows no clock but the `now` it is given.

mod conditions;
mod containers;
mod patch;
mod phase;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashMap;

pub use containers::restarting_all;
pub use patch::status_patch;

use crate::decide::Probes;
use crate::observed::Observed;
use crate::pod::{PodExt, SpecExt, may_restart_all};
use crate::qos;

/// Why a container could not be started, as it stands in `waiting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    pub reason: String,
    pub message: String,
}

/// Everything a status is computed from.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    /// The last status sent or, at the beginning, the API's.
    pub last: &'a PodStatus,
    pub seen: &'a Observed,
    pub probes: &'a Probes,
    /// By container name.
    pub failures: &'a HashMap<String, StartFailure>,
    /// All containers have stopped for good.
    pub terminal: bool,
    /// The node itself ended the pod: (reason, message), with phase Failed.
    pub ended: Option<(&'a str, &'a str)>,
    pub host_ips: &'a [String],
    pub now: Timestamp,
    /// Conditions the node keeps beside those computed here (resize).
    pub extra_conditions: &'a [PodCondition],
}

pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The status as it ought to be in the API.
pub fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let Inputs { pod, last, seen, host_ips, now, .. } = inputs;
    let mut status = PodStatus {
        qos_class: Some(qos::of_pod(pod).name().to_owned()),
        start_time: last.start_time.clone().or(Some(whole_seconds(*now))),
        observed_generation: pod.generation(),
        resource_claim_statuses: pod.status.as_ref().and_then(|s| s.resource_claim_statuses.clone()),
        nominated_node_name: pod.status.as_ref().and_then(|s| s.nominated_node_name.clone()),
        ..PodStatus::default()
    };
    containers::fill(inputs, &mut status);

    let all: Vec<ContainerStatus> = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .cloned()
        .collect();
    let computed = phase::of(pod, &all, inputs.terminal, seen.any_regular_active(pod));
    let mut phase = computed;
    let last_phase = last.phase.as_deref().unwrap_or_default();
    if !is_terminal(phase) {
        for former in [last_phase, pod.phase()] {
            if is_terminal(former) {
                phase = former;
                break;
            }
        }
    }
    if phase == last_phase {
        let pick =
            |a: &Option<String>, b: Option<&String>| a.clone().filter(|s| !s.is_empty()).or(b.cloned());
        let api = pod.status.as_ref();
        status.reason = pick(&last.reason, api.and_then(|s| s.reason.as_ref()));
        status.message = pick(&last.message, api.and_then(|s| s.message.as_ref()));
    }
    if let Some((reason, message)) = inputs.ended {
        phase = "Failed";
        status.reason = Some(reason.to_owned());
        status.message = Some(message.to_owned());
    }
    // The API never lets a pod leave its end.
    if is_terminal(pod.phase()) {
        phase = pod.phase();
    }
    status.phase = Some(phase.to_owned());

    status.conditions = Some(conditions(inputs, &all, phase));
    addresses(pod, last, seen, host_ips, &mut status);
    status
}

fn conditions(inputs: &Inputs<'_>, all: &[ContainerStatus], phase: &str) -> Vec<PodCondition> {
    let Inputs { pod, last, seen, .. } = inputs;
    let foreign = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut list: Vec<PodCondition> = foreign.filter(|c| !conditions::is_ours(&c.type_)).cloned().collect();
    list.extend(inputs.extra_conditions.iter().cloned());
    if let Some(disruption) = crate::pod::condition(last, "DisruptionTarget") {
        list.retain(|c| c.type_ != "DisruptionTarget");
        list.push(disruption.clone());
    }
    let ready_to_start = conditions::ready_to_start(pod, seen);
    list.push(ready_to_start);
    list.push(conditions::initialized(pod, last, all, phase));
    let ready = conditions::ready(pod, &list, all, phase);
    list.push(ready);
    list.push(conditions::containers_ready(pod, all, phase));
    list.push(conditions::make("PodScheduled", true, None, None));
    if may_restart_all(pod.spec()) {
        list.push(conditions::restarting_all(pod, seen, last, phase));
    }
    for condition in &mut list {
        if conditions::is_ours(&condition.type_) {
            condition.observed_generation = condition.observed_generation.or(pod.generation());
            stamp(condition, last, inputs.now);
        }
    }
    list
}

/// A transition time changes only with the status.
fn stamp(condition: &mut PodCondition, last: &PodStatus, now: Timestamp) {
    let former = crate::pod::condition(last, &condition.type_);
    condition.last_transition_time = match former {
        Some(f) if f.status == condition.status && f.last_transition_time.is_some() => {
            f.last_transition_time.clone()
        }
        _ => Some(whole_seconds(now)),
    };
}

/// The API keeps whole seconds.
pub fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn addresses(pod: &Pod, last: &PodStatus, seen: &Observed, host_ips: &[String], status: &mut PodStatus) {
    status.host_ip = host_ips.first().cloned();
    status.host_ips =
        (!host_ips.is_empty()).then(|| host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let ips: Vec<String> = if pod.spec().is_host_network() {
        host_ips.to_vec()
    } else if seen.ips().is_empty() && seen.sandboxes.iter().all(|s| !s.ready) && !seen.sandboxes.is_empty() {
        // A stopped sandbox has none any more: the last known ones stay.
        last.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect()
    } else {
        sort_ips(seen.ips(), host_ips)
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}

/// One address per family, the node's family first.
pub fn sort_ips(ips: &[String], host_ips: &[String]) -> Vec<String> {
    let v6 = |ip: &String| ip.contains(':');
    let first_v6 = host_ips.first().is_some_and(v6);
    let of = |family: bool| ips.iter().find(|ip| v6(ip) == family).cloned();
    of(first_v6).into_iter().chain(of(!first_v6)).collect()
}

/// Whether two statuses say the same: order of conditions and times of probes aside.
pub fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let normal = |s: &PodStatus| {
        let mut s = s.clone();
        if let Some(conditions) = &mut s.conditions {
            conditions.sort_by(|x, y| x.type_.cmp(&y.type_));
            for c in conditions {
                c.last_probe_time = None;
            }
        }
        s
    };
    normal(a) == normal(b)
}

#[cfg(test)]
pub(crate) fn condition_words(status: &PodStatus) -> String {
    let mut words: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            format!(
                "{}={}{}",
                c.type_,
                c.status,
                c.reason.as_ref().map(|r| format!("({r})")).unwrap_or_default()
            )
        })
        .collect();
    words.sort();
    words.join(" ")
}
