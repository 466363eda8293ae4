//! The pod's phase from its containers' statuses.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::containers::RESTARTING_ALL;
use crate::pod::{PodExt, SpecExt, is_sidecar, restarts_after};

enum Now<'a> {
    Running(&'a ContainerStatus),
    /// Ended (or waiting after an end) with this exit code; whether it will start again.
    Ended {
        exit_code: i32,
        restarts: bool,
        waiting: bool,
    },
    /// Never ran.
    Waiting,
    Unknown,
}

fn now<'a>(pod: &Pod, container: &Container, all: &'a [ContainerStatus]) -> Now<'a> {
    let Some(status) = all.iter().find(|s| s.name == container.name) else { return Now::Unknown };
    let state = status.state.as_ref();
    if state.is_some_and(|s| s.running.is_some()) {
        return Now::Running(status);
    }
    let waiting = state.is_some_and(|s| s.waiting.is_some());
    let ended = match state.and_then(|s| s.terminated.as_ref()) {
        Some(t) => Some(t),
        None if waiting => status.last_state.as_ref().and_then(|s| s.terminated.as_ref()),
        None => return Now::Unknown,
    };
    let Some(ended) = ended else { return Now::Waiting };
    let restarts = restarts_after(container, pod.spec(), ended.exit_code)
        || ended.reason.as_deref() == Some(RESTARTING_ALL);
    Now::Ended { exit_code: ended.exit_code, restarts, waiting }
}

pub(super) fn of(pod: &Pod, all: &[ContainerStatus], terminal: bool, has_initialized: bool) -> &'static str {
    let spec = pod.spec();
    let (mut pending_init, mut pending_sidecars) = (0, 0);
    let (mut unknown, mut running, mut waiting, mut stopped, mut for_good, mut succeeded) =
        (0, 0, 0, 0, 0, 0);

    for container in spec.init_containers() {
        match (is_sidecar(container), now(pod, container, all)) {
            (false, Now::Ended { exit_code, restarts, .. }) => {
                if exit_code != 0 && !restarts {
                    return "Failed";
                }
            }
            (false, _) => pending_init += 1,
            (true, Now::Running(status)) => {
                pending_sidecars += u32::from(status.started != Some(true));
                running += 1;
            }
            (true, Now::Ended { .. }) => {}
            (true, Now::Waiting) => {
                pending_sidecars += 1;
                waiting += 1;
            }
            (true, Now::Unknown) => unknown += 1,
        }
    }
    for container in &spec.containers {
        match now(pod, container, all) {
            Now::Running(_) => running += 1,
            Now::Ended { exit_code, restarts, waiting } => {
                stopped += 1;
                for_good += u32::from(!restarts);
                succeeded += u32::from(exit_code == 0 && !waiting);
            }
            Now::Waiting => waiting += 1,
            Now::Unknown => unknown += 1,
        }
    }

    if pending_init > 0 || (pending_sidecars > 0 && !has_initialized) || waiting > 0 {
        "Pending"
    } else if running > 0 && unknown == 0 {
        "Running"
    } else if running == 0 && stopped > 0 && unknown == 0 {
        let done = (terminal && !pod.is_static()) || stopped == for_good;
        match done {
            true if stopped == succeeded => "Succeeded",
            true => "Failed",
            false => "Running",
        }
    } else {
        "Pending"
    }
}
