//! Container statuses: state, last state, restart count, readiness.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, PodStatus, ResourceRequirements,
    VolumeMountStatus,
};

use super::{Inputs, whole_seconds};
use crate::amounts::{Amounts, milli_of_quota, milli_of_shares};
use crate::observed::{Container as Seen, Observed, State};
use crate::pod::{
    Class, PodExt, SpecExt, ephemeral_as_container, is_sidecar, matching_rule, may_restart_all,
};
use crate::quantity::{from_bytes, from_milli};

pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
/// Exit code where the true one is not known: as of SIGKILL.
const UNKNOWN_EXIT: i32 = 137;

/// Whether all containers are to be removed and begun anew: one ended with an exit code whose rule says so.
pub fn restarting_all(pod: &Pod, seen: &Observed, last: &PodStatus) -> bool {
    if !may_restart_all(pod.spec()) {
        return false;
    }
    if crate::pod::condition(last, "AllContainersRestarting").is_some_and(|c| c.status == "True") {
        return true;
    }
    pod.spec().init_and_regular().any(|container| {
        let exited = seen.container(&container.name).filter(|c| c.state == State::Exited);
        exited
            .and_then(|c| matching_rule(container, c.exit_code))
            .is_some_and(|rule| rule.action == "RestartAllContainers")
    })
}

pub(super) fn all_removed(pod: &Pod, seen: &Observed) -> bool {
    pod.spec().init_and_regular().all(|c| seen.container(&c.name).is_none())
}

pub(super) fn fill(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let spec = inputs.pod.spec();
    let last = inputs.last;
    let ephemeral: Vec<Container> = spec.ephemeral_containers().iter().map(ephemeral_as_container).collect();
    let of = |class, containers: &[Container], former: &Option<Vec<ContainerStatus>>| {
        let former = former.as_deref().unwrap_or_default();
        let list: Vec<_> = containers.iter().map(|c| one(inputs, class, c, former)).collect();
        (!list.is_empty()).then_some(list)
    };
    status.init_container_statuses = of(Class::Init, spec.init_containers(), &last.init_container_statuses);
    status.container_statuses =
        of(Class::Regular, &spec.containers, &last.container_statuses).map(|mut list| {
            list.sort_by(|a, b| a.name.cmp(&b.name));
            list
        });
    status.ephemeral_container_statuses =
        of(Class::Ephemeral, &ephemeral, &last.ephemeral_container_statuses);
}

fn one(
    inputs: &Inputs<'_>,
    class: Class,
    container: &Container,
    former: &[ContainerStatus],
) -> ContainerStatus {
    let Inputs { pod, seen, .. } = inputs;
    let old = former.iter().find(|s| s.name == container.name);
    let mut status = initial(pod, container, class, old);
    let attempts: Vec<&Seen> = seen.containers.iter().filter(|c| c.name == container.name).take(2).collect();
    let restarting = restarting_all(pod, seen, inputs.last);
    match attempts.as_slice() {
        [] => vanished(inputs, class, old, restarting, &mut status),
        [latest, earlier @ ..] => {
            let mounts = status.volume_mounts.take();
            status = from_runtime(&seen.runtime_name, latest, old, restarting, inputs);
            status.volume_mounts = status.volume_mounts.or(mounts);
            resources(container, latest, &mut status);
            if let Some(before) = earlier.first() {
                status.last_state = from_runtime(&seen.runtime_name, before, old, restarting, inputs).state;
            }
        }
    }
    failure_to_start(inputs, class, container, &mut status);
    readiness(inputs, class, container, &mut status);
    status
}

fn waiting(reason: &str) -> ContainerState {
    let reason = (!reason.is_empty()).then(|| reason.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason, message: None }),
        ..ContainerState::default()
    }
}

fn terminated(t: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(t), ..ContainerState::default() }
}

fn default_reason(pod: &Pod, class: Class) -> &'static str {
    let initializing = !pod.spec().init_containers().is_empty() && class != Class::Ephemeral;
    if initializing { "PodInitializing" } else { "ContainerCreating" }
}

