//! Containers: created as an overlay and a configuration, started by a helper as a child of the pod's shim.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel::cgroup::{Cgroup, CgroupError};
use kernel::rootdir::RootDir;
use tokio::sync::watch;

use super::lifecycle::{Inner, new_id, warn_on_error};
use super::sandbox::{hostname, remove_dir};
use super::spec::{self, Input};
use super::state::{self, Container, ContainerState, Phase, Sandbox, lock};
use super::users::{self, Wanted};
use super::{devices, filter, mounts, resources, seccomp, signals};
use crate::confine::{self, Confinement};
use crate::cri::v1::{self, ContainerEventType, NamespaceMode};
use crate::cri::{self, Error};
use crate::image::Image;
use crate::image::chain;
use crate::shim::{Exit, ShimError};

/// As containerd: the container never ran.
const START_ERROR: (i32, &str) = (128, "StartError");

fn at<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::unknown(format!("{}: {error}", path.display()))
}

impl Inner {
    pub async fn create_container(
        self: &Arc<Self>,
        request: v1::CreateContainerRequest,
    ) -> cri::Result<String> {
        let sandbox = self.ready_sandbox(&request.pod_sandbox_id)?;
        let config = request.config.ok_or_else(|| Error::invalid("container config is missing"))?;
        let metadata = config
            .metadata
            .clone()
            .ok_or_else(|| Error::invalid("container config must include metadata"))?;
        let image = self.image_for(&config)?;
        let id = new_id()?;
        let dir = self.config.root.join("containers").join(&id);
        let log_path = match (sandbox.config.log_directory.as_str(), config.log_path.as_str()) {
            ("", _) | (_, "") => String::new(),
            (dir, path) => Path::new(dir).join(path).to_string_lossy().into_owned(),
        };
        let state = ContainerState {
            created_at: state::now(),
            image_id: image.id.clone(),
            image_ref: image.reference(),
            chain: image.record.chain.clone(),
            log_path,
            stop_signal: image.config.config.stop_signal.clone(),
            cgroup: Path::new(sandbox.cgroup_parent())
                .join(&id)
                .to_string_lossy()
                .trim_start_matches('/')
                .to_owned(),
            ..ContainerState::default()
        };
        let container = Arc::new(Container {
            run: self.container_run(&id),
            id: id.clone(),
            config,
            sandbox_id: sandbox.id.clone(),
            dir,
            busy: Default::default(),
            state: Mutex::new(state),
            ended: watch::channel(false).0,
        });
        {
            let mut all = lock(&self.containers);
            let same = |other: &&Arc<Container>| {
                other.sandbox_id == sandbox.id && other.config.metadata.as_ref() == Some(&metadata)
            };
            if let Some(other) = all.values().find(same) {
                let name = format!("{}_{}_{}", metadata.name, sandbox.metadata().name, metadata.attempt);
                let text = format!(
                    "failed to reserve container name {name:?}: name {name:?} is reserved for {:?}",
                    other.id
                );
                return Err(Error::unknown(text));
            }
            all.insert(id.clone(), Arc::clone(&container));
        }
        self.images.hold(&image.record.chain);
        match self.prepare(&sandbox, &container, &image) {
            Ok(()) => {
                self.tell(ContainerEventType::ContainerCreatedEvent, &id, &sandbox.id);
                Ok(id)
            }
            Err(error) => {
                warn_on_error(self.discard(&container).await, "undo a container");
                Err(Error { message: format!("failed to create container: {}", error.message), ..error })
            }
        }
    }

    fn image_for(&self, config: &v1::ContainerConfig) -> cri::Result<Image> {
        let spec = config.image.clone().unwrap_or_default();
        let found = self.images.find(&spec.image).or_else(|| self.images.find(&spec.user_specified_image));
        found.ok_or_else(|| Error::not_found(format!("failed to resolve image {:?}: not found", spec.image)))
    }

