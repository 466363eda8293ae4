//! Carries out a plan: sandbox, kills, images, containers, hooks.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::Api;
use runtime::cri::v1;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::images::PullInputs;
use super::pod_worker::Worker;
use super::{Agent, container_reference};
use crate::backoff::describe;
use crate::cri::{ContainerInputs, container_config, linux_resources, sandbox_config};
use crate::decide::{KillReason, Plan};
use crate::env::{self, EnvInputs, PodFields, service_env};
use crate::observed::{Observed, State};
use crate::pod::{PodExt, SpecExt, ephemeral_as_container, is_sidecar};
use crate::probe::http;
use crate::refs::Found;
use crate::status::{StartFailure, sort_ips};
use crate::volumes::{MountInputs, PreparedVolumes, container_mounts};
use client::events::Severity;

/// What is at hand when containers are started.
pub(super) struct Means {
    pub volumes: Arc<PreparedVolumes>,
    pub found: Found,
}

/// What came of a plan.
#[derive(Default)]
pub(super) struct Outcome {
    /// Something was changed in the runtime: look again at once.
    pub changed: bool,
    /// The earliest time at which something that failed is worth another try.
    pub again: Option<Timestamp>,
}

impl Outcome {
    pub fn retry_at(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |a| a.min(at)));
    }
}

/// Wait after a failure that has no back-off of its own.
const RETRY: Duration = Duration::from_secs(10);
/// After a failed pull: time to show why, before it is called a back-off.
const SHOW_PULL_ERROR: Duration = Duration::from_secs(2);

struct Sandbox {
    id: String,
    config: v1::PodSandboxConfig,
    ips: Vec<String>,
    handler: String,
}

fn failure(reason: &str, message: impl Into<String>) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: message.into() }
}