/// The status of a container the runtime does not know.
fn initial(pod: &Pod, container: &Container, class: Class, old: Option<&ContainerStatus>) -> ContainerStatus {
    if let Some(old) = old
        && old.state.as_ref().is_some_and(|s| s.terminated.is_some())
    {
        return old.clone();
    }
    let mounts: Vec<_> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| {
            let read_only = m.read_only.unwrap_or(false);
            let recursive = m.recursive_read_only.as_deref().unwrap_or("Disabled");
            VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: read_only.then_some(true),
                recursive_read_only: read_only
                    .then(|| if recursive == "Disabled" { "Disabled" } else { "Enabled" }.to_owned()),
                volume_status: None,
            }
        })
        .collect();
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(default_reason(pod, class))),
        restart_count: old.map_or(0, |o| o.restart_count),
        last_state: old.and_then(|o| o.last_state.clone()).or_else(|| Some(ContainerState::default())),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        ..ContainerStatus::default()
    }
}

/// A container that ran and is no longer known to the runtime has ended, however that came about.
fn vanished(
    inputs: &Inputs<'_>,
    class: Class,
    old: Option<&ContainerStatus>,
    restarting: bool,
    status: &mut ContainerStatus,
) {
    let Some(old) = old else { return };
    let Some(state) = &old.state else { return };
    if restarting && state.waiting.is_none() && (state.running.is_some() || state.terminated.is_some()) {
        let message = "The container is removed because RestartAllContainers in place";
        status.state = Some(ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(RESTARTING_ALL.into()),
                message: Some(message.into()),
            }),
            ..ContainerState::default()
        });
        status.last_state = Some(terminated(ContainerStateTerminated {
            reason: Some(RESTARTING_ALL.into()),
            message: Some(message.into()),
            exit_code: UNKNOWN_EXIT,
            ..Default::default()
        }));
        status.restart_count = old.restart_count + 1;
        return;
    }
    if state.running.is_none() || status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    let is_default = status
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .is_some_and(|w| w.reason.as_deref() == Some(default_reason(inputs.pod, class)));
    if !is_default {
        return;
    }
    status.last_state = Some(terminated(ContainerStateTerminated {
        reason: Some(STATUS_UNKNOWN.into()),
        message: Some(
            "The container could not be located when the pod was deleted.  The container used to be Running"
                .into(),
        ),
        exit_code: UNKNOWN_EXIT,
        ..Default::default()
    }));
    if !inputs.pod.is_deleted() {
        status.restart_count += 1;
    }
}