    /// Mounts the root, finds out who runs, writes the configuration.
    fn prepare(&self, sandbox: &Sandbox, container: &Container, image: &Image) -> cri::Result<()> {
        let (upper, work, rootfs) =
            (container.dir.join("upper"), container.dir.join("work"), container.rootfs());
        for dir in [&container.dir, &upper, &work, &container.run, &rootfs] {
            std::fs::create_dir_all(dir).map_err(at(dir))?;
        }
        state::save_config(&container.dir, &container.config).map_err(at(&container.dir))?;
        std::fs::write(container.dir.join("sandbox"), &container.sandbox_id).map_err(at(&container.dir))?;
        let lower = self.images.lower_dirs(&image.record.chain);
        if lower.is_empty() {
            return Err(Error::unknown(format!("image {} has no layers", image.id)));
        }
        match sandbox.user_namespace() {
            None => mounts::overlay(&lower, Some((&upper, &work)), &rootfs).map_err(at(&rootfs))?,
            Some(_) => self.mapped_overlay(sandbox, container, &lower).map_err(at(&rootfs))?,
        }
        let root = RootDir::open(&rootfs).map_err(at(&rootfs))?;
        let security = container.security();
        let user = users::resolve(
            &root,
            &Wanted {
                image: &image.config.config.user,
                uid: security.run_as_user.map(|v| v.value),
                gid: security.run_as_group.map(|v| v.value),
                name: &security.run_as_username,
                groups: &security.supplemental_groups,
                merge: security.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Merge,
            },
        )
        .map_err(Error::unknown)?;
        let image_mounts = self.image_mounts(container)?;
        for mount in container.config.mounts.iter().filter(|m| m.image.is_none()) {
            let source = Path::new(&mount.host_path);
            if !source.exists() {
                std::fs::create_dir_all(source).map_err(at(source))?;
            }
        }
        let target = match security.namespace_options.as_ref() {
            Some(options) if options.pid() == NamespaceMode::Target => {
                self.target_pid(sandbox, &options.target_id)?
            }
            _ => None,
        };
        let devices = devices::asked(&container.config)?;
        let state = container.state().clone();
        let cgroup = self.hierarchy.cgroup(&state.cgroup);
        let v1_cgroups = cgroup.v1_directories();
        if !v1_cgroups.is_empty() {
            // They are mounted, so they must be there before libcontainer puts the container into them.
            cgroup.create().map_err(|error| Error::unknown(chain(&error)))?;
        }
        let oci = spec::make(&Input {
            container: &container.config,
            sandbox: &sandbox.config,
            image: &image.config.config,
            user: &user,
            rootfs: &rootfs,
            cgroup: &format!("/{}", state.cgroup),
            holder: sandbox.state().holder,
            target,
            sandbox_dir: &sandbox.run,
            hostname: &hostname(sandbox),
            unified_cgroups: self.hierarchy.is_unified(),
            swap_is_limited: cgroup.limits_swap(),
            v1_cgroups: &v1_cgroups,
            known_capabilities: &self.known_capabilities,
            least_oom_score: self.least_oom_score,
            host_devices: &if security.privileged {
                devices::below(Path::new("/dev"), "/dev", 0)
            } else {
                Vec::new()
            },
            devices: &devices,
            image_mounts: &image_mounts,
        })
        .map_err(Error::invalid)?;
        let foreign = self.config.oci_runtimes.contains_key(&sandbox.handler);
        let (oci, confinement) = confine(oci, &security, foreign)?;
        if let Some(confinement) = confinement {
            let path = container.run.join(confine::FILE);
            let bytes =
                serde_json::to_vec(&confinement).map_err(|error| Error::internal(error.to_string()))?;
            std::fs::write(&path, bytes).map_err(at(&path))?;
        }
        let path = container.run.join("config.json");
        std::fs::write(&path, oci.to_string()).map_err(at(&path))?;
        let record = |state: &mut ContainerState| {
            (state.uid, state.gid, state.groups) = (user.uid, user.gid, user.groups)
        };
        container.update(record).map_err(at(&container.dir))
    }

    /// The root of a pod with a user namespace: layers belong to the namespace's users.
    fn mapped_overlay(&self, sandbox: &Sandbox, container: &Container, lower: &[PathBuf]) -> io::Result<()> {
        let (upper, work, rootfs) =
            (container.dir.join("upper"), container.dir.join("work"), container.rootfs());
        let holder = sandbox.state().holder;
        let userns = std::fs::File::open(format!("/proc/{holder}/ns/user"))?;
        let outside = |maps: &[v1::IdMapping]| maps.iter().find(|m| m.container_id == 0).map(|m| m.host_id);
        let options = sandbox.user_namespace().unwrap_or_default();
        std::os::unix::fs::chown(&upper, outside(&options.uids), outside(&options.gids))?;
        let mut mapped = Vec::new();
        let mut result = Ok(());
        for (index, dir) in lower.iter().enumerate() {
            let place = container.run.join(format!("lower-{index}"));
            std::fs::create_dir_all(&place)?;
            result = kernel::idmap::mount(dir, &place, &userns);
            mapped.push(place);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = mounts::overlay(&mapped, Some((&upper, &work)), &rootfs);
        }
        // The overlay has its own hold on them.
        for place in mapped {
            mounts::unmount(&place)?;
        }
        result
    }

