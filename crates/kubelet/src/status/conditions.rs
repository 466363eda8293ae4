//! The pod's conditions that the kubelet owns.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};

use super::containers::{all_removed, restarting_all as wants_restart_all};
use crate::observed::{Observed, SandboxNeed};
use crate::pod::{PodExt, SpecExt, condition, is_sidecar};

/// Conditions the kubelet writes; all others it leaves as they are.
pub fn is_ours(kind: &str) -> bool {
    matches!(
        kind,
        "PodScheduled"
            | "Ready"
            | "Initialized"
            | "ContainersReady"
            | "PodReadyToStartContainers"
            | "PodResizeInProgress"
            | "PodResizePending"
            | "AllContainersRestarting"
    )
}

pub fn make(kind: &str, status: bool, reason: Option<&str>, message: Option<String>) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        ..PodCondition::default()
    }
}

pub(super) fn ready_to_start(pod: &Pod, seen: &Observed) -> PodCondition {
    let ready = matches!(seen.sandbox_need(pod), SandboxNeed::Keep { .. });
    make("PodReadyToStartContainers", ready, None, None)
}

/// Names as Go prints a list of strings: `[a b]`.
fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn find<'a>(all: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    all.iter().find(|s| s.name == name)
}

pub(super) fn containers_ready(pod: &Pod, all: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "ContainersReady";
    let (mut unknown, mut unready) = (vec![], vec![]);
    let sidecars = pod.spec().init_containers().iter().filter(|c| is_sidecar(c));
    for container in sidecars.chain(&pod.spec().containers) {
        match find(all, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return make(KIND, false, Some("PodCompleted"), None);
    }
    if phase == "Failed" {
        return make(KIND, false, Some("PodFailed"), None);
    }
    let mut messages = vec![];
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !unready.is_empty() {
        messages.push(format!("containers with unready status: {}", names(&unready)));
    }
    if messages.is_empty() {
        return make(KIND, true, None, None);
    }
    make(KIND, false, Some("ContainersNotReady"), Some(messages.join(", ")))
}

pub(super) fn ready(
    pod: &Pod,
    others: &[PodCondition],
    all: &[ContainerStatus],
    phase: &str,
) -> PodCondition {
    const KIND: &str = "Ready";
    let containers = containers_ready(pod, all, phase);
    if containers.status != "True" {
        return PodCondition { type_: KIND.to_owned(), ..containers };
    }
    let mut messages = vec![];
    for gate in pod.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *kind) {
            None => messages
                .push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(c) if c.status != "True" => messages
                .push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        return make(KIND, true, None, None);
    }
    make(KIND, false, Some("ReadinessGatesNotReady"), Some(messages.join(", ")))
}

fn is_initialized(container: &Container, status: &ContainerStatus) -> bool {
    if is_sidecar(container) { status.started == Some(true) } else { status.ready }
}

pub(super) fn initialized(pod: &Pod, last: &PodStatus, all: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "Initialized";
    let (mut unknown, mut incomplete) = (vec![], vec![]);
    for container in pod.spec().init_containers() {
        match find(all, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !is_initialized(container, status) => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return make(KIND, true, Some("PodCompleted"), None);
    }
    let started = pod.spec().containers.iter().filter_map(|c| find(all, &c.name)).any(|status| {
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    if started || (unknown.is_empty() && incomplete.is_empty()) {
        return make(KIND, true, None, None);
    }
    // Once initialized, a restart of all containers in place does not undo it.
    if condition(last, KIND).is_some_and(|c| c.status == "True") {
        return make(KIND, true, None, None);
    }
    let mut messages = vec![];
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !incomplete.is_empty() {
        messages.push(format!("containers with incomplete status: {}", names(&incomplete)));
    }
    make(KIND, false, Some("ContainersNotInitialized"), Some(messages.join(", ")))
}

pub(super) fn restarting_all(pod: &Pod, seen: &Observed, last: &PodStatus, phase: &str) -> PodCondition {
    const KIND: &str = "AllContainersRestarting";
    let condition = match phase {
        "Succeeded" => make(KIND, false, Some("PodCompleted"), None),
        "Failed" => make(KIND, false, Some("PodFailed"), None),
        _ if !wants_restart_all(pod, seen, last) || all_removed(pod, seen) => make(KIND, false, None, None),
        _ => make(
            KIND,
            true,
            Some("RestartAllContainersStarted"),
            Some("container exited with restart policy rule".into()),
        ),
    };
    condition
}