fn from_runtime(
    runtime: &str,
    seen: &Seen,
    old: Option<&ContainerStatus>,
    restarting: bool,
    inputs: &Inputs<'_>,
) -> ContainerStatus {
    let id = format!("{runtime}://{}", seen.id);
    let mut status = ContainerStatus {
        name: seen.name.clone(),
        image: seen.image.clone(),
        image_id: seen.image_ref.clone(),
        container_id: Some(id.clone()),
        restart_count: seen.restart_count,
        last_state: Some(ContainerState::default()),
        stop_signal: seen.stop_signal.clone(),
        user: seen.user.as_ref().map(|u| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: u.uid,
                gid: u.gid,
                supplemental_groups: (!u.supplemental_groups.is_empty())
                    .then(|| u.supplemental_groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    };
    let old_state = old.and_then(|o| o.state.as_ref());
    if let Some(old) = old {
        status.volume_mounts = old.volume_mounts.clone();
        status.restart_count = status.restart_count.max(old.restart_count);
        let ended_before = old_state.and_then(|s| s.terminated.as_ref());
        let before = old.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        if let Some(t) = ended_before.filter(|_| old.container_id.as_deref() != Some(&id)).or(before) {
            status.last_state = Some(terminated(t.clone()));
        }
    }
    status.state = Some(match seen.state {
        State::Running => {
            if let Some(old) = old
                && old.container_id.as_deref() != Some(&id)
                && old_state.is_some_and(|s| s.terminated.is_some())
                && old.restart_count >= seen.restart_count
            {
                status.restart_count = old.restart_count + 1;
            }
            let started_at = Some(whole_seconds(seen.started_at));
            ContainerState {
                running: Some(ContainerStateRunning { started_at }),
                ..ContainerState::default()
            }
        }
        State::Created => waiting(""),
        State::Exited => terminated(ContainerStateTerminated {
            exit_code: seen.exit_code,
            reason: (!seen.reason.is_empty()).then(|| seen.reason.clone()),
            message: (!seen.message.is_empty()).then(|| seen.message.clone()),
            started_at: Some(whole_seconds(seen.started_at)),
            finished_at: Some(whole_seconds(seen.finished_at)),
            container_id: Some(id),
            signal: None,
        }),
        State::Unknown if old_state.is_some_and(|s| s.running.is_some()) => {
            status.restart_count = old.map_or(0, |o| o.restart_count) + 1;
            terminated(ContainerStateTerminated {
                reason: Some(if restarting { RESTARTING_ALL } else { STATUS_UNKNOWN }.into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                exit_code: UNKNOWN_EXIT,
                ..Default::default()
            })
        }
        State::Unknown => waiting(""),
    });
    let _ = inputs;
    status
}

/// Resources as applied: those of the spec, with what the runtime reports in their place where it differs.
fn resources(container: &Container, seen: &Seen, status: &mut ContainerStatus) {
    let mut resources = container.resources.clone().unwrap_or_default();
    status.allocated_resources = resources.requests.clone().filter(|r| !r.is_empty());
    if let (State::Running, Some(applied)) = (seen.state, seen.applied) {
        let wanted = Amounts::of(container.resources.as_ref());
        if let Some(limits) = &mut resources.limits {
            if wanted.cpu_quota != applied.cpu_quota && applied.cpu_quota > 0 {
                limits.insert("cpu".into(), from_milli(milli_of_quota(applied.cpu_quota)));
            }
            if wanted.memory != applied.memory && applied.memory > 0 {
                limits.insert("memory".into(), from_bytes(applied.memory));
            }
        }
        if let Some(requests) = &mut resources.requests
            && wanted.cpu_shares != applied.cpu_shares
            && applied.cpu_shares > 0
        {
            requests.insert("cpu".into(), from_milli(milli_of_shares(applied.cpu_shares)));
        }
    }
    let ResourceRequirements { claims, limits, requests } = &resources;
    let _ = claims;
    let empty = |l: &Option<crate::quantity::ResourceList>| l.as_ref().is_none_or(|l| l.is_empty());
    status.resources =
        (!empty(limits) || !empty(requests)).then_some(resources).or(Some(ResourceRequirements::default()));
}

fn failure_to_start(inputs: &Inputs<'_>, class: Class, container: &Container, status: &mut ContainerStatus) {
    let Inputs { pod, seen, failures, .. } = inputs;
    if class == Class::Init {
        match seen.container(&container.name) {
            Some(s) if s.state == State::Exited && s.exit_code == 0 && !is_sidecar(container) => return,
            None if seen.any_regular_created(pod)
                && !is_sidecar(container)
                && status.state.as_ref().is_some_and(|s| s.waiting.is_some()) =>
            {
                status.state = Some(terminated(ContainerStateTerminated {
                    reason: Some("Completed".into()),
                    message: Some(
                        "Unable to get init container status from container runtime and pod has been initialized, \
                         treat it as exited normally"
                            .into(),
                    ),
                    exit_code: 0,
                    ..Default::default()
                }));
                return;
            }
            _ => {}
        }
    }
    if !seen.should_start(pod, container) {
        return;
    }
    let Some(failure) = failures.get(&container.name) else { return };
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    status.state = Some(ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(failure.reason.clone()),
            message: (!failure.message.is_empty()).then(|| failure.message.clone()),
        }),
        ..ContainerState::default()
    });
}

/// `started` and `ready`, from probes where there are any, else from running.
fn readiness(inputs: &Inputs<'_>, class: Class, container: &Container, status: &mut ContainerStatus) {
    let seen = inputs.seen.container(&container.name);
    let results = seen.and_then(|s| inputs.probes.get(&s.id)).copied().unwrap_or_default();
    let state = status.state.clone().unwrap_or_default();
    let running = state.running.is_some();
    match class {
        Class::Ephemeral => {
            status.started = Some(false);
            status.ready = false;
        }
        Class::Init if !is_sidecar(container) => {
            let completed = state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
            status.started = Some(running);
            status.ready = completed;
        }
        Class::Init | Class::Regular => {
            let started = running && (container.startup_probe.is_none() || results.startup == Some(true));
            status.started = Some(started);
            status.ready =
                started && (container.readiness_probe.is_none() || results.readiness == Some(true));
        }
    }
}
