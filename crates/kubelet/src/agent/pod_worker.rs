//! The task that looks after one pod.
//!
//! It waits for a reason to look (a newer object, something in the runtime, a probe's result, a time), looks at
//! everything, decides, acts, and looks again until nothing is left to do.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::api::{Api, DeleteParams, Preconditions};
use runtime::cri::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

use super::act::Means;
use super::images::PullState;
use super::observe::alive;
use super::probes::PodProbes;
use super::status_writer::StatusWriter;
use super::tokens::Tokens;
use super::{Agent, claims, trust};
use crate::backoff::Backoff;
use crate::decide::{self, Probes};
use crate::env::PodFields;
use crate::observed::Observed;
use crate::pod::{PodExt, SpecExt};
use crate::refs;
use crate::status::{self, Inputs, StartFailure, is_terminal};
use crate::volumes::{self, PreparedVolumes, Sources, VolumeInputs};
use crate::worker::lifecycle::{Ending, Lifecycle, Stage};
use client::ErrorKind;
use client::write::ignore_not_found;

/// What the dispatcher tells a worker: always the newest, never a history.
#[derive(Clone, Debug)]
pub(crate) struct PodUpdate {
    pub pod: Arc<Pod>,
    /// For a static pod: the object that shows it in the API.
    pub mirror: Option<Arc<Pod>>,
    /// The pod is gone from its source.
    pub removed: bool,
    /// The node ends the pod.
    pub ending: Option<Ending>,
}

/// When to look again.
enum Next {
    Now,
    At(Timestamp),
    WhenWoken,
}

const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Waits between tries to make volumes: half a second, doubled up to about two minutes.
const MOUNT_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));
/// How long the last status may take to reach the API before the object is deleted all the same.
const FLUSH: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    pub(super) agent: Arc<Agent>,
    pub(super) pod: Arc<Pod>,
    mirror: Option<Arc<Pod>>,
    updates: watch::Receiver<PodUpdate>,
    wake: Arc<Notify>,
    life: Lifecycle,
    status: StatusWriter,
    pub(super) failures: HashMap<String, StartFailure>,
    pub(super) crashes: Backoff,
    pub(super) pulls: PullState,
    /// By container: until when a failed pull stands in its status.
    pub(super) shown_until: HashMap<String, Timestamp>,
    pub(super) resize_error: Option<String>,
    tokens: Tokens,
    probes: PodProbes,
    mounts: Backoff,
    admitted: bool,
    /// The resources the cgroup was made for.
    cgroup_for: Option<String>,
    ips: Vec<String>,
}

impl Worker {
    pub fn new(agent: Arc<Agent>, updates: watch::Receiver<PodUpdate>, wake: Arc<Notify>) -> Self {
        let PodUpdate { pod, mirror, .. } = updates.borrow().clone();
        let status = StatusWriter::start(agent.client.clone(), &agent.shutdown);
        let max = agent.config.max_crash_backoff;
        Worker {
            life: Lifecycle::new(&pod),
            status,
            failures: HashMap::new(),
            crashes: Backoff::new(Duration::from_secs(10).min(max), max),
            pulls: PullState::default(),
            shown_until: HashMap::new(),
            resize_error: None,
            tokens: Tokens::default(),
            probes: PodProbes::new(wake.clone()),
            mounts: Backoff::new(MOUNT_BACKOFF.0, MOUNT_BACKOFF.1),
            // One that was running before is not judged again.
            admitted: pod.status.as_ref().is_some_and(|s| s.start_time.is_some()),
            cgroup_for: None,
            ips: vec![],
            agent,
            pod,
            mirror,
            updates,
            wake,
        }
    }

    /// The status as it is being written, for readers of the node's own API.
    pub fn statuses(&self) -> watch::Receiver<super::Wanted> {
        self.status.subscribe()
    }

