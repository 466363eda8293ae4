//! Pod sandboxes: a shim with its namespaces, a network, a cgroup, a few files.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use prost::Message;

use super::lifecycle::{Inner, new_id, warn_on_error};
use super::mounts;
use super::state::{self, Sandbox, SandboxState, lock};
use crate::cri::v1::{self, ContainerEventType, NamespaceMode};
use crate::cri::{self, Error};
use crate::image::chain;
use crate::shim::{Namespaces, ShimClient};

/// As docker and containerd: a pod's shared memory.
const SHM_BYTES: u64 = 64 << 20;

impl Inner {
    pub async fn run_pod_sandbox(
        self: &Arc<Self>,
        config: v1::PodSandboxConfig,
        handler: String,
    ) -> cri::Result<String> {
        let metadata =
            config.metadata.clone().ok_or_else(|| Error::invalid("sandbox config must include metadata"))?;
        if !handler.is_empty() && handler != "r8s" && !self.config.oci_runtimes.contains_key(&handler) {
            return Err(Error::unknown(format!("no runtime for {handler:?} is configured")));
        }
        let id = new_id()?;
        let state =
            SandboxState { handler: handler.clone(), created_at: state::now(), ..SandboxState::default() };
        let sandbox = Arc::new(Sandbox {
            dir: self.config.root.join("sandboxes").join(&id),
            run: self.sandbox_run(&id),
            id: id.clone(),
            config,
            handler,
            created_at: state.created_at,
            busy: Default::default(),
            state: Mutex::new(state),
        });
        let _busy = sandbox.busy.lock().await;
        {
            let mut all = lock(&self.sandboxes);
            if let Some(other) = all.values().find(|other| other.config.metadata.as_ref() == Some(&metadata))
            {
                let name =
                    format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt);
                let text = format!(
                    "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {:?}",
                    other.id
                );
                return Err(Error::unknown(text));
            }
            all.insert(id.clone(), Arc::clone(&sandbox));
        }
        match self.start_sandbox(&sandbox).await {
            Ok(()) => {
                self.tell(ContainerEventType::ContainerCreatedEvent, &id, &id);
                self.tell(ContainerEventType::ContainerStartedEvent, &id, &id);
                Ok(id)
            }
            Err(error) => {
                self.tear_down(&sandbox)
                    .await
                    .unwrap_or_else(|error| tracing::warn!(%error, "undo a sandbox"));
                lock(&self.sandboxes).remove(&id);
                Err(Error::unknown(format!("failed to create pod sandbox: {}", error.message)))
            }
        }
    }

    async fn start_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> cri::Result<()> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| Error::unknown(format!("{path}: {error}"))
        };
        std::fs::create_dir_all(&sandbox.dir).map_err(at(&sandbox.dir))?;
        std::fs::create_dir_all(&sandbox.run).map_err(at(&sandbox.run))?;
        state::save_config(&sandbox.dir, &sandbox.config).map_err(at(&sandbox.dir))?;
        write_files(sandbox).map_err(at(&sandbox.run))?;
        if !sandbox.config.log_directory.is_empty() {
            let logs = Path::new(&sandbox.config.log_directory);
            std::fs::create_dir_all(logs).map_err(at(logs))?;
        }
        let options = sandbox.namespace_options();
        let namespaces = namespaces(&options)?;
        if namespaces.ipc {
            let shm = sandbox.run.join("shm");
            mounts::shared_memory(&shm, SHM_BYTES).map_err(at(&shm))?;
            if let Some(userns) = sandbox.user_namespace() {
                let outside =
                    |maps: &[v1::IdMapping]| maps.iter().find(|m| m.container_id == 0).map(|m| m.host_id);
                std::os::unix::fs::chown(&shm, outside(&userns.uids), outside(&userns.gids))
                    .map_err(at(&shm))?;
            }
        }
        let sysctls = sysctls(&sandbox.config, &namespaces);
        let started =
            crate::shim::start(&self.shim_program, &sandbox.run, &hostname(sandbox), &namespaces, &sysctls)
                .await
                .map_err(|error| Error::unknown(chain(&error)))?;
        self.confine_shim(sandbox, [started.shim, started.holder])?;
        let networked = namespaces.net;
        let record = |ready: bool, ips: Vec<std::net::IpAddr>| {
            sandbox
                .update(|state| {
                    state.ready = ready;
                    (state.shim, state.holder, state.networked) = (started.shim, started.holder, networked);
                    state.ips = ips;
                })
                .map_err(at(&sandbox.dir))
        };
        if networked {
            let netns = sandbox.netns();
            mounts::pin_namespace(started.holder, "net", &netns).map_err(at(&netns))?;
            // From here on a crash must find that there is a network to take down.
            record(false, Vec::new())?;
            let mut ips = Vec::new();
            if let Some(network) = &self.config.network {
                let request = sandbox.network_request();
                let status = network.setup(&request).await.map_err(|error| {
                    Error::unknown(format!("failed to setup network for sandbox {:?}: {error}", sandbox.id))
                })?;
                ips = status.ips;
            }
            record(true, ips)?;
        } else {
            record(true, Vec::new())?;
        }
        let watch =
            self.shim(&sandbox.id).watch().await.map_err(|error| Error::unknown(error.to_string()))?;
        self.follow(Arc::clone(sandbox), watch);
        Ok(())
    }

    /// The shim counts to the pod, and is the last to be killed for memory.
    fn confine_shim(&self, sandbox: &Sandbox, pids: [i32; 2]) -> cri::Result<()> {
        let cgroup = self.hierarchy.cgroup(sandbox.cgroup_parent()).child(&sandbox.id);
        cgroup.create().map_err(|error| Error::unknown(chain(&error)))?;
        for pid in pids {
            let pid = u32::try_from(pid).unwrap_or(0);
            cgroup.add(pid).map_err(|error| Error::unknown(chain(&error)))?;
            let score = self.least_oom_score.map_or(-998, |least| least.max(-998));
            let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
        }
        Ok(())
    }

    pub async fn stop_pod_sandbox(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _busy = sandbox.busy.lock().await;
        for container in self.containers_of(&sandbox.id) {
            self.stop_container(&container, 0).await?;
        }
        let was_ready = sandbox.state().ready;
        self.take_down(&sandbox).await?;
        if was_ready {
            self.tell(ContainerEventType::ContainerStoppedEvent, &sandbox.id, &sandbox.id);
        }
        Ok(())
    }

    /// Network, shim, mounts. Level: does what is left to do.
    async fn take_down(&self, sandbox: &Sandbox) -> cri::Result<()> {
        if sandbox.state().networked {
            if let Some(network) = &self.config.network {
                let request = sandbox.network_request();
                network.teardown(&request).await.map_err(|error| {
                    Error::unknown(format!("failed to destroy network for sandbox {:?}: {error}", sandbox.id))
                })?;
            }
            sandbox
                .update(|state| state.networked = false)
                .map_err(|error| Error::unknown(error.to_string()))?;
        }
        if sandbox.state().ready {
            sandbox.update(|state| state.ready = false).map_err(|error| Error::unknown(error.to_string()))?;
        }
        ShimClient::new(&sandbox.run).quit().await;
        for name in ["netns", "shm"] {
            let path = sandbox.run.join(name);
            mounts::unmount(&path)
                .map_err(|error| Error::unknown(format!("unmount {}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Everything of the sandbox, on disk too. Containers have been removed.
    async fn tear_down(&self, sandbox: &Sandbox) -> cri::Result<()> {
        self.take_down(sandbox).await?;
        let cgroup = self.hierarchy.cgroup(sandbox.cgroup_parent()).child(&sandbox.id);
        warn_on_error(super::container::remove_cgroup(&cgroup).await, "remove a sandbox's cgroup");
        for dir in [&sandbox.run, &sandbox.dir] {
            remove_dir(dir).await.map_err(|error| Error::unknown(format!("{}: {error}", dir.display())))?;
        }
        Ok(())
    }

    pub async fn remove_pod_sandbox(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        self.stop_pod_sandbox(&sandbox.id).await?;
        let _busy = sandbox.busy.lock().await;
        for container in self.containers_of(&sandbox.id) {
            self.remove_container(&container).await?;
        }
        self.tear_down(&sandbox).await?;
        self.tell(ContainerEventType::ContainerDeletedEvent, &sandbox.id, &sandbox.id);
        lock(&self.sandboxes).remove(&sandbox.id);
        Ok(())
    }

    /// A crash left a sandbox whose state was never written.
    pub async fn remove_unfinished_sandbox(&self, id: &str, dir: &Path) {
        let run = self.sandbox_run(id);
        ShimClient::new(&run).quit().await;
        for name in ["netns", "shm"] {
            warn_on_error(mounts::unmount(&run.join(name)), "unmount");
        }
        let config = std::fs::read(dir.join("config.pb")).ok();
        if let Some(config) = config.and_then(|bytes| v1::PodSandboxConfig::decode(bytes.as_slice()).ok()) {
            let parent = config.linux.as_ref().map_or("", |linux| linux.cgroup_parent.as_str());
            let cgroup = self.hierarchy.cgroup(state::cgroup_parent(parent)).child(id);
            warn_on_error(super::container::remove_cgroup(&cgroup).await, "remove a sandbox's cgroup");
        }
        for dir in [run.as_path(), dir] {
            warn_on_error(remove_dir(dir).await, "remove an unfinished sandbox");
        }
    }

    pub fn sandbox_status(&self, sandbox: &Sandbox) -> v1::PodSandboxStatus {
        let state = sandbox.state().clone();
        let mut ips = state.ips.iter().map(ToString::to_string);
        let network = v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        };
        let options = Some(sandbox.namespace_options());
        v1::PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox_state(&state) as i32,
            created_at: sandbox.created_at,
            network: Some(network),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            runtime_handler: sandbox.handler.clone(),
        }
    }

    pub fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let filter = filter.unwrap_or_default();
        let all: Vec<Arc<Sandbox>> = lock(&self.sandboxes).values().cloned().collect();
        let items = all.iter().map(|sandbox| v1::PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox_state(&sandbox.state()) as i32,
            created_at: sandbox.created_at,
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            runtime_handler: sandbox.handler.clone(),
        });
        items
            .filter(|item| super::filter::id_matches(&item.id, &filter.id))
            .filter(|item| filter.state.as_ref().is_none_or(|wanted| wanted.state == item.state))
            .filter(|item| super::filter::labels_match(&item.labels, &filter.label_selector))
            .collect()
    }

    /// The sandbox, if containers can be made in it.
    pub fn ready_sandbox(&self, id: &str) -> cri::Result<Arc<Sandbox>> {
        let sandbox = self.sandbox(id)?;
        match sandbox.state().ready {
            true => Ok(Arc::clone(&sandbox)),
            false => Err(Error::unknown(format!("sandbox container {id:?} is not running"))),
        }
    }
}

