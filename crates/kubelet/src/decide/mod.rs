//! What to do for a pod next, computed from its spec, what the runtime shows and what the probes found.
//!
//! [`plan`] is the entry. It knows no clock and no I/O: back-off belongs to whoever starts the containers.

mod init;
mod resize;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;

pub use resize::Resize;

use crate::observed::{Observed, SandboxNeed, State};
use crate::pod::{PodExt, SpecExt, matching_rule};

/// What the probes of one container found last; `None` before a first result counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

/// Probe results by container id.
pub type Probes = HashMap<String, ProbeResults>;

/// Why a running container is stopped though its pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    StartupProbe,
    LivenessProbe,
    FailedPostStartHook,
    RestartAllContainers,
    Unknown,
    Changed,
    Resize,
    PodTermination,
}

/// A container to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    /// For the `Killing` event.
    pub message: String,
    pub reason: KillReason,
}

/// A container to remove from the runtime, stopped first where `kill` says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Reset {
    pub id: String,
    pub name: String,
    pub kill: bool,
}

/// The steps, in the order in which they are to be taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Stop all containers and the sandbox first.
    pub kill_pod: bool,
    /// Make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// The sandbox that serves, or that is replaced.
    pub sandbox: Option<String>,
    pub kill: Vec<Kill>,
    pub reset: Vec<Reset>,
    /// Indices into the spec's lists.
    pub start_ephemeral: Vec<usize>,
    pub start_init: Vec<usize>,
    pub resize: Vec<Resize>,
    pub start: Vec<usize>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        let Plan {
            kill_pod,
            create_sandbox,
            sandbox: _,
            kill,
            reset,
            start_ephemeral,
            start_init,
            resize,
            start,
        } = self;
        !kill_pod
            && create_sandbox.is_none()
            && kill.is_empty()
            && reset.is_empty()
            && start_ephemeral.is_empty()
            && start_init.is_empty()
            && resize.is_empty()
            && start.is_empty()
    }
}

/// The next steps for a pod that is meant to run. `restart_all`: its containers are all to be removed and begun anew.
pub fn plan(pod: &Pod, seen: &Observed, probes: &Probes, restart_all: bool) -> Plan {
    let need = seen.sandbox_need(pod);
    let mut plan = Plan::default();
    match &need {
        SandboxNeed::Keep { id, .. } => plan.sandbox = Some(id.clone()),
        SandboxNeed::Create { attempt, replaces } => {
            plan.kill_pod = true;
            plan.create_sandbox = Some(*attempt);
            plan.sandbox = replaces.clone();
        }
    }
    if restart_all {
        plan.reset = resets(pod, seen);
        return plan;
    }
    if let SandboxNeed::Create { attempt, .. } = need {
        plan_new_sandbox(pod, seen, attempt, &mut plan);
        return plan;
    }
    for (i, c) in pod.spec().ephemeral_containers().iter().enumerate() {
        if seen.container(&c.name).is_none() {
            plan.start_ephemeral.push(i);
        }
    }
    let initialized = init::plan(pod, seen, probes, &mut plan);
    if plan.kill_pod || !initialized {
        return plan;
    }
    plan_regular(pod, seen, probes, &mut plan);
    plan
}

fn plan_new_sandbox(pod: &Pod, seen: &Observed, attempt: u32, plan: &mut Plan) {
    let spec = pod.spec();
    if !spec.restarts_on_failure() && attempt != 0 && !seen.containers.is_empty() {
        // The pod has run and is not to run again: only clear up.
        plan.create_sandbox = None;
        return;
    }
    let start: Vec<usize> = (0..spec.containers.len())
        .filter(|i| {
            let c = &spec.containers[*i];
            let policy = c.restart_policy.as_deref().unwrap_or(spec.restart_policy());
            let succeeded =
                seen.container(&c.name).is_some_and(|s| s.state == State::Exited && s.exit_code == 0);
            !(policy == "OnFailure" && succeeded)
        })
        .collect();
    if start.is_empty() && seen.any_regular_created(pod) {
        plan.create_sandbox = None;
        return;
    }
    if spec.init_containers().is_empty() {
        plan.start = start;
    } else {
        plan.start_init = vec![0];
    }
}

fn plan_regular(pod: &Pod, seen: &Observed, probes: &Probes, plan: &mut Plan) {
    let spec = pod.spec();
    let mut kept = 0;
    for (i, container) in spec.containers.iter().enumerate() {
        let running = match seen.container(&container.name) {
            Some(c) if c.state == State::Running => c,
            other => {
                if seen.should_start(pod, container) {
                    plan.start.push(i);
                    if let Some(c) = other.filter(|c| c.state == State::Unknown) {
                        plan.kill.push(Kill {
                            id: c.id.clone(),
                            name: c.name.clone(),
                            message: format!(
                                "Container is in {:?} state, try killing it before restart",
                                c.state.name()
                            ),
                            reason: KillReason::Unknown,
                        });
                    }
                }
                continue;
            }
        };
        let results = probes.get(&running.id).copied().unwrap_or_default();
        let mut restart = match container.restart_policy.as_deref() {
            Some(own) => own != "Never",
            None => spec.restarts_on_failure(),
        };
        let (mut message, reason) = if changed(container, &running.spec_hash) {
            restart = true;
            (format!("Container {} definition changed", container.name), KillReason::Changed)
        } else if results.liveness == Some(false) {
            (format!("Container {} failed liveness probe", container.name), KillReason::LivenessProbe)
        } else if results.startup == Some(false) {
            (format!("Container {} failed startup probe", container.name), KillReason::StartupProbe)
        } else if resize::plan(container, running, plan) {
            restart = true;
            (format!("Container {} resize requires restart", container.name), KillReason::Resize)
        } else {
            kept += 1;
            continue;
        };
        if restart {
            message.push_str(", will be restarted");
            plan.start.push(i);
        }
        plan.kill.push(Kill { id: running.id.clone(), name: running.name.clone(), message, reason });
    }
    if kept == 0 && plan.start.is_empty() {
        plan.kill_pod = true;
        plan.start_init.clear();
    }
}

/// Containers that asked for the restart of all go last, so that the request outlives a crash in the middle.
fn resets(pod: &Pod, seen: &Observed) -> Vec<Reset> {
    let split = |containers: &[Container]| {
        let (mut sources, mut targets) = (vec![], vec![]);
        for spec in containers {
            for c in seen.containers.iter().filter(|c| c.name == spec.name) {
                let exited = c.state == State::Exited;
                let asked = exited
                    && matching_rule(spec, c.exit_code)
                        .is_some_and(|rule| rule.action == "RestartAllContainers");
                let reset = Reset { id: c.id.clone(), name: c.name.clone(), kill: !exited };
                if asked { sources.push(reset) } else { targets.push(reset) }
            }
        }
        (sources, targets)
    };
    let (init_sources, init_targets) = split(pod.spec().init_containers());
    let (sources, targets) = split(&pod.spec().containers);
    targets.into_iter().chain(init_targets).chain(sources).chain(init_sources).collect()
}

/// Hash of what makes a new container necessary when it changes: the image.
pub fn spec_hash(container: &Container) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in
        container.name.bytes().chain([0]).chain(container.image.as_deref().unwrap_or_default().bytes())
    {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

fn changed(container: &Container, hash: &str) -> bool {
    !hash.is_empty() && spec_hash(container) != hash
}
