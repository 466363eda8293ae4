//! Opening the runtime, finding what was left running, and following the pods' shims.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kernel::cgroup::{CgroupError, Hierarchy};
use tokio::sync::{broadcast, oneshot, watch};

use super::mounts;
use super::state::{self, Container, ContainerState, Phase, Sandbox, SandboxState, lock};
use crate::cri::{self, v1};
use crate::image::pull::Registries;
use crate::image::{ImageError, ImageStore};
use crate::network::PodNetwork;
use crate::shim::{self, Exit, ShimClient, Told, Watch};

pub struct Config {
    /// State that outlives a reboot: images, sandboxes, containers. e.g. `/var/lib/r8s/runtime`.
    pub root: PathBuf,
    /// State of this boot: sockets, mounts. e.g. `/run/r8s/runtime`.
    pub run: PathBuf,
    /// The command that calls [`crate::helper_main`] with what is appended: `[THIS BINARY, runtime-create]`.
    pub helper: Vec<String>,
    /// Connects pods. `None`: a pod's network namespace has loopback only.
    pub network: Option<Arc<dyn PodNetwork>>,
    /// Where images are pulled from.
    pub registries: Registries,
    /// OCI command-line runtimes (runc, crun) by runtime handler name.
    pub oci_runtimes: BTreeMap<String, PathBuf>,
    /// Images are synced to disk before they count. Off only for tests.
    pub durable_images: bool,
}