    fn target_pid(&self, sandbox: &Sandbox, id: &str) -> cri::Result<Option<i32>> {
        let target = self.container(id)?;
        let state = target.state();
        Ok((target.sandbox_id == sandbox.id && state.phase == Phase::Running).then_some(state.pid))
    }

    /// Image volumes: read-only views of an image, or of a path in it.
    fn image_mounts(&self, container: &Container) -> cri::Result<BTreeMap<usize, PathBuf>> {
        let mut all = BTreeMap::new();
        for (index, mount) in container.config.mounts.iter().enumerate() {
            let Some(spec) = mount.image.as_ref().filter(|spec| !spec.image.is_empty()) else { continue };
            let image = self.images.find(&spec.image);
            let image =
                image.ok_or_else(|| Error::not_found(format!("image volume {:?}: not found", spec.image)))?;
            let place = container.run.join(format!("image-{index}"));
            std::fs::create_dir_all(&place).map_err(at(&place))?;
            let mut lower = self.images.lower_dirs(&image.record.chain);
            if lower.len() == 1 {
                // overlayfs wants two; an empty one costs nothing.
                let empty = container.run.join("empty");
                std::fs::create_dir_all(&empty).map_err(at(&empty))?;
                lower.push(empty);
            }
            mounts::overlay(&lower, None, &place).map_err(at(&place))?;
            let source = match mount.image_sub_path.as_str() {
                "" => place,
                sub => {
                    let root = RootDir::open(&place).map_err(at(&place))?;
                    let inside =
                        root.open_at(Path::new(sub), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
                    let inside = inside
                        .map_err(|error| Error::unknown(format!("image volume sub path {sub:?}: {error}")))?;
                    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inside));
                    std::fs::read_link(link).map_err(at(&place))?
                }
            };
            all.insert(index, source);
        }
        Ok(all)
    }

    pub async fn start_container(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let container = self.container(id)?;
        let sandbox = self.ready_sandbox(&container.sandbox_id)?;
        let _busy = container.busy.lock().await;
        let phase = container.state().phase;
        if phase != Phase::Created {
            let text = format!("container {:?} is in {} state", container.id, phase_of(phase).as_str_name());
            return Err(Error::unknown(format!("failed to start container {:?}: {text}", container.id)));
        }
        let started = match self.launch(&sandbox, &container).await {
            Ok(pid) => pid,
            Err(error) => {
                let message = format!("failed to start container {:?}: {error}", container.id);
                let now = state::now();
                let failed = |state: &mut ContainerState| {
                    state.phase = Phase::Exited;
                    (state.started_at, state.finished_at) = (now, now);
                    (state.exit_code, state.reason) = (START_ERROR.0, START_ERROR.1.to_owned());
                    state.message.clone_from(&message);
                };
                container.update(failed).map_err(at(&container.dir))?;
                container.ended.send_replace(true);
                self.clean_oci(&container).await;
                self.tell(ContainerEventType::ContainerStoppedEvent, &container.id, &container.sandbox_id);
                return Err(Error::unknown(message));
            }
        };
        let recorded = container.update(|state| {
            state.pid = started;
            state.started_at = state::now();
            // A very short one may have been recorded as ended already.
            if state.phase == Phase::Created {
                state.phase = Phase::Running;
            } else {
                state.started_at = state.started_at.min(state.finished_at);
            }
        });
        recorded.map_err(at(&container.dir))?;
        if container.state().resources.is_some() {
            // Changed between creation and start.
            let cgroup = self.hierarchy.cgroup(container.state().cgroup.as_str());
            warn_on_error(cgroup.set(&resources::limits(&container.resources())), "apply changed resources");
        }
        self.tell(ContainerEventType::ContainerStartedEvent, &container.id, &container.sandbox_id);
        Ok(())
    }

    async fn launch(&self, sandbox: &Sandbox, container: &Container) -> Result<i32, String> {
        let config = &container.config;
        let log_path = container.state().log_path.clone();
        if let Some(dir) = Path::new(&log_path).parent().filter(|_| !log_path.is_empty()) {
            std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let mut flags = String::new();
        for (flag, set) in [('t', config.tty), ('i', config.stdin), ('o', config.stdin_once)] {
            if set {
                flags.push(flag);
            }
        }
        let console =
            if config.tty { sandbox.run.join(format!("{}.console", container.id)) } else { PathBuf::new() };
        let mut argv = self.helper_command("create", &container.id, &container.run, &console);
        if let Some(program) = self.config.oci_runtimes.get(&sandbox.handler) {
            let at = self.helper.len();
            "create-with".clone_into(&mut argv[at]);
            argv.insert(at + 1, program.to_string_lossy().into_owned());
        }
        let pid = self.shim(&sandbox.id).run(&container.id, true, &log_path, &flags, &argv, &[]).await;
        pid.map_err(|error| chain(&error))
    }

    pub fn helper_command(&self, what: &str, id: &str, subject: &Path, console: &Path) -> Vec<String> {
        let mut argv = self.helper.clone();
        let root = self.oci_root();
        argv.extend(
            [what, &root.to_string_lossy(), id, &subject.to_string_lossy(), &console.to_string_lossy()]
                .map(str::to_owned),
        );
        argv
    }

    /// Records the end of a container and clears away what held it.
    pub async fn container_ended(self: &Arc<Self>, container: &Arc<Container>, exit: Exit) {
        if container.state().phase == Phase::Exited {
            return;
        }
        let cgroup = self.hierarchy.cgroup(container.state().cgroup.as_str());
        let out_of_memory = exit.code == 137 && cgroup.usage().oom_kills > 0;
        let reason = match exit.code {
            _ if out_of_memory => "OOMKilled",
            0 => "Completed",
            255 if exit.at == 0 => "Unknown",
            _ => "Error",
        };
        let recorded = container.update(|state| {
            state.phase = Phase::Exited;
            state.exit_code = exit.code;
            state.finished_at = exit.at;
            state.reason = reason.to_owned();
            state.pid = 0;
            // A very short one has ended before its start could be noted.
            if state.started_at == 0 || (exit.at > 0 && state.started_at > exit.at) {
                state.started_at = exit.at;
            }
        });
        warn_on_error(recorded, "record a container's end");
        container.ended.send_replace(true);
        self.tell(ContainerEventType::ContainerStoppedEvent, &container.id, &container.sandbox_id);
        let (inner, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move { inner.clean_oci(&container).await });
    }

    /// Whatever is left running of an ended container, its cgroup, libcontainer's directory.
    async fn clean_oci(&self, container: &Container) {
        self.kill_cgroup(container).await;
        let handler =
            self.sandbox(&container.sandbox_id).map(|sandbox| sandbox.handler.clone()).unwrap_or_default();
        if let Some(program) = self.config.oci_runtimes.get(&handler) {
            let mut command = tokio::process::Command::new(program);
            command.arg("--root").arg(self.oci_root()).args(["delete", "--force", &container.id]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = command.status().await;
        }
        let cgroup = self.hierarchy.cgroup(container.state().cgroup.as_str());
        warn_on_error(remove_cgroup(&cgroup).await, "remove a container's cgroup");
        warn_on_error(remove_dir(&self.oci_root().join(&container.id)).await, "remove a container's state");
    }

    /// Kills all processes of the container until there are none.
    pub async fn kill_cgroup(&self, container: &Container) {
        let cgroup = self.hierarchy.cgroup(container.state().cgroup.as_str());
        for round in 0..200u64 {
            if cgroup.processes().is_empty() {
                return;
            }
            cgroup.kill();
            tokio::time::sleep(Duration::from_millis(2 + round)).await;
        }
        tracing::warn!(container = container.id, "processes of an ended container can't be killed");
    }

    /// `timeout`: seconds of grace; 0: killed at once.
    pub async fn stop_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: i64,
    ) -> cri::Result<()> {
        let mut ended = container.ended.subscribe();
        let _busy = container.busy.lock().await;
        if container.state().phase != Phase::Running {
            return Ok(());
        }
        let shim = self.shim(&container.sandbox_id);
        if timeout > 0 {
            self.send_signal(container, stop_signal(container)).await?;
            let grace = Duration::from_secs(timeout.unsigned_abs());
            if tokio::time::timeout(grace, ended.wait_for(|ended| *ended)).await.is_ok() {
                return Ok(());
            }
        }
        self.send_signal(container, 9).await?;
        let shares_pids =
            container.security().namespace_options.is_some_and(|o| o.pid() != NamespaceMode::Container);
        if shares_pids {
            self.kill_cgroup(container).await;
        }
        let limit = Duration::from_secs(30);
        match tokio::time::timeout(limit, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                drop(shim);
                Err(Error::new(
                    cri::Code::DeadlineExceeded,
                    format!("container {:?} does not end after SIGKILL", container.id),
                ))
            }
        }
    }

    async fn send_signal(&self, container: &Container, signal: i32) -> cri::Result<()> {
        match self.shim(&container.sandbox_id).signal(&container.id, signal).await {
            // Ended meanwhile, or the shim has gone, which `follow` notices.
            Ok(()) | Err(ShimError::Gone(_)) => Ok(()),
            Err(ShimError::Refused(text)) if text == "no such process" => Ok(()),
            Err(error) => Err(Error::unknown(chain(&error))),
        }
    }

    pub async fn remove_container(self: &Arc<Self>, container: &Arc<Container>) -> cri::Result<()> {
        self.stop_container(container, 0).await?;
        let _busy = container.busy.lock().await;
        self.discard(container).await?;
        self.tell(ContainerEventType::ContainerDeletedEvent, &container.id, &container.sandbox_id);
        Ok(())
    }

    /// Takes everything of a container that does not run off this machine.
    async fn discard(&self, container: &Container) -> cri::Result<()> {
        let _ = self.shim(&container.sandbox_id).forget(&container.id).await;
        self.clean_oci(container).await;
        self.unmount_all(&container.run)?;
        let _ = std::fs::remove_file(
            self.sandbox_run(&container.sandbox_id).join(format!("{}.exit", container.id)),
        );
        for dir in [&container.run, &container.dir] {
            remove_dir(dir).await.map_err(at(dir))?;
        }
        let chain = container.state().chain.clone();
        if lock(&self.containers).remove(&container.id).is_some() {
            self.images.release(&chain);
        }
        Ok(())
    }

    fn unmount_all(&self, run: &Path) -> cri::Result<()> {
        for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == "rootfs" || name.starts_with("image-") || name.starts_with("lower-") {
                mounts::unmount(&entry.path()).map_err(|error| at(&entry.path())(error))?;
            }
        }
        Ok(())
    }

    /// A crash left a container whose state was never written.
    pub async fn remove_leftovers(&self, id: &str) {
        let run = self.container_run(id);
        warn_on_error(self.unmount_all(&run), "unmount");
        for dir in [run, self.config.root.join("containers").join(id), self.oci_root().join(id)] {
            warn_on_error(remove_dir(&dir).await, "remove an unfinished container");
        }
    }

    pub fn container_status(&self, container: &Container) -> v1::ContainerStatus {
        let state = container.state().clone();
        let user = v1::LinuxContainerUser {
            uid: state.uid.into(),
            gid: state.gid.into(),
            supplemental_groups: state.groups.iter().map(|gid| i64::from(*gid)).collect(),
        };
        v1::ContainerStatus {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            state: phase_of(state.phase) as i32,
            created_at: state.created_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            exit_code: state.exit_code,
            image: container.config.image.clone(),
            image_ref: state.image_ref,
            reason: state.reason,
            message: state.message,
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
            mounts: container.config.mounts.clone(),
            log_path: state.log_path,
            resources: Some(v1::ContainerResources { linux: Some(container.resources()) }),
            image_id: state.image_id,
            user: Some(v1::ContainerUser { linux: Some(user) }),
            stop_signal: signals::of_number(stop_signal(container)) as i32,
        }
    }

    pub fn list_containers(&self, wanted: Option<v1::ContainerFilter>) -> Vec<v1::Container> {
        let wanted = wanted.unwrap_or_default();
        let all: Vec<Arc<Container>> = lock(&self.containers).values().cloned().collect();
        all.iter()
            .filter(|c| {
                filter::id_matches(&c.id, &wanted.id)
                    && filter::id_matches(&c.sandbox_id, &wanted.pod_sandbox_id)
            })
            .filter(|c| wanted.state.as_ref().is_none_or(|s| s.state == phase_of(c.state().phase) as i32))
            .filter(|c| filter::labels_match(&c.config.labels, &wanted.label_selector))
            .map(|c| {
                let state = c.state();
                v1::Container {
                    id: c.id.clone(),
                    pod_sandbox_id: c.sandbox_id.clone(),
                    metadata: c.config.metadata.clone(),
                    image: c.config.image.clone(),
                    image_ref: state.image_ref.clone(),
                    state: phase_of(state.phase) as i32,
                    created_at: state.created_at,
                    labels: c.config.labels.clone(),
                    annotations: c.config.annotations.clone(),
                    image_id: state.image_id.clone(),
                }
            })
            .collect()
    }
}

