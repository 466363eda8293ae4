//! What the runtime says about one pod at one moment: sandboxes and containers, newest first.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::amounts::Amounts;
use crate::pod::{PodExt, SpecExt};

/// A container's state as the runtime sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

impl State {
    /// The state's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Exited => "exited",
            State::Unknown => "unknown",
        }
    }
}

/// The user a container's first process runs as.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct User {
    pub uid: i64,
    pub gid: i64,
    pub supplemental_groups: Vec<i64>,
}

/// One container (one attempt) of a pod.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Container {
    /// The runtime's id, without the `type://` part.
    pub id: String,
    pub name: String,
    pub state: State,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    /// As the runtime gives it (`Completed`, `Error`, `OOMKilled`), or empty.
    pub reason: String,
    /// The runtime's message, or the termination message once that was read.
    pub message: String,
    pub image: String,
    pub image_ref: String,
    /// Hash of the parts of the spec that need a new container when they change.
    pub spec_hash: String,
    pub restart_count: i32,
    pub sandbox_id: String,
    pub log_path: String,
    pub user: Option<User>,
    /// What the runtime applied; `None` where it does not say.
    pub applied: Option<Amounts>,
    pub stop_signal: Option<String>,
}

/// One sandbox (one attempt) of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    pub host_network: bool,
    /// Empty for host network and for sandboxes without an address.
    pub ips: Vec<String>,
}

/// The pod as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// All attempts the runtime still knows; of each name the newest first.
    pub containers: Vec<Container>,
    /// `containerd`, `r8s`: the part before `://` in container ids.
    pub runtime_name: String,
}

/// Whether a sandbox has to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxNeed {
    /// The newest sandbox serves.
    Keep { id: String, attempt: u32 },
    /// A new one with this attempt number; `replaces` names the one that has to go first.
    Create { attempt: u32, replaces: Option<String> },
}

impl Observed {
    /// The newest attempt of a container.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The ready sandbox's containers: those that belong to the pod's present life.
    pub fn active_containers(&self) -> impl Iterator<Item = &Container> {
        let active = self.sandboxes.first().filter(|s| s.ready).map(|s| s.id.as_str());
        self.containers.iter().filter(move |c| Some(c.sandbox_id.as_str()) == active)
    }

    /// The pod's addresses, from the newest ready sandbox.
    pub fn ips(&self) -> &[String] {
        self.sandboxes.iter().find(|s| s.ready).map(|s| s.ips.as_slice()).unwrap_or_default()
    }

    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|c| c.state == State::Running)
    }

    /// Whether the newest sandbox serves the pod, as upstream's `PodSandboxChanged`.
    pub fn sandbox_need(&self, pod: &Pod) -> SandboxNeed {
        let Some(newest) = self.sandboxes.first() else {
            return SandboxNeed::Create { attempt: 0, replaces: None };
        };
        let ready = self.sandboxes.iter().filter(|s| s.ready).count();
        let next = newest.attempt + 1;
        if ready > 1 || !newest.ready {
            return SandboxNeed::Create { attempt: next, replaces: Some(newest.id.clone()) };
        }
        let host = pod.spec().is_host_network();
        if newest.host_network != host {
            return SandboxNeed::Create { attempt: next, replaces: None };
        }
        if !host && newest.ips.is_empty() {
            return SandboxNeed::Create { attempt: next, replaces: Some(newest.id.clone()) };
        }
        SandboxNeed::Keep { id: newest.id.clone(), attempt: newest.attempt }
    }

    /// Whether any regular container was ever made (and so all init containers had run).
    pub fn any_regular_created(&self, pod: &Pod) -> bool {
        pod.spec()
            .containers
            .iter()
            .filter_map(|c| self.container(&c.name))
            .any(|c| c.state != State::Unknown)
    }

    /// Whether any regular container was made in the present sandbox.
    pub fn any_regular_active(&self, pod: &Pod) -> bool {
        self.active_containers().any(|c| pod.spec().containers.iter().any(|spec| spec.name == c.name))
    }

    /// Whether this container is to be started, now or after its back-off.
    pub fn should_start(&self, pod: &Pod, container: &k8s_openapi::api::core::v1::Container) -> bool {
        if pod.is_deleted() {
            return false;
        }
        match self.container(&container.name) {
            None => true,
            Some(seen) => match seen.state {
                State::Running => false,
                State::Unknown | State::Created => true,
                State::Exited => crate::pod::restarts_after(container, pod.spec(), seen.exit_code),
            },
        }
    }
}