    /// Looks after the pod until it is gone, or until the agent stops (and the pod goes on).
    pub async fn run(mut self) {
        let shutdown = self.agent.shutdown.clone();
        loop {
            self.take_update();
            let step = async {
                match self.life.stage() {
                    Stage::Syncing => self.sync().await,
                    Stage::Terminating => self.terminate().await,
                    Stage::Terminated => self.clean().await,
                    Stage::Finished => self.finish().await,
                }
            };
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = step => next,
            };
            if self.life.stage() == Stage::Finished && self.life.is_removed() {
                self.bury().await;
                return;
            }
            let wait = match next {
                Next::Now => continue,
                Next::At(at) => {
                    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
                }
                Next::WhenWoken => None,
            };
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                changed = self.updates.changed() => if changed.is_err() { return },
                () = sleep => {}
            }
        }
    }

    /// Takes in the newest update. True if the containers are to stop sooner than was said before.
    fn take_update(&mut self) -> bool {
        let PodUpdate { pod, mirror, removed, ending } = self.updates.borrow_and_update().clone();
        self.pod = pod;
        self.mirror = mirror;
        let mut sooner = self.life.observe(&self.pod, removed);
        if let Some(ending) = ending {
            sooner |= self.life.end(ending, &self.pod);
        }
        sooner
    }

    /// The pod is on its end, whether or not the worker has taken that in.
    pub(super) fn stopping(&self) -> bool {
        let update = self.updates.borrow();
        self.life.stage() > Stage::Syncing
            || update.removed
            || update.ending.is_some()
            || update.pod.is_deleted()
    }

    /// Resolves when the pod's end is asked for.
    pub(super) fn stop_signal(&self) -> impl Future<Output = ()> + use<> {
        let mut updates = self.updates.clone();
        async move {
            let ends = |u: &PodUpdate| u.removed || u.ending.is_some() || u.pod.is_deleted();
            if updates.wait_for(ends).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn probe_results(&self) -> Probes {
        self.probes.results()
    }

    fn api_object(&self) -> Option<Arc<Pod>> {
        if self.pod.is_static() { self.mirror.clone() } else { Some(self.pod.clone()) }
    }

    /// Computes the status and has it written. While containers may still run, the pod's end is not told yet.
    pub(super) fn publish(&mut self, seen: &Observed, terminal: bool) -> PodStatus {
        if !seen.ips().is_empty() {
            self.ips = seen.ips().to_vec();
        }
        let current = self.status.current();
        let api = self.api_object().and_then(|o| o.status.clone()).unwrap_or_default();
        let last = if current.phase.is_some() { current } else { api };
        let ending = self.life.ending().map(|e| (e.reason.as_str(), e.message.as_str()));
        let conditions = self.resize_conditions(seen);
        let mut computed = status::generate(&Inputs {
            pod: &self.pod,
            last: &last,
            seen,
            probes: &self.probe_results(),
            failures: &self.failures,
            terminal,
            ended: ending,
            host_ips: &self.agent.facts.ips,
            now: Timestamp::now(),
            extra_conditions: &conditions,
        });
        if !self.admitted && ending.is_some() {
            // It never began: there is nothing to tell about containers.
            computed.container_statuses = None;
            computed.init_container_statuses = None;
            computed.ephemeral_container_statuses = None;
            computed.conditions = None;
        }
        let phase = computed.phase.clone().unwrap_or_default();
        let told = last.phase.as_deref().unwrap_or_default();
        let mut written = computed.clone();
        if is_terminal(&phase) && !is_terminal(told) && !terminal {
            written.phase = Some(if told.is_empty() { "Pending".to_owned() } else { told.to_owned() });
            written.reason = last.reason.clone();
            written.message = last.message.clone();
        }
        self.status.publish(self.api_object(), written);
        computed
    }

    fn resize_conditions(&self, seen: &Observed) -> Vec<PodCondition> {
        let plan = decide::plan(&self.pod, seen, &self.probe_results(), false);
        if plan.resize.is_empty() {
            return vec![];
        }
        let (reason, message) = match &self.resize_error {
            Some(error) => (Some("Error".to_owned()), Some(error.clone())),
            None => (None, None),
        };
        vec![PodCondition {
            type_: "PodResizeInProgress".into(),
            status: "True".into(),
            reason,
            message,
            observed_generation: self.pod.generation(),
            ..Default::default()
        }]
    }

    async fn observe(&self) -> Result<Observed, Next> {
        self.agent.observe(self.pod.uid()).await.map_err(|e| {
            tracing::warn!(pod = self.pod.describe(), error = %e, "the runtime does not tell about the pod");
            Next::At(Timestamp::now() + SignedDuration::from_secs(1))
        })
    }

    async fn sync(&mut self) -> Next {
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(next) => return next,
        };
        if !self.admitted {
            if let Err((reason, message)) = self.agent.admit(&self.pod) {
                self.agent.recorder.warning(&*self.pod, &reason, message.clone());
                let message = format!("Pod was rejected: {message}");
                self.life.end(Ending { reason, message, grace: Some(1) }, &self.pod);
                return Next::Now;
            }
            self.admitted = true;
        }
        let computed = self.publish(&seen, false);
        if is_terminal(computed.phase.as_deref().unwrap_or_default()) {
            self.life.ran_out();
            return Next::Now;
        }
        let deadline = self.deadline(&computed);
        if deadline.is_some_and(|at| at <= Timestamp::now()) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.agent.recorder.normal(&*self.pod, "DeadlineExceeded", message.clone());
            self.life.end(Ending { reason: "DeadlineExceeded".into(), message, grace: None }, &self.pod);
            return Next::Now;
        }
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.probes.adjust(&agent, &pod, &seen, false);

        if let Err(at) = self.cgroup().await {
            return Next::At(at);
        }
        let means = match self.means(&seen).await {
            Ok(means) => means,
            Err(at) => return Next::At(at),
        };
        if self.stopping() {
            return Next::Now;
        }
        let restart_all = status::restarting_all(&self.pod, &seen, &computed)
            && self.pod.spec().init_and_regular().any(|c| seen.container(&c.name).is_some());
        let plan = decide::plan(&self.pod, &seen, &self.probe_results(), restart_all);
        // Failures of containers that nobody means to start any more are no news.
        let wanted: Vec<&str> = wanted_names(&self.pod, &plan);
        self.failures.retain(|name, _| wanted.contains(&name.as_str()));
        let outcome = if plan.is_empty() {
            super::act::Outcome::default()
        } else {
            self.carry_out(&plan, &seen, &means).await
        };
        if outcome.changed {
            return Next::Now;
        }
        self.tidy(&seen).await;
        if outcome.again.is_some() {
            // What went wrong is to be seen at once.
            self.publish(&seen, false);
        }
        let times = [outcome.again, deadline, self.tokens.next_renewal()];
        times.into_iter().flatten().min().map_or(Next::WhenWoken, Next::At)
    }

    fn deadline(&self, status: &PodStatus) -> Option<Timestamp> {
        let seconds = self.pod.spec().active_deadline_seconds?;
        Some(status.start_time.as_ref()?.0 + SignedDuration::from_secs(seconds))
    }

    /// The pod's cgroup, made or changed where its resources are new.
    async fn cgroup(&mut self) -> Result<(), Timestamp> {
        let resources = format!("{:?}", crate::agent::admit::requests(&self.pod));
        let limits: Vec<_> = self.pod.spec().containers.iter().map(|c| &c.resources).collect();
        let resources = format!("{resources}{limits:?}");
        if self.cgroup_for.as_ref() == Some(&resources) {
            return Ok(());
        }
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        let made = tokio::task::spawn_blocking(move || {
            agent.weigh_classes();
            agent.cgroups.ensure(&agent.facts, &pod)
        });
        match made.await {
            Ok(Ok(())) => {
                self.cgroup_for = Some(resources);
                Ok(())
            }
            Ok(Err(e)) => {
                let message = format!("unable to ensure pod container exists: {e}");
                self.agent.recorder.warning(&*self.pod, "FailedCreatePodContainer", message);
                Err(Timestamp::now() + RETRY)
            }
            Err(_) => Err(Timestamp::now() + RETRY),
        }
    }

    /// Removes attempts of containers and sandboxes that nothing shows any more: all but the newest two of each
    /// container, and sandboxes that were replaced.
    async fn tidy(&self, seen: &Observed) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut kept: Vec<&str> = vec![];
        for c in &seen.containers {
            let count = counts.entry(&c.name).or_default();
            *count += 1;
            if *count > 2 && c.state != crate::observed::State::Running {
                let request = v1::RemoveContainerRequest { container_id: c.id.clone() };
                let _ = self.agent.runtime.remove_container(request).await;
            } else {
                kept.push(&c.sandbox_id);
            }
        }
        for s in seen.sandboxes.iter().skip(1).filter(|s| !s.ready && !kept.contains(&s.id.as_str())) {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: s.id.clone() };
            let _ = self.agent.runtime.remove_pod_sandbox(request).await;
        }
    }

    /// Volumes and the objects behind them; `Err` with the time of the next try.
    async fn means(&mut self, seen: &Observed) -> Result<Means, Timestamp> {
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        let names = refs::of_pod(&pod);
        let found = agent.objects.resolve(pod.uid(), pod.namespace(), &names, &self.wake).await;
        let now = Timestamp::now();
        let tokens = self.tokens.issue(&agent.client, &pod, now).await;
        let claims = claims::resolve(&agent.client, &pod).await;
        let bundles = trust::resolve(&agent.client, &pod).await;
        let ips = seen.ips().to_vec();
        let work = {
            let (agent, pod, found) = (agent.clone(), pod.clone(), found.clone());
            move || {
                agent.make_pod_dirs(&pod)?;
                let inputs = VolumeInputs {
                    node: &agent.facts,
                    sources: Sources {
                        fields: PodFields {
                            pod: &pod,
                            pod_ips: &ips,
                            host_ips: &agent.facts.ips,
                            allocatable: &agent.facts.allocatable,
                        },
                        found: &found,
                        tokens: &tokens,
                        bundles: &bundles,
                    },
                    claims: &claims,
                    now,
                };
                volumes::prepare(&pod, &inputs).map_err(|e| e.to_string())
            }
        };
        let prepared: Result<PreparedVolumes, String> =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(e.to_string()));
        match prepared {
            Ok(volumes) => {
                self.mounts.reset("");
                Ok(Means { volumes: Arc::new(volumes), found })
            }
            Err(message) => {
                agent.recorder.warning(&*pod, "FailedMount", message);
                let now = Timestamp::now();
                self.mounts.next("", now, now);
                Err(now + self.mounts.get(""))
            }
        }
    }

    async fn terminate(&mut self) -> Next {
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(next) => return next,
        };
        self.publish(&seen, false);
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.probes.adjust(&agent, &pod, &seen, true);
        let grace = self.life.grace(&self.pod);
        let killed = {
            let kill = agent.kill_pod(&pod, &seen, Some(grace));
            let mut kill = std::pin::pin!(kill);
            loop {
                tokio::select! {
                    killed = &mut kill => break killed,
                    changed = self.updates.changed() => {
                        if changed.is_err() {
                            break kill.await;
                        }
                        if self.take_update() {
                            // Less time than was given: begin again with that.
                            return Next::Now;
                        }
                    }
                    () = self.wake.notified() => {
                        // A container ended, or a readiness probe failed: tell.
                        if let Ok(now) = agent.observe(pod.uid()).await {
                            self.publish(&now, false);
                        }
                    }
                }
            }
        };
        if let Err(e) = killed {
            self.agent.recorder.warning(&*self.pod, "FailedKillPod", format!("error killing pod: {e}"));
            return Next::At(Timestamp::now() + RETRY);
        }
        let after = match self.observe().await {
            Ok(after) => after,
            Err(next) => return next,
        };
        if alive(&after).any(|c| c.state == crate::observed::State::Running) {
            tracing::warn!(pod = self.pod.describe(), "containers run though they were stopped");
            return Next::At(Timestamp::now() + SignedDuration::from_secs(1));
        }
        self.publish(&after, true);
        self.life.stopped();
        Next::Now
    }

    async fn clean(&mut self) -> Next {
        self.probes = PodProbes::new(self.wake.clone());
        self.agent.objects.forget(self.pod.uid());
        let agent = self.agent.clone();
        let dir = agent.facts.pod_dir(self.pod.uid());
        let cgroup = agent.facts.pod_cgroup(&self.pod);
        let work = move || -> std::io::Result<()> {
            volumes::remove_tree(&dir.join("volume-subpaths"))?;
            volumes::remove_tree(&dir.join("volumes"))?;
            agent.cgroups.remove(&cgroup);
            agent.weigh_classes();
            Ok(())
        };
        let cleaned =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        if let Err(e) = cleaned {
            tracing::warn!(pod = self.pod.describe(), error = %e, "removing the pod's volumes failed");
            return Next::At(Timestamp::now() + RETRY);
        }
        self.life.cleaned();
        Next::Now
    }

    /// All is given back: a deleted pod's object may go.
    async fn finish(&mut self) -> Next {
        // A mirror that came late still wants the status.
        self.status.publish(self.api_object(), self.status.current());
        if !self.life.is_deleted() || self.life.is_removed() || self.pod.is_static() {
            return Next::WhenWoken;
        }
        self.status.flushed(FLUSH).await;
        let api: Api<Pod> = Api::namespaced(self.agent.client.clone(), self.pod.namespace());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.pod.uid().to_owned()), ..Default::default() }),
            ..Default::default()
        };
        match ignore_not_found(api.delete(self.pod.name(), &params).await) {
            Ok(_) => Next::WhenWoken,
            // Another pod of this name: ours is gone.
            Err(e) if ErrorKind::of(&e) == ErrorKind::Conflict => Next::WhenWoken,
            Err(e) => {
                tracing::warn!(pod = self.pod.describe(), error = %e, "deleting the pod's object failed");
                Next::At(Timestamp::now() + RETRY)
            }
        }
    }

    /// Removes the last traces: containers, sandboxes, directories, logs.
    async fn bury(&mut self) {
        let agent = self.agent.clone();
        agent.remove_from_runtime(self.pod.uid()).await;
        let (dir, logs) = (agent.facts.pod_dir(self.pod.uid()), agent.facts.pod_logs(&self.pod));
        let work = move || -> std::io::Result<()> {
            volumes::remove_tree(&dir)?;
            match std::fs::remove_dir_all(&logs) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        };
        if let Ok(Err(e)) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(pod = self.pod.describe(), error = %e, "removing the pod's directories failed");
        }
    }
}

