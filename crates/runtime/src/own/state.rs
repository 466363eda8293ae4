//! What the runtime knows of each sandbox and container, and how it is kept on disk: the CRI configuration
//! as it came (`config.pb`) and what has become of it (`state.json`).

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cri::v1;
use crate::image::write_atomically;
use crate::network::PodNetworkRequest;

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Locks; a panic elsewhere while it was held does not matter to plain data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[derive(Debug)]
pub struct Sandbox {
    pub id: String,
    pub config: v1::PodSandboxConfig,
    pub handler: String,
    pub created_at: i64,
    /// `ROOT/sandboxes/ID`: what survives a reboot.
    pub dir: PathBuf,
    /// `RUN/sandboxes/ID`: the shim's directory, mounts.
    pub run: PathBuf,
    /// Held while the sandbox is started, stopped or removed.
    pub busy: tokio::sync::Mutex<()>,
    pub state: Mutex<SandboxState>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxState {
    pub handler: String,
    pub created_at: i64,
    pub ready: bool,
    pub shim: i32,
    /// The process whose namespaces are the pod's.
    pub holder: i32,
    pub ips: Vec<IpAddr>,
    /// The network is (or may be) set up.
    pub networked: bool,
}

#[derive(Debug)]
pub struct Container {
    pub id: String,
    pub config: v1::ContainerConfig,
    pub sandbox_id: String,
    pub dir: PathBuf,
    pub run: PathBuf,
    pub busy: tokio::sync::Mutex<()>,
    pub state: Mutex<ContainerState>,
    /// Becomes true once the container has ended and that is recorded.
    pub ended: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Created,
    Running,
    Exited,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub phase: Phase,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub pid: i32,
    pub image_id: String,
    pub image_ref: String,
    /// The layers it stands on.
    pub chain: Vec<String>,
    pub log_path: String,
    pub stop_signal: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Cgroup path, without a leading `/`.
    pub cgroup: String,
    /// Changed since by UpdateContainerResources: encoded `LinuxContainerResources`.
    pub resources: Option<Vec<u8>>,
    /// OOM kills that were there when it started; the cgroup of a restart is a new one, so 0.
    pub stopping: bool,
}

impl Sandbox {
    pub fn state(&self) -> MutexGuard<'_, SandboxState> {
        lock(&self.state)
    }

    /// Changes the state and writes it.
    pub fn update(&self, change: impl FnOnce(&mut SandboxState)) -> io::Result<()> {
        let mut state = self.state();
        change(&mut state);
        write_atomically(&self.dir.join("state.json"), &serde_json::to_vec(&*state)?)
    }

    pub fn metadata(&self) -> v1::PodSandboxMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    pub fn namespace_options(&self) -> v1::NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        security.and_then(|security| security.namespace_options.clone()).unwrap_or_default()
    }

    /// The pod's own user namespace, if it has one.
    pub fn user_namespace(&self) -> Option<v1::UserNamespace> {
        let userns = self.namespace_options().userns_options;
        userns.filter(|userns| userns.mode() == v1::NamespaceMode::Pod)
    }

    pub fn netns(&self) -> PathBuf {
        self.run.join("netns")
    }

    pub fn network_request(&self) -> PodNetworkRequest {
        let metadata = self.metadata();
        PodNetworkRequest {
            sandbox_id: self.id.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            netns: self.netns(),
            port_mappings: self.config.port_mappings.clone(),
            annotations: self.config.annotations.clone(),
            labels: self.config.labels.clone(),
        }
    }

    pub fn cgroup_parent(&self) -> &str {
        cgroup_parent(self.config.linux.as_ref().map_or("", |linux| linux.cgroup_parent.as_str()))
    }
}

impl Container {
    pub fn state(&self) -> MutexGuard<'_, ContainerState> {
        lock(&self.state)
    }

    pub fn update(&self, change: impl FnOnce(&mut ContainerState)) -> io::Result<()> {
        let mut state = self.state();
        change(&mut state);
        write_atomically(&self.dir.join("state.json"), &serde_json::to_vec(&*state)?)
    }

    pub fn security(&self) -> v1::LinuxContainerSecurityContext {
        self.config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
    }

    /// The limits in force.
    pub fn resources(&self) -> v1::LinuxContainerResources {
        let updated = self.state().resources.clone();
        match updated.map(|bytes| v1::LinuxContainerResources::decode(bytes.as_slice())) {
            Some(Ok(resources)) => resources,
            _ => self.config.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default(),
        }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.run.join("rootfs")
    }
}

/// The cgroup of those who name none.
pub fn cgroup_parent(named: &str) -> &str {
    if named.is_empty() { "/r8s" } else { named }
}

/// Reads `config.pb` and `state.json` of one directory. `None`: unfinished or damaged, to be removed.
pub fn load<C: Message + Default, S: serde::de::DeserializeOwned>(dir: &Path) -> Option<(C, S)> {
    let config = C::decode(std::fs::read(dir.join("config.pb")).ok()?.as_slice()).ok()?;
    let state = serde_json::from_slice(&std::fs::read(dir.join("state.json")).ok()?).ok()?;
    Some((config, state))
}

/// Writes a new directory's `config.pb`; `state.json` follows as the last thing that makes it count.
pub fn save_config(dir: &Path, config: &impl Message) -> io::Result<()> {
    write_atomically(&dir.join("config.pb"), &config.encode_to_vec())
}
