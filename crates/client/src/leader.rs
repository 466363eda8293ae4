//! Leader election on a Lease: of several equal processes one works, the others wait.
//!
//! The rules are those of client-go: a lease may be taken when its holder has let `duration` pass without a
//! renewal, measured by our own clock from when we saw the last one.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::write::ErrorKind;

/// Upstream's defaults are 15 s, 10 s and 2 s.
#[derive(Clone, Debug)]
pub struct Config {
    pub namespace: String,
    pub name: String,
    /// Unlike every other candidate's.
    pub identity: String,
    pub duration: Duration,
    pub renew_deadline: Duration,
    pub retry: Duration,
}

impl Config {
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What to do with a lease as read; `now` is for its timestamps.
#[derive(Debug, PartialEq)]
enum Decision {
    Create(LeaseSpec),
    Update(LeaseSpec),
    Wait,
}

fn decide(
    lease: Option<&Lease>,
    identity: &str,
    duration: Duration,
    unchanged_for: Duration,
    now: Timestamp,
) -> Decision {
    let mine = |acquired: MicroTime, transitions: i32| LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(duration.as_secs() as i32),
        acquire_time: Some(acquired),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..Default::default()
    };
    let Some(lease) = lease else { return Decision::Create(mine(MicroTime(now), 0)) };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or(0);
    if holder == identity {
        return Decision::Update(mine(spec.acquire_time.unwrap_or(MicroTime(now)), transitions));
    }
    let lasts = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0) as u64);
    if holder.is_empty() || unchanged_for >= lasts {
        return Decision::Update(mine(MicroTime(now), transitions + 1));
    }
    Decision::Wait
}

/// Waits to lead, then runs `work` with a token that is cancelled when the lead is lost or on `shutdown`.
///
/// Returns when `work` has ended. On `shutdown` the lease is given back, so that another takes over at once.
pub async fn run<F: Future<Output = ()>>(
    client: kube::Client,
    config: Config,
    shutdown: CancellationToken,
    work: impl FnOnce(CancellationToken) -> F,
) {
    let mut candidate = Candidate { api: Api::namespaced(client, &config.namespace), seen: None, config };
    loop {
        match candidate.attempt().await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::debug!(lease = candidate.config.name, %error, "election attempt failed"),
        }
        let wait = candidate.config.retry.mul_f64(1.0 + 0.2 * chance());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
    tracing::info!(lease = candidate.config.name, identity = candidate.config.identity, "leading");
    let lead = shutdown.child_token();
    {
        let work = work(lead.clone());
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            () = candidate.hold(&shutdown) => {
                lead.cancel();
                work.await;
            }
        }
    }
    if let Err(error) = candidate.release().await {
        tracing::debug!(lease = candidate.config.name, %error, "the lease was not given back");
    }
}

struct Candidate {
    api: Api<Lease>,
    config: Config,
    /// The spec last seen, and when it was new.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// True if the lease is ours now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.config.name).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec, Instant::now()));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let Config { identity, duration, name, .. } = &self.config;
        let written = match decide(lease.as_ref(), identity, *duration, unchanged, Timestamp::now()) {
            Decision::Wait => return Ok(false),
            Decision::Create(spec) => {
                let metadata = ObjectMeta { name: Some(name.clone()), ..Default::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
            }
            Decision::Update(spec) => {
                let lease = Lease { spec: Some(spec), ..lease.unwrap_or_default() };
                self.api.replace(name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease.spec.unwrap_or_default(), Instant::now()));
                Ok(true)
            }
            // Another was faster.
            Err(error) if matches!(ErrorKind::of(&error), ErrorKind::Conflict | ErrorKind::AlreadyExists) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Renews until `shutdown`, or until no renewal has succeeded within the deadline.
    async fn hold(&mut self, shutdown: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.config.retry) => {}
            }
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => tracing::debug!(lease = self.config.name, "the lease was not renewed"),
                Ok(Err(error)) => {
                    tracing::debug!(lease = self.config.name, %error, "the lease was not renewed")
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                tracing::warn!(lease = self.config.name, "the lead is lost");
                return;
            }
        }
    }

    async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.config.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(&self.config.name, &PostParams::default(), &lease).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..Default::default()
        };
        Lease { spec: Some(spec), ..Default::default() }
    }

    #[test]
    fn who_may_take_it() {
        let check = |lease: Option<&Lease>, unchanged: u64| match decide(
            lease,
            "me",
            Duration::from_secs(15),
            Duration::from_secs(unchanged),
            Timestamp::UNIX_EPOCH,
        ) {
            Decision::Create(spec) => ("create", spec.lease_transitions),
            Decision::Update(spec) => ("update", spec.lease_transitions),
            Decision::Wait => ("wait", None),
        };
        assert_eq!(check(None, 0), ("create", Some(0)));
        assert_eq!(check(Some(&lease("me")), 0), ("update", Some(3)));
        assert_eq!(check(Some(&lease("you")), 14), ("wait", None));
        assert_eq!(check(Some(&lease("you")), 15), ("update", Some(4)));
        assert_eq!(check(Some(&lease("")), 0), ("update", Some(4)));
    }
}