impl Worker {
    pub(super) async fn carry_out(&mut self, plan: &Plan, seen: &Observed, means: &Means) -> Outcome {
        let mut out = Outcome::default();
        let pod = self.pod.clone();
        let agent = self.agent.clone();
        if plan.create_sandbox.is_some() && plan.sandbox.is_some() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            agent.recorder.normal(&*pod, "SandboxChanged", message);
        }
        if plan.kill_pod {
            let anything = !seen.sandboxes.is_empty() || !seen.containers.is_empty();
            if let Err(e) = agent.kill_pod(&pod, seen, None).await {
                tracing::warn!(pod = pod.describe(), error = %e, "stopping the pod's containers failed");
                out.retry_at(Timestamp::now() + RETRY);
                return out;
            }
            out.changed |= anything && plan.create_sandbox.is_none();
            if plan.create_sandbox.is_some() {
                self.purge(seen, |name| pod.spec().init_containers().iter().any(|c| c.name == name), 0).await;
            }
        }
        for kill in &plan.kill {
            let Some(container) = seen.containers.iter().find(|c| c.id == kill.id) else { continue };
            if let Err(e) =
                agent.kill_container(&pod, container, &kill.message, kill.reason, None, vec![]).await
            {
                tracing::warn!(pod = pod.describe(), container = kill.name, error = %e, "stopping a container failed");
                out.retry_at(Timestamp::now() + RETRY);
                return out;
            }
            out.changed = true;
        }
        for reset in &plan.reset {
            let Some(container) = seen.containers.iter().find(|c| c.id == reset.id) else { continue };
            if reset.kill {
                let reason = KillReason::RestartAllContainers;
                let _ = agent.kill_container(&pod, container, "killing", reason, Some(0), vec![]).await;
            }
            let request = v1::RemoveContainerRequest { container_id: reset.id.clone() };
            if let Err(e) = agent.runtime.remove_container(request).await
                && !e.is_not_found()
            {
                out.retry_at(Timestamp::now() + RETRY);
                return out;
            }
            out.changed = true;
        }
        if !plan.start_init.is_empty() {
            // The newest attempt of each init container is kept, for its status and logs.
            self.purge(seen, |name| pod.spec().init_containers().iter().any(|c| c.name == name), 1).await;
        }
        let starts =
            !(plan.start.is_empty() && plan.start_init.is_empty() && plan.start_ephemeral.is_empty());
        if plan.create_sandbox.is_none() && !starts && plan.resize.is_empty() {
            return out;
        }
        let sandbox = match self.sandbox(plan, seen, &mut out).await {
            Ok(sandbox) => sandbox,
            Err(()) => {
                out.retry_at(Timestamp::now() + RETRY);
                return out;
            }
        };
        self.start_all(plan, seen, means, &sandbox, &mut out).await;
        out
    }

    async fn start_all(
        &mut self,
        plan: &Plan,
        seen: &Observed,
        means: &Means,
        sandbox: &Sandbox,
        out: &mut Outcome,
    ) {
        let pod = self.pod.clone();
        for i in &plan.start_ephemeral {
            let spec = &pod.spec().ephemeral_containers()[*i];
            let target = spec.target_container_name.as_deref();
            let _ = self.start(&ephemeral_as_container(spec), target, seen, means, sandbox, out).await;
        }
        for i in &plan.start_init {
            let container = &pod.spec().init_containers()[*i];
            let started = self.start(container, None, seen, means, sandbox, out).await;
            if started.is_err() && !is_sidecar(container) {
                return;
            }
        }
        for resize in &plan.resize {
            let Some((_, container)) = pod.spec().container(&resize.name) else { continue };
            let linux = linux_resources(&pod, &container, self.agent.facts.memory);
            let request = v1::UpdateContainerResourcesRequest {
                container_id: resize.id.clone(),
                linux: Some(linux),
                annotations: BTreeMap::new(),
            };
            match self.agent.runtime.update_container_resources(request).await {
                Ok(_) => {
                    self.resize_error = None;
                    out.changed = true;
                }
                Err(e) => {
                    self.resize_error = Some(e.message.clone());
                    out.retry_at(Timestamp::now() + RETRY);
                }
            }
        }
        for i in &plan.start {
            if self.stopping() {
                return;
            }
            let container = &pod.spec().containers[*i];
            let _ = self.start(container, None, seen, means, sandbox, out).await;
        }
    }

    /// Removes ended attempts of the chosen containers, all but the newest `keep`.
    async fn purge(&self, seen: &Observed, of: impl Fn(&str) -> bool, keep: usize) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for c in seen.containers.iter().filter(|c| of(&c.name) && c.state != State::Running) {
            let count = counts.entry(&c.name).or_default();
            *count += 1;
            if *count > keep {
                let request = v1::RemoveContainerRequest { container_id: c.id.clone() };
                let _ = self.agent.runtime.remove_container(request).await;
            }
        }
    }

    async fn handler(&self) -> Result<String, String> {
        let name = self.pod.spec().runtime_class_name.as_deref().filter(|n| !n.is_empty());
        let Some(name) = name else { return Ok(String::new()) };
        let api: Api<RuntimeClass> = Api::all(self.agent.client.clone());
        api.get(name).await.map(|c| c.handler).map_err(|e| format!("failed to get sandbox runtime: {e}"))
    }

    async fn sandbox(&mut self, plan: &Plan, seen: &Observed, out: &mut Outcome) -> Result<Sandbox, ()> {
        let agent = self.agent.clone();
        let pod = self.pod.clone();
        let fail = |e: String| {
            let message = format!("Failed to create pod sandbox: {e}");
            tracing::warn!(pod = pod.describe(), "{message}");
            agent.recorder.warning(&*pod, "FailedCreatePodSandBox", message);
        };
        let attempt = plan.create_sandbox.unwrap_or_else(|| seen.sandboxes.first().map_or(0, |s| s.attempt));
        let (config, warnings) = sandbox_config(&pod, attempt, &agent.facts, None).map_err(fail)?;
        let handler = self.handler().await.map_err(fail)?;
        let (id, ips) = match (plan.create_sandbox, &plan.sandbox) {
            (None, Some(id)) => (id.clone(), seen.ips().to_vec()),
            _ => {
                for (reason, message) in warnings {
                    agent.recorder.warning(&*pod, reason, message);
                }
                make_log_dir(Path::new(&config.log_directory)).map_err(|e| fail(e.to_string()))?;
                let request = v1::RunPodSandboxRequest {
                    config: Some(config.clone()),
                    runtime_handler: handler.clone(),
                };
                let made = agent.runtime.run_pod_sandbox(request).await.map_err(|e| fail(e.to_string()))?;
                out.changed = true;
                let now = agent.observe(pod.uid()).await.map_err(|e| fail(e.to_string()))?;
                self.publish(&now, false);
                (made.pod_sandbox_id, now.ips().to_vec())
            }
        };
        let ips = if pod.spec().is_host_network() { agent.facts.ips.clone() } else { ips };
        Ok(Sandbox { id, config, ips: sort_ips(&ips, &agent.facts.ips), handler })
    }

    /// Starts one container, unless it is backing off. What went wrong is kept for the status.
    async fn start(
        &mut self,
        container: &Container,
        target: Option<&str>,
        seen: &Observed,
        means: &Means,
        sandbox: &Sandbox,
        out: &mut Outcome,
    ) -> Result<(), ()> {
        let now = Timestamp::now();
        let name = &container.name;
        if let Some((failed, until)) = self.crash_backoff(container, seen, now) {
            self.failures.insert(name.clone(), failed);
            out.retry_at(until);
            return Err(());
        }
        // A failed pull is shown as such for a moment, whatever else wakes the worker meanwhile.
        if let Some(until) = self.shown_until.get(name).copied().filter(|until| *until > now) {
            out.retry_at(until);
            return Err(());
        }
        match self.start_now(container, target, seen, means, sandbox).await {
            Ok(()) => {
                self.failures.remove(name);
                out.changed = true;
                Ok(())
            }
            Err(failed) => {
                tracing::debug!(
                    pod = self.pod.describe(),
                    container = name,
                    reason = failed.reason,
                    "not started"
                );
                let now = Timestamp::now();
                let image = container.image.as_deref().unwrap_or_default();
                let image = super::images::with_tag(image).unwrap_or_default();
                match failed.reason.as_str() {
                    "ImagePullBackOff" => out.retry_at(self.pulls.until(&image, now).unwrap_or(now + RETRY)),
                    "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" => {
                        self.shown_until.insert(name.clone(), now + SHOW_PULL_ERROR);
                        out.retry_at(now + SHOW_PULL_ERROR);
                    }
                    _ => out.retry_at(now + RETRY),
                }
                self.failures.insert(name.clone(), failed);
                Err(())
            }
        }
    }

    fn crash_backoff(
        &mut self,
        container: &Container,
        seen: &Observed,
        now: Timestamp,
    ) -> Option<(StartFailure, Timestamp)> {
        let name = &container.name;
        let ended = seen.containers.iter().find(|c| c.name == *name && c.state == State::Exited)?;
        let key = format!("{name}/{}", crate::decide::spec_hash(container));
        if let Some(until) = self.crashes.until(&key, ended.finished_at, now) {
            let about = container_reference(&self.pod, name);
            let message =
                format!("Back-off restarting failed container {name} in pod {}", self.pod.describe());
            self.agent.recorder.event(about, Severity::Warning, "BackOff", message);
            let wait = describe(self.crashes.get(&key));
            let text =
                format!("back-off {wait} restarting failed container={name} pod={}", self.pod.describe());
            return Some((failure("CrashLoopBackOff", text), until));
        }
        self.crashes.next(&key, ended.finished_at, now);
        None
    }

    async fn start_now(
        &mut self,
        container: &Container,
        target: Option<&str>,
        seen: &Observed,
        means: &Means,
        sandbox: &Sandbox,
    ) -> Result<(), StartFailure> {
        let agent = self.agent.clone();
        let pod = self.pod.clone();
        let about = container_reference(&pod, &container.name);
        let event = |severity, reason: &str, message: String| {
            agent.recorder.event(about.clone(), severity, reason, message);
        };
        let failed = |f: StartFailure, words: &str| {
            event(Severity::Warning, "Failed", format!("Error: {words}"));
            f
        };
        let secrets: Vec<Arc<Secret>> = pod
            .spec()
            .image_pull_secrets
            .iter()
            .flatten()
            .filter_map(|r| means.found.secrets.get(&r.name).cloned())
            .collect();
        let image_ref = self
            .image(
                container.image.as_deref().unwrap_or_default(),
                container.image_pull_policy.as_deref(),
                &about,
                &secrets,
                sandbox,
            )
            .await
            .map_err(|f| {
                let words = f.reason.clone();
                failed(f, &words)
            })?;
        let images = self.image_volumes(container, &about, &secrets, sandbox).await.map_err(|f| {
            let words = f.reason.clone();
            failed(f, &words)
        })?;

        let restart_count = match seen.container(&container.name) {
            Some(c) => c.restart_count + 1,
            None => next_log_number(&Path::new(&sandbox.config.log_directory).join(&container.name)),
        };
        let config_error =
            |message: String| failed(failure("CreateContainerConfigError", message.clone()), &message);
        let target = match target.filter(|t| !t.is_empty()) {
            None => None,
            Some(name) => {
                let found = seen
                    .container(name)
                    .ok_or_else(|| config_error(format!("unable to find target container {name}")))?;
                if found.state != State::Running {
                    return Err(config_error(format!("target container {name} is not running")));
                }
                Some(found.id.clone())
            }
        };
        let env = self.environment(container, means, sandbox).map_err(config_error)?;
        let image_user = self.image_user(&image_ref).await.map_err(config_error)?;
        let mounts = self
            .mounts(container, means, &env, sandbox, restart_count, images)
            .await
            .map_err(config_error)?;
        make_log_dir(&Path::new(&sandbox.config.log_directory).join(&container.name)).map_err(|e| {
            config_error(format!(
                "create container log directory for container {} failed: {e}",
                container.name
            ))
        })?;
        let config = container_config(
            &pod,
            container,
            &agent.facts,
            ContainerInputs {
                restart_count,
                image_ref: &image_ref,
                image_user: (image_user.0, &image_user.1),
                env: &env,
                mounts: mounts.mounts,
                devices: mounts.devices,
                target: target.as_deref(),
                userns: None,
            },
        )
        .map_err(config_error)?;

        let log_path = Path::new(&sandbox.config.log_directory).join(&config.log_path);
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.config.clone()),
        };
        let created = agent.runtime.create_container(request).await;
        let id = created
            .map_err(|e| failed(failure("CreateContainerError", e.message.clone()), &e.message))?
            .container_id;
        event(Severity::Normal, "Created", "Container created".into());
        let request = v1::StartContainerRequest { container_id: id.clone() };
        agent
            .runtime
            .start_container(request)
            .await
            .map_err(|e| failed(failure("RunContainerError", e.message.clone()), &e.message))?;
        event(Severity::Normal, "Started", "Container started".into());
        agent.link_log(&pod, &container.name, &id, &log_path);

        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(hook) = hook
            && let Err(message) = agent.run_hook(&pod, container, &id, hook).await
        {
            event(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into());
            let running =
                crate::observed::Container { id, name: container.name.clone(), ..Default::default() };
            let reason = KillReason::FailedPostStartHook;
            let _ = agent.kill_container(&pod, &running, "FailedPostStartHook", reason, None, vec![]).await;
            return Err(failure("PostStartHookError", message));
        }
        Ok(())
    }

    async fn image(
        &mut self,
        image: &str,
        policy: Option<&str>,
        about: &k8s_openapi::api::core::v1::ObjectReference,
        secrets: &[Arc<Secret>],
        sandbox: &Sandbox,
    ) -> Result<String, StartFailure> {
        let inputs = PullInputs {
            image,
            policy: policy.unwrap_or("IfNotPresent"),
            about,
            secrets,
            sandbox: &sandbox.config,
            runtime_handler: &sandbox.handler,
        };
        let stop = self.stop_signal();
        tokio::select! {
            pulled = self.agent.images.ensure(&inputs, &mut self.pulls, Timestamp::now()) => pulled,
            () = stop => Err(failure("ErrImagePull", "pull canceled: the pod is being terminated")),
        }
    }

    async fn image_volumes(
        &mut self,
        container: &Container,
        about: &k8s_openapi::api::core::v1::ObjectReference,
        secrets: &[Arc<Secret>],
        sandbox: &Sandbox,
    ) -> Result<HashMap<String, v1::ImageSpec>, StartFailure> {
        let mut out = HashMap::new();
        let pod = self.pod.clone();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = pod.spec().volumes.iter().flatten().find(|v| v.name == mount.name);
            let Some(image) = volume.and_then(|v| v.image.as_ref()) else { continue };
            let reference = image.reference.as_deref().unwrap_or_default();
            let pulled = self.image(reference, image.pull_policy.as_deref(), about, secrets, sandbox).await?;
            out.insert(
                mount.name.clone(),
                v1::ImageSpec {
                    image: pulled,
                    user_specified_image: reference.to_owned(),
                    ..Default::default()
                },
            );
        }
        Ok(out)
    }

    fn environment(
        &self,
        container: &Container,
        means: &Means,
        sandbox: &Sandbox,
    ) -> Result<Vec<(String, String)>, String> {
        let agent = &self.agent;
        if !self.pod.is_static() && !agent.services.has_synced() {
            return Err("services have not yet been read at least once, cannot construct envvars".into());
        }
        let links = self.pod.spec().enable_service_links.unwrap_or(true);
        let services = service_env(&agent.services.list(), self.pod.namespace(), links);
        let volumes = means.volumes.clone();
        let file_key = move |volume: &str, path: &str, key: &str| env_file_key(&volumes, volume, path, key);
        let inputs = EnvInputs {
            fields: PodFields {
                pod: &self.pod,
                pod_ips: &sandbox.ips,
                host_ips: &agent.facts.ips,
                allocatable: &agent.facts.allocatable,
            },
            found: &means.found,
            services: &services,
            file_key: &file_key,
        };
        env::build(container, &inputs).map_err(|e| e.to_string())
    }

    async fn image_user(&self, image: &str) -> Result<(Option<i64>, String), String> {
        let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
        let found = self.agent.runtime.image_status(request).await.map_err(|e| e.message)?.image;
        Ok(match found {
            Some(image) => (image.uid.map(|u| u.value), image.username),
            // Containers of images without a user run as root.
            None => (Some(0), String::new()),
        })
    }

    async fn mounts(
        &self,
        container: &Container,
        means: &Means,
        env: &[(String, String)],
        sandbox: &Sandbox,
        attempt: i32,
        images: HashMap<String, v1::ImageSpec>,
    ) -> Result<crate::volumes::PreparedMounts, String> {
        let (agent, pod, container) = (self.agent.clone(), self.pod.clone(), container.clone());
        let (volumes, env, ips) = (means.volumes.clone(), env.to_vec(), sandbox.ips.clone());
        let work = move || {
            let inputs = MountInputs {
                node: &agent.facts,
                volumes: &volumes,
                env: &env,
                pod_ips: &ips,
                attempt,
                images: &images,
                userns: None,
            };
            container_mounts(&pod, &container, &inputs)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }
}

