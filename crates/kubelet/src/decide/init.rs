//! Init containers in their order, and the sidecars among them that are to keep running.

use k8s_openapi::api::core::v1::Pod;

use super::{Kill, KillReason, Plan, Probes, changed, resize};
use crate::observed::{Container as Seen, Observed, State};
use crate::pod::{PodExt, SpecExt, is_sidecar};

/// Adds what init containers need; `true` once the regular ones may run.
///
/// Goes backwards: finished init containers may be gone from the runtime, so only the latest one counts.
pub(super) fn plan(pod: &Pod, seen: &Observed, probes: &Probes, plan: &mut Plan) -> bool {
    let spec = pod.spec();
    let init = spec.init_containers();
    if init.is_empty() {
        return true;
    }
    let mut initialized = spec
        .containers
        .iter()
        .filter_map(|c| seen.container(&c.name))
        .any(|c| matches!(c.state, State::Created | State::Running));
    let mut reached = initialized;
    let last = init.len() - 1;

    for (i, container) in init.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(status) = seen.container(&container.name) else {
            if reached && sidecar {
                plan.start_init.push(i);
            }
            continue;
        };
        if reached && !sidecar {
            continue;
        }
        match status.state {
            State::Created => plan.start_init.push(i),
            State::Running if !sidecar => {
                resize::plan(container, status, plan);
            }
            State::Running => running_sidecar(pod, i, status, probes, reached, &mut initialized, plan),
            State::Exited if sidecar => plan.start_init.push(i),
            State::Exited if failed(status) => {
                if !seen.should_start(pod, container) {
                    plan.kill_pod = true;
                    plan.start_init.clear();
                    return false;
                }
                plan.start_init.push(i);
            }
            State::Exited if i == last => initialized = true,
            State::Exited => plan.start_init.push(i + 1),
            State::Unknown => {
                let restart = sidecar
                    || match container.restart_policy.as_deref() {
                        Some(own) => own != "Never",
                        None => spec.restarts_on_failure(),
                    };
                if !restart {
                    plan.kill_pod = true;
                    plan.start_init.clear();
                    return false;
                }
                let message = format!(
                    "Init container is in {:?} state, try killing it before restart",
                    status.state.name()
                );
                plan.kill.push(kill(status, message, KillReason::Unknown));
                plan.start_init.push(i);
            }
        }
        reached = true;
    }
    if !reached {
        plan.start_init.push(0);
    }
    plan.start_init.reverse();
    initialized
}

fn running_sidecar(
    pod: &Pod,
    i: usize,
    status: &Seen,
    probes: &Probes,
    reached: bool,
    initialized: &mut bool,
    plan: &mut Plan,
) {
    let init = pod.spec().init_containers();
    let container = &init[i];
    let results = probes.get(&status.id).copied().unwrap_or_default();
    let name = &container.name;
    if container.startup_probe.is_some() {
        match results.startup {
            Some(true) => {}
            Some(false) => {
                let message = format!("Init container {name} failed startup probe");
                plan.kill.push(kill(status, message, KillReason::StartupProbe));
                plan.start_init.push(i);
                return;
            }
            None => return,
        }
    }
    if i == init.len() - 1 {
        *initialized = true;
    } else if !reached {
        plan.start_init.push(i + 1);
    }
    if changed(container, &status.spec_hash) {
        plan.kill.push(kill(
            status,
            format!("Init container {name} definition changed"),
            KillReason::Changed,
        ));
        plan.start_init.push(i);
    } else if container.liveness_probe.is_some() && results.liveness == Some(false) {
        plan.kill.push(kill(
            status,
            format!("Init container {name} failed liveness probe"),
            KillReason::LivenessProbe,
        ));
        plan.start_init.push(i);
    } else if resize::plan(container, status, plan) {
        let message = format!("Container {name} resize requires restart, will be restarted");
        plan.kill.push(kill(status, message, KillReason::Resize));
        plan.start_init.push(i);
    }
}

fn kill(status: &Seen, message: String, reason: KillReason) -> Kill {
    Kill { id: status.id.clone(), name: status.name.clone(), message, reason }
}

fn failed(status: &Seen) -> bool {
    status.reason == "OOMKilled" || status.exit_code != 0
}