fn sandbox_state(state: &SandboxState) -> v1::PodSandboxState {
    if state.ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
}

fn namespaces(options: &v1::NamespaceOption) -> cri::Result<Namespaces> {
    let own = |mode: NamespaceMode| mode != NamespaceMode::Node;
    let userns = options.userns_options.as_ref().filter(|userns| userns.mode() == NamespaceMode::Pod);
    let user = match userns {
        Some(userns) if userns.uids.is_empty() || userns.gids.is_empty() => {
            return Err(Error::invalid("user namespace without id mappings"));
        }
        Some(userns) => {
            let lines = |maps: &[v1::IdMapping]| {
                maps.iter().map(|m| format!("{} {} {}", m.container_id, m.host_id, m.length)).collect()
            };
            Some((lines(&userns.uids), lines(&userns.gids)))
        }
        None => None,
    };
    Ok(Namespaces {
        net: own(options.network()),
        // As containerd: a pod on the host's network has the host's name too.
        uts: own(options.network()),
        ipc: own(options.ipc()),
        pid: options.pid() == NamespaceMode::Pod,
        user,
    })
}

/// The pod's own, and containerd's defaults: low ports and ping need no capability in a pod's network.
fn sysctls(config: &v1::PodSandboxConfig, namespaces: &Namespaces) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if namespaces.net {
        all.insert("?net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        if namespaces.user.is_none() {
            all.insert("?net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    for (name, value) in config.linux.iter().flat_map(|linux| &linux.sysctls) {
        let name = name.replace('/', ".");
        all.remove(&format!("?{name}"));
        all.insert(name, value.clone());
    }
    all
}

pub(super) fn hostname(sandbox: &Sandbox) -> String {
    match sandbox.config.hostname.as_str() {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        name => name.to_owned(),
    }
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of the pod.
fn write_files(sandbox: &Sandbox) -> io::Result<()> {
    std::fs::write(sandbox.run.join("hostname"), format!("{}\n", hostname(sandbox)))?;
    let hosts = match sandbox.namespace_options().network() {
        NamespaceMode::Node => std::fs::read("/etc/hosts").unwrap_or_default(),
        _ => b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_vec(),
    };
    std::fs::write(sandbox.run.join("hosts"), hosts)?;
    let resolv = match &sandbox.config.dns_config {
        Some(dns) if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) => {
            let mut text = String::new();
            if !dns.searches.is_empty() {
                text += &format!("search {}\n", dns.searches.join(" "));
            }
            for server in &dns.servers {
                text += &format!("nameserver {server}\n");
            }
            if !dns.options.is_empty() {
                text += &format!("options {}\n", dns.options.join(" "));
            }
            text.into_bytes()
        }
        _ => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
    };
    std::fs::write(sandbox.run.join("resolv.conf"), resolv)
}

/// Away from the runtime's threads: a container's layer may have a million files.
pub(super) async fn remove_dir(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    match removed.map_err(io::Error::other)? {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
