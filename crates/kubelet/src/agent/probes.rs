//! The probes of one pod's running containers: a task and a timer for each, and none for anything else.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use runtime::cri::{Code, v1};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{Agent, container_reference};
use crate::backoff::since;
use crate::decide::{ProbeResults, Probes};
use crate::observed::{Observed, State};
use crate::pod::{PodExt, ProbeTiming, SpecExt, is_sidecar};
use crate::probe::{grpc, http, port};
use client::events::Severity;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
    fn spec(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
    fn slot(self, results: &mut ProbeResults) -> &mut Option<bool> {
        match self {
            Kind::Startup => &mut results.startup,
            Kind::Liveness => &mut results.liveness,
            Kind::Readiness => &mut results.readiness,
        }
    }
}

/// All probes of one pod.
pub struct PodProbes {
    results: Arc<Mutex<Probes>>,
    wake: Arc<Notify>,
    tasks: HashMap<(String, Kind), CancellationToken>,
}

impl Drop for PodProbes {
    fn drop(&mut self) {
        self.tasks.values().for_each(CancellationToken::cancel);
    }
}

impl PodProbes {
    pub fn new(wake: Arc<Notify>) -> Self {
        PodProbes { results: Arc::default(), wake, tasks: HashMap::new() }
    }

    /// The results as they are now.
    pub fn results(&self) -> Probes {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts what is to be probed and stops the rest. `stopping`: only readiness still counts.
    pub fn adjust(&mut self, agent: &Arc<Agent>, pod: &Arc<Pod>, seen: &Observed, stopping: bool) {
        let sidecars = pod.spec().init_containers().iter().filter(|c| is_sidecar(c));
        let mut wanted = vec![];
        for container in pod.spec().containers.iter().chain(sidecars) {
            let Some(running) = seen.container(&container.name).filter(|c| c.state == State::Running) else {
                continue;
            };
            for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
                if kind.spec(container).is_some() && !(stopping && kind != Kind::Readiness) {
                    wanted.push((running.clone(), kind, container));
                }
            }
        }
        self.tasks.retain(|(id, kind), stop| {
            let keep = wanted.iter().any(|(c, k, _)| c.id == *id && k == kind);
            if !keep {
                stop.cancel();
            }
            keep
        });
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.retain(|id, _| seen.containers.iter().any(|c| c.id == *id && c.state == State::Running));
        for (running, kind, container) in wanted {
            let entry =
                results.entry(running.id.clone()).or_insert_with(|| adopted(pod, container, &running.id));
            let started = container.startup_probe.is_none() || entry.startup == Some(true);
            let due = if kind == Kind::Startup { entry.startup.is_none() } else { started };
            let key = (running.id.clone(), kind);
            if !due || self.tasks.contains_key(&key) {
                continue;
            }
            let stop = agent.shutdown.child_token();
            self.tasks.insert(key, stop.clone());
            let task = Task {
                agent: agent.clone(),
                pod: pod.clone(),
                container: container.clone(),
                id: running.id.clone(),
                started_at: running.started_at,
                kind,
                results: self.results.clone(),
                wake: self.wake.clone(),
                ips: seen.ips().to_vec(),
            };
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
    }
}

/// Results of a container that was running before this agent: what the API last showed, so that nothing flaps.
fn adopted(pod: &Pod, container: &Container, id: &str) -> ProbeResults {
    let Some(status) = &pod.status else { return ProbeResults::default() };
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let known = all
        .into_iter()
        .find(|s| s.name == container.name && s.container_id.as_deref().is_some_and(|c| c.ends_with(id)));
    let Some(known) = known else { return ProbeResults::default() };
    ProbeResults {
        startup: (container.startup_probe.is_some() && known.started == Some(true)).then_some(true),
        readiness: (container.readiness_probe.is_some() && known.ready).then_some(true),
        liveness: None,
    }
}

struct Task {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    started_at: Timestamp,
    kind: Kind,
    results: Arc<Mutex<Probes>>,
    wake: Arc<Notify>,
    ips: Vec<String>,
}

enum Tried {
    Success,
    Warning(String),
    Failure(String),
    /// The try itself went wrong; it counts for nothing.
    Error(String),
}

impl Task {
    async fn run(self) {
        let Some(spec) = self.kind.spec(&self.container) else { return };
        let timing = ProbeTiming::from(spec);
        let age = since(Timestamp::now(), self.started_at);
        let first = Instant::now() + timing.initial_delay.saturating_sub(age);
        let mut ticks = interval_at(first, timing.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut run) = (None, 0_u32);
        loop {
            ticks.tick().await;
            let ok = match self.try_thrice(spec, timing.timeout).await {
                Tried::Success => true,
                Tried::Warning(text) => {
                    self.event("ProbeWarning", format!("{} probe warning: {text}", self.kind.name()));
                    true
                }
                Tried::Failure(text) => {
                    self.event("Unhealthy", format!("{} probe failed: {text}", self.kind.name()));
                    false
                }
                Tried::Error(text) => {
                    let kind = self.kind.name();
                    self.event(
                        "Unhealthy",
                        format!("{kind} probe errored and resulted in unknown state: {text}"),
                    );
                    continue;
                }
            };
            run = if last == Some(ok) { run + 1 } else { 1 };
            last = Some(ok);
            if run < if ok { timing.success_threshold } else { timing.failure_threshold } {
                continue;
            }
            self.set(ok);
            // Decided until there is a new container.
            if self.kind == Kind::Startup || (self.kind == Kind::Liveness && !ok) {
                return;
            }
        }
    }