/// The seccomp filter of a container, and the configuration with what loading it takes.
fn confine(
    mut oci: serde_json::Value,
    security: &v1::LinuxContainerSecurityContext,
    foreign: bool,
) -> cri::Result<(serde_json::Value, Option<Confinement>)> {
    use v1::security_profile::ProfileType;
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else {
        return Ok((oci, None));
    };
    let sets = &oci["process"]["capabilities"]["bounding"];
    let capabilities: Vec<String> = serde_json::from_value(sets.clone()).unwrap_or_default();
    let program = match profile.profile_type() {
        ProfileType::Unconfined => return Ok((oci, None)),
        ProfileType::RuntimeDefault => seccomp::default_profile(&capabilities),
        ProfileType::Localhost => {
            let path = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
            let text = std::fs::read(path)
                .map_err(|error| Error::unknown(format!("seccomp profile {path:?}: {error}")))?;
            seccomp::from_file(&text, &capabilities)
        }
    };
    let filter = program.map_err(Error::invalid)?.to_bytes();
    if foreign {
        // An OCI runtime loads the filter itself; what is put in by exec is ours to confine.
        oci["linux"]["seccomp"] = match profile.profile_type() {
            ProfileType::RuntimeDefault => seccomp::default_as_oci(&capabilities),
            _ => {
                let path = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
                let text = std::fs::read(path).map_err(|error| Error::unknown(error.to_string()))?;
                serde_json::from_slice(&text).map_err(|error| Error::invalid(error.to_string()))?
            }
        };
        return Ok((oci, Some(Confinement { filter, capabilities: None })));
    }
    if security.no_new_privs {
        return Ok((oci, Some(Confinement { filter, capabilities: None })));
    }
    let mask = crate::helper::capability_mask(&capabilities);
    for set in ["bounding", "effective", "permitted"] {
        let Some(list) = oci["process"]["capabilities"][set].as_array_mut() else { continue };
        for extra in ["CAP_SYS_ADMIN", "CAP_SETPCAP"] {
            if !list.iter().any(|have| have == extra) {
                list.push(extra.into());
            }
        }
    }
    Ok((oci, Some(Confinement { filter, capabilities: Some(mask) })))
}

/// A cgroup is busy for a moment after its last process has ended.
pub(super) async fn remove_cgroup(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut last = Ok(());
    for round in 0..50u64 {
        last = cgroup.remove();
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1 + round)).await;
    }
    last
}

pub(super) fn phase_of(phase: Phase) -> v1::ContainerState {
    match phase {
        Phase::Created => v1::ContainerState::ContainerCreated,
        Phase::Running => v1::ContainerState::ContainerRunning,
        Phase::Exited => v1::ContainerState::ContainerExited,
    }
}

/// By number from the pod, else by name from the image, else SIGTERM.
fn stop_signal(container: &Container) -> i32 {
    let wanted = container.config.stop_signal();
    if wanted != v1::Signal::RuntimeDefault {
        return signals::number(wanted.as_str_name()).unwrap_or(15);
    }
    let name = container.state().stop_signal.to_uppercase();
    let name =
        if name.starts_with("SIG") || name.parse::<i32>().is_ok() { name } else { format!("SIG{name}") };
    signals::number(&name).unwrap_or(15)
}