impl Config {
    /// The usual: this binary is the helper.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> io::Result<Config> {
        let binary = std::env::current_exe()?.to_string_lossy().into_owned();
        Ok(Config {
            root: root.into(),
            run: run.into(),
            helper: vec![binary, "runtime-create".to_owned()],
            network: None,
            registries: Registries::default(),
            oci_runtimes: BTreeMap::new(),
            durable_images: true,
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("runtime directory {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Images(#[from] ImageError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Shim(#[from] shim::StartError),
    #[error("streaming server on 127.0.0.1")]
    Streaming(#[source] io::Error),
    #[error("container runtime: must run as root")]
    NotRoot,
}

/// Our own runtime. Cheap to clone; implements [`cri::RuntimeService`] and [`cri::ImageService`]. Dropping it
/// leaves containers running.
#[derive(Clone)]
pub struct Runtime(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub config: Config,
    pub images: Arc<ImageStore>,
    pub hierarchy: Arc<Hierarchy>,
    pub shim_program: PathBuf,
    /// The helper's command, by way of its read-only mount.
    pub helper: Vec<String>,
    pub known_capabilities: Vec<String>,
    pub least_oom_score: Option<i64>,
    pub sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    pub containers: Mutex<HashMap<String, Arc<Container>>>,
    /// Who waits for the end of an exec, by its id.
    pub execs: Mutex<HashMap<String, oneshot::Sender<Exit>>>,
    pub streaming: crate::streaming::Server,
    pub events: broadcast::Sender<v1::ContainerEventResponse>,
}

impl Runtime {
    /// Opens the runtime's directories, takes over what runs, and removes what was left half done.
    pub async fn open(config: Config) -> Result<Runtime, OpenError> {
        if !rustix::process::geteuid().is_root() {
            return Err(OpenError::NotRoot);
        }
        for dir in [
            config.root.clone(),
            config.root.join("sandboxes"),
            config.root.join("containers"),
            config.run.clone(),
            config.run.join("sandboxes"),
            config.run.join("containers"),
            config.run.join("oci"),
        ] {
            let failed = |source| OpenError::Io { path: dir.clone(), source };
            std::fs::create_dir_all(&dir).map_err(failed)?;
            // Users of user namespaces must get through to their roots, not look around.
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
        }
        let images = Arc::new(ImageStore::open(&config.root.join("images"), config.durable_images)?);
        let shim_program = shim::install(&config.run)?;
        let read_only = |source: &Path, target: &Path| {
            mounts::read_only_program(source, target)
                .map_err(|error| OpenError::Io { path: target.to_owned(), source: error })
        };
        read_only(&shim_program, &shim_program)?;
        let mut helper = config.helper.clone();
        if let Some(program) = helper.first_mut() {
            let shown = config.run.join("helper");
            read_only(Path::new(program), &shown)?;
            *program = shown.to_string_lossy().into_owned();
        }
        let (known_capabilities, least_oom_score) = privileges();
        let inner = Arc::new(Inner {
            images,
            hierarchy: Hierarchy::detect()?,
            shim_program,
            helper,
            known_capabilities,
            least_oom_score,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            execs: Mutex::default(),
            streaming: crate::streaming::Server::start().await.map_err(OpenError::Streaming)?,
            events: broadcast::channel(1024).0,
            config,
        });
        inner.adopt().await;
        Ok(Runtime(inner))
    }

    /// The image store, for imports and builds that CRI has no call for.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.0.images
    }
}

/// The capabilities this process has, and the lowest oom_score_adj it may set if it may not set any.
fn privileges() -> (Vec<String>, Option<i64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0").trim();
    let mask = u64::from_str_radix(line, 16).unwrap_or(0);
    let has = |bit: usize| mask >> bit & 1 == 1;
    let all = super::spec::ALL_CAPABILITIES;
    let known =
        all.iter().enumerate().filter(|(bit, _)| has(*bit)).map(|(_, name)| (*name).to_owned()).collect();
    let resource = all.iter().position(|name| *name == "CAP_SYS_RESOURCE").is_some_and(has);
    let own = || std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok();
    (known, if resource { None } else { own() })
}

impl Drop for Inner {
    /// The read-only views of our programs go with the agent; what runs from them keeps them.
    fn drop(&mut self) {
        let helper = self.helper.first().map(PathBuf::from);
        for path in helper.iter().chain([&self.shim_program]) {
            warn_on_error(mounts::unmount(path), "unmount a program");
        }
    }
}

impl Inner {
    pub fn sandbox_run(&self, id: &str) -> PathBuf {
        self.config.run.join("sandboxes").join(id)
    }

    pub fn container_run(&self, id: &str) -> PathBuf {
        self.config.run.join("containers").join(id)
    }

    pub fn oci_root(&self) -> PathBuf {
        self.config.run.join("oci")
    }

    pub fn shim(&self, sandbox_id: &str) -> ShimClient {
        ShimClient::new(&self.sandbox_run(sandbox_id))
    }

    /// The sandbox of this id, or of the only id that begins so.
    pub fn sandbox(&self, id: &str) -> cri::Result<Arc<Sandbox>> {
        find(&lock(&self.sandboxes), id).ok_or_else(|| {
            cri::Error::not_found(format!("an error occurred when try to find sandbox {id:?}: not found"))
        })
    }

    pub fn container(&self, id: &str) -> cri::Result<Arc<Container>> {
        find(&lock(&self.containers), id).ok_or_else(|| {
            cri::Error::not_found(format!("an error occurred when try to find container {id:?}: not found"))
        })
    }

    pub fn containers_of(&self, sandbox_id: &str) -> Vec<Arc<Container>> {
        lock(&self.containers).values().filter(|c| c.sandbox_id == sandbox_id).cloned().collect()
    }

    async fn adopt(self: &Arc<Self>) {
        for dir in subdirectories(&self.config.root.join("containers")) {
            let id = name_of(&dir);
            let Some((config, state)) = state::load::<v1::ContainerConfig, ContainerState>(&dir) else {
                tracing::warn!(container = id, "removing an unfinished container");
                self.remove_leftovers(&id).await;
                continue;
            };
            let Some(sandbox_id) = std::fs::read_to_string(dir.join("sandbox")).ok() else { continue };
            self.images.hold(&state.chain);
            let ended = watch::channel(state.phase == Phase::Exited).0;
            let container = Container {
                run: self.container_run(&id),
                id: id.clone(),
                config,
                sandbox_id,
                dir,
                busy: Default::default(),
                state: Mutex::new(state),
                ended,
            };
            lock(&self.containers).insert(id, Arc::new(container));
        }
        let mut adopted = Vec::new();
        for dir in subdirectories(&self.config.root.join("sandboxes")) {
            let id = name_of(&dir);
            let Some((config, state)) = state::load::<v1::PodSandboxConfig, SandboxState>(&dir) else {
                tracing::warn!(sandbox = id, "removing an unfinished sandbox");
                self.remove_unfinished_sandbox(&id, &dir).await;
                continue;
            };
            let sandbox = Arc::new(Sandbox {
                run: self.sandbox_run(&id),
                id: id.clone(),
                config,
                handler: state.handler.clone(),
                created_at: state.created_at,
                dir,
                busy: Default::default(),
                state: Mutex::new(state),
            });
            lock(&self.sandboxes).insert(id, Arc::clone(&sandbox));
            adopted.push(sandbox);
        }
        for sandbox in adopted {
            self.adopt_sandbox(&sandbox).await;
        }
        self.end_stray_shims().await;
        if let Err(error) = self.images.start_collecting() {
            tracing::warn!(error = %error, "removing unused layers");
        }
    }

    /// Ends shims of this runtime that no sandbox knows: a crash came between their start and the first note of them,
    /// or somebody took our files away.
    async fn end_stray_shims(&self) {
        let run = self.config.run.join("sandboxes");
        let strays = tokio::task::spawn_blocking(move || shim::running_in(&run)).await.unwrap_or_default();
        for (pid, id) in strays {
            let known = lock(&self.sandboxes).get(&id).is_some_and(|s| s.state().ready);
            if !known {
                tracing::warn!(sandbox = id, "ending a pod shim that no sandbox knows");
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Hears from the sandbox's shim what runs. Without a shim nothing does.
    async fn adopt_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let mut alive = HashMap::new();
        let mut ended = HashMap::new();
        let mut following = None;
        if let Ok(mut watch) = self.shim(&sandbox.id).watch().await {
            following = loop {
                match watch.next().await {
                    Ok(Told::Running { id, pid }) => drop(alive.insert(id, pid)),
                    Ok(Told::Exited { id, exit }) => drop(ended.insert(id, exit)),
                    Ok(Told::Listed) => break Some(watch),
                    Err(_) => break None,
                }
            };
        }
        for container in self.containers_of(&sandbox.id) {
            if container.state().phase == Phase::Exited {
                continue;
            }
            if let Some(pid) = alive.get(&container.id) {
                // Started while nobody could note it.
                let started = container.update(|state| {
                    state.pid = *pid;
                    state.phase = Phase::Running;
                    if state.started_at == 0 {
                        state.started_at = state::now();
                    }
                });
                warn_on_error(started, "record a container");
                continue;
            }
            let exit = ended.get(&container.id).copied().or_else(|| read_exit(&sandbox.run, &container.id));
            let was_running = container.state().phase == Phase::Running;
            match exit {
                Some(exit) => self.container_ended(&container, exit).await,
                None if was_running => {
                    self.container_ended(&container, Exit { code: 255, at: state::now() }).await
                }
                None => {}
            }
        }
        match following {
            Some(watch) => self.follow(Arc::clone(sandbox), watch),
            None if sandbox.state().ready => self.sandbox_died(sandbox).await,
            None => {}
        }
    }

    /// Notes what the shim tells until it is gone.
    pub fn follow(self: &Arc<Self>, sandbox: Arc<Sandbox>, mut watch: Watch) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let told = watch.next().await;
                let Some(inner) = weak.upgrade() else { return };
                match told {
                    Ok(Told::Exited { id, exit }) => {
                        if let Some(waiter) = lock(&inner.execs).remove(&id) {
                            let _ = waiter.send(exit);
                            continue;
                        }
                        let container = lock(&inner.containers).get(&id).cloned();
                        if let Some(container) = container {
                            inner.container_ended(&container, exit).await;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => {
                        if sandbox.state().ready {
                            inner.sandbox_died(&sandbox).await;
                        }
                        return;
                    }
                }
            }
        });
    }

    /// The shim is gone although nobody asked: its containers can't be told about any more, so they end.
    async fn sandbox_died(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        tracing::warn!(sandbox = sandbox.id, "the pod's shim is gone");
        warn_on_error(sandbox.update(|state| state.ready = false), "record a sandbox");
        for container in self.containers_of(&sandbox.id) {
            if container.state().phase == Phase::Running {
                self.kill_cgroup(&container).await;
                let exit =
                    read_exit(&sandbox.run, &container.id).unwrap_or(Exit { code: 255, at: state::now() });
                self.container_ended(&container, exit).await;
            }
        }
        self.tell(v1::ContainerEventType::ContainerStoppedEvent, &sandbox.id, &sandbox.id);
    }
}

/// By whole id, or by a beginning that only one has.
fn find<T>(all: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(Arc::clone(found));
    }
    let mut matching = all.iter().filter(|(have, _)| !id.is_empty() && have.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some((_, found)), None) => Some(Arc::clone(found)),
        _ => None,
    }
}

/// What the shim wrote when the container ended.
pub(super) fn read_exit(run: &Path, id: &str) -> Option<Exit> {
    let text = std::fs::read_to_string(run.join(format!("{id}.exit"))).ok()?;
    let (code, at) = text.trim().split_once(' ')?;
    Some(Exit { code: code.parse().ok()?, at: at.parse().ok()? })
}

pub(super) fn warn_on_error<E: std::fmt::Display>(result: Result<(), E>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// 64 random hex digits.
pub(super) fn new_id() -> cri::Result<String> {
    let mut bytes = [0u8; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|error| cri::Error::internal(format!("random id: {error}")))?;
    Ok(crate::image::hex(&bytes))
}