fn wanted_names<'a>(pod: &'a Pod, plan: &decide::Plan) -> Vec<&'a str> {
    let spec = pod.spec();
    let init = plan.start_init.iter().map(|i| spec.init_containers()[*i].name.as_str());
    let regular = plan.start.iter().map(|i| spec.containers[*i].name.as_str());
    let ephemeral = plan.start_ephemeral.iter().map(|i| spec.ephemeral_containers()[*i].name.as_str());
    init.chain(regular).chain(ephemeral).collect()
}

impl Agent {
    fn make_pod_dirs(&self, pod: &Pod) -> Result<(), String> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = self.facts.pod_dir(pod.uid());
        for sub in ["volumes", "containers"] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir.join(sub));
            made.map_err(|e| format!("error making pod data directories: {e}"))?;
        }
        Ok(())
    }

    /// Removes every container and sandbox of a pod from the runtime, stopping what runs.
    pub async fn remove_from_runtime(&self, uid: &str) {
        let Ok(seen) = self.observe(uid).await else { return };
        for container in &seen.containers {
            let request = v1::RemoveContainerRequest { container_id: container.id.clone() };
            if let Err(e) = self.runtime.remove_container(request).await
                && !e.is_not_found()
            {
                tracing::warn!(uid, container = container.id, error = %e, "removing a container failed");
            }
        }
        for sandbox in &seen.sandboxes {
            let stop = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            let _ = self.runtime.stop_pod_sandbox(stop).await;
            let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(e) = self.runtime.remove_pod_sandbox(remove).await
                && !e.is_not_found()
            {
                tracing::warn!(uid, sandbox = sandbox.id, error = %e, "removing a sandbox failed");
            }
        }
    }
}