    fn set(&self, ok: bool) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = results.get_mut(&self.id) else { return };
        let slot = self.kind.slot(entry);
        if *slot != Some(ok) {
            *slot = Some(ok);
            drop(results);
            self.wake.notify_one();
        }
    }

    fn event(&self, reason: &str, message: String) {
        let about = container_reference(&self.pod, &self.container.name);
        self.agent.recorder.event(about, Severity::Warning, reason, message);
    }

    async fn try_thrice(&self, spec: &Probe, timeout: Duration) -> Tried {
        let mut last = Tried::Error("invalid probe: it has no action".into());
        for _ in 0..3 {
            last = self.try_once(spec, timeout).await;
            if !matches!(last, Tried::Error(_)) {
                break;
            }
        }
        last
    }

    async fn try_once(&self, spec: &Probe, timeout: Duration) -> Tried {
        let ip = match self.pod.spec().is_host_network() {
            true => self.agent.facts.ips.first(),
            false => self.ips.first(),
        };
        let ip = ip.cloned().unwrap_or_default();
        if let Some(exec) = &spec.exec {
            return self.exec(exec.command.clone().unwrap_or_default(), timeout).await;
        }
        if let Some(get) = &spec.http_get {
            let target = match http::target(get, &self.container, &ip) {
                Ok(target) => target,
                Err(e) => return Tried::Error(e),
            };
            return match tokio::time::timeout(timeout, http::get(&target)).await {
                Ok(Ok(answer)) => match answer.status {
                    200..300 => Tried::Success,
                    300..400 => {
                        Tried::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
                    }
                    status => Tried::Failure(format!("HTTP probe failed with statuscode: {status}")),
                },
                Ok(Err(e)) => Tried::Failure(e),
                Err(_) => Tried::Failure(format!(
                    "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                    target.uri.to_string()
                )),
            };
        }
        if let Some(tcp) = &spec.tcp_socket {
            let number = match port::resolve(&tcp.port, &self.container) {
                Ok(number) => number,
                Err(e) => return Tried::Error(e),
            };
            let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or(ip);
            let connect = tokio::net::TcpStream::connect((host.as_str(), number));
            return match tokio::time::timeout(timeout, connect).await {
                Ok(Ok(_)) => Tried::Success,
                Ok(Err(e)) => Tried::Failure(http::dial_error(&host, number, &e)),
                Err(_) => Tried::Failure(format!("dial tcp {host}:{number}: i/o timeout")),
            };
        }
        if let Some(action) = &spec.grpc {
            let number = u16::try_from(action.port).unwrap_or(0);
            let service = action.service.as_deref().unwrap_or_default();
            let check = grpc::check(&ip, number, service);
            return match tokio::time::timeout(timeout, check).await {
                Ok(grpc::Health::Serving) => Tried::Success,
                Ok(grpc::Health::Not(why)) => Tried::Failure(why),
                Err(_) => Tried::Failure(format!(
                    "timeout: failed to connect service \"{ip}:{number}\" within {}s: context deadline exceeded",
                    timeout.as_secs()
                )),
            };
        }
        Tried::Error("missing probe handler".into())
    }

    async fn exec(&self, cmd: Vec<String>, timeout: Duration) -> Tried {
        let timed_out =
            || format!("command timed out: {:?} timed out after {}s", cmd.join(" "), timeout.as_secs());
        let request = v1::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: cmd.clone(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        // The runtime keeps the time; this is for one that does not.
        let bound = timeout + Duration::from_secs(2);
        match tokio::time::timeout(bound, self.agent.runtime.exec_sync(request)).await {
            Ok(Ok(answer)) if answer.exit_code == 0 => Tried::Success,
            Ok(Ok(answer)) => {
                let mut output = answer.stdout;
                output.extend(answer.stderr);
                output.truncate(10 * 1024);
                Tried::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Ok(Err(e)) if e.code == Code::DeadlineExceeded => Tried::Failure(timed_out()),
            Ok(Err(e)) => Tried::Error(e.to_string()),
            Err(_) => Tried::Failure(timed_out()),
        }
    }
}
