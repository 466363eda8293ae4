//! Stopping containers: pre-stop hooks, grace, and the order in which sidecars go.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::cri::v1;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::observe::alive;
use super::{Agent, container_reference};
use crate::decide::KillReason;
use crate::observed::{Container as Seen, Observed};
use crate::pod::{PodExt, SpecExt, is_sidecar};
use client::events::Severity;

/// However short the grace: a container gets this long between SIGTERM and SIGKILL.
const MIN_GRACE: i64 = 2;

impl Agent {
    /// Stops every container of the pod, then its sandboxes. `grace`: seconds, instead of what the pod asks for.
    pub async fn kill_pod(&self, pod: &Pod, seen: &Observed, grace: Option<i64>) -> runtime::cri::Result<()> {
        let running: Vec<&Seen> = alive(seen).collect();
        let sidecar_index =
            |c: &Seen| pod.spec().init_containers().iter().position(|s| s.name == c.name && is_sidecar(s));
        let ended: Vec<watch::Sender<bool>> = running.iter().map(|_| watch::Sender::new(false)).collect();
        let kills = running.iter().enumerate().map(|(i, container)| {
            let own = sidecar_index(container);
            // A sidecar waits for the regular containers and for the sidecars that were started after it.
            let waits: Vec<watch::Receiver<bool>> = running
                .iter()
                .enumerate()
                .filter(|(j, other)| {
                    *j != i && own.is_some_and(|own| sidecar_index(other).is_none_or(|theirs| theirs > own))
                })
                .map(|(j, _)| ended[j].subscribe())
                .collect();
            let done = &ended[i];
            async move {
                let result =
                    self.kill_container(pod, container, "", KillReason::PodTermination, grace, waits).await;
                done.send_replace(true);
                result
            }
        });
        let results = join_all(kills).await;
        let mut failed = results.into_iter().find_map(Result::err);
        for sandbox in &seen.sandboxes {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(e) = self.runtime.stop_pod_sandbox(request).await
                && !e.is_not_found()
            {
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Stops one container: event, pre-stop hook, its turn, SIGTERM, SIGKILL.
    pub async fn kill_container(
        &self,
        pod: &Pod,
        seen: &Seen,
        message: &str,
        reason: KillReason,
        grace: Option<i64>,
        waits: Vec<watch::Receiver<bool>>,
    ) -> runtime::cri::Result<()> {
        let spec = pod.spec().container(&seen.name);
        let container = spec.as_ref().map(|(_, c)| c.as_ref());
        let message =
            if message.is_empty() { format!("Stopping container {}", seen.name) } else { message.to_owned() };
        // Of a pod whose object is unknown nothing can be told.
        if !pod.uid().is_empty() {
            self.recorder.event(container_reference(pod, &seen.name), Severity::Normal, "Killing", message);
        }

        let total = grace.unwrap_or_else(|| grace_for(pod, container, reason));
        let started = Instant::now();
        let left = || Duration::from_secs(total.unsigned_abs()).saturating_sub(started.elapsed());
        let hook = container.and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.as_ref());
        if let (Some(hook), Some(container), true) = (hook, container, total > 0) {
            let ran = tokio::time::timeout(left(), self.run_hook(pod, container, &seen.id, hook)).await;
            if let Ok(Err(error)) = ran {
                tracing::warn!(pod = pod.describe(), container = seen.name, error, "pre-stop hook failed");
                let about = container_reference(pod, &seen.name);
                self.recorder.event(about, Severity::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
        }
        for mut wait in waits {
            let _ = tokio::time::timeout(left(), wait.wait_for(|ended| *ended)).await;
        }
        let elapsed = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        let timeout = (total - elapsed).max(MIN_GRACE);
        let request = v1::StopContainerRequest { container_id: seen.id.clone(), timeout };
        match self.runtime.stop_container(request).await {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }
}

/// Seconds a container gets where nobody shortened it: a probe's own figure where a probe is the cause.
fn grace_for(pod: &Pod, container: Option<&Container>, reason: KillReason) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let probe = match reason {
        KillReason::StartupProbe => container.and_then(|c| c.startup_probe.as_ref()),
        KillReason::LivenessProbe => container.and_then(|c| c.liveness_probe.as_ref()),
        _ => None,
    };
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| pod.spec().grace_period())
}