impl Agent {
    /// Runs a hook of a container to its end; callers bound its time.
    pub async fn run_hook(
        &self,
        pod: &Pod,
        container: &Container,
        id: &str,
        hook: &LifecycleHandler,
    ) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let cmd = exec.command.clone().unwrap_or_default();
            let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: cmd.clone(), timeout: 0 };
            let answer = self.runtime.exec_sync(request).await.map_err(|e| e.message)?;
            return match answer.exit_code {
                0 => Ok(()),
                code => {
                    let mut output = answer.stdout;
                    output.extend(answer.stderr);
                    let text = String::from_utf8_lossy(&output).into_owned();
                    Err(format!("command '{}' exited with {code}: {text}", cmd.join(" ")))
                }
            };
        }
        if let Some(get) = &hook.http_get {
            let ip = match pod.spec().is_host_network() {
                true => self.facts.ips.first().cloned().unwrap_or_default(),
                false => {
                    let seen = self.observe(pod.uid()).await.map_err(|e| e.message)?;
                    seen.ips().first().cloned().unwrap_or_default()
                }
            };
            let target = http::target(get, container, &ip)?;
            let answer = http::get(&target).await?;
            return match answer.status {
                200..400 => Ok(()),
                status => Err(format!("HTTP status {status}")),
            };
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
            return Ok(());
        }
        Err("invalid handler: it has no action".into())
    }

    /// The flat name under which log collectors look for a container's log.
    fn link_log(&self, pod: &Pod, container: &str, id: &str, log: &Path) {
        let Some(dir) = self.config.log_root.parent().map(|p| p.join("containers")) else { return };
        let name: PathBuf = dir.join(format!("{}_{}_{container}-{id}.log", pod.name(), pod.namespace()));
        if log.exists() && std::fs::create_dir_all(&dir).is_ok() {
            let _ = std::os::unix::fs::symlink(log, name);
        }
    }
}

fn make_log_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// One more than the highest `N.log`, or 0: so that a runtime that forgot its containers does not overwrite their logs.
fn next_log_number(dir: &Path) -> i32 {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
    let numbers =
        names.filter_map(|n| n.to_string_lossy().split('.').next().and_then(|n| n.parse::<i32>().ok()));
    numbers.max().map_or(0, |n| n + 1)
}

/// A `KEY=value` of a file in a volume.
fn env_file_key(
    volumes: &PreparedVolumes,
    volume: &str,
    path: &str,
    key: &str,
) -> Result<Option<String>, String> {
    let Some(crate::volumes::Prepared::Path { path: root, .. }) = volumes.get(volume) else {
        return Err(format!("cannot find the volume {volume:?} referenced by FileKeyRef"));
    };
    let relative = Path::new(path);
    if relative.is_absolute() || relative.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
        return Err(format!("invalid path {path:?} in FileKeyRef"));
    }
    let text =
        std::fs::read_to_string(root.join(relative)).map_err(|e| format!("couldn't parse env file: {e}"))?;
    Ok(text.lines().filter(|l| !l.trim_start().starts_with('#')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let unquoted = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
        (name.trim() == key).then(|| unquoted.unwrap_or(value).to_owned())
    }))
}
