//! TTL after finished: Jobs that ask for it are deleted some time after their end (KEP-592).

use std::time::Duration;

use client::write::{ignore_not_found, namespaced};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use crate::common::Context;
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    service_account: "ttl-after-finished-controller",
    component: "ttl-after-finished-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let jobs = context.informers.of::<Job>();
    jobs.synced().await;
    let queue = Queue::named("ttl_jobs_to_delete");
    let added = queue.clone();
    let _jobs = jobs.on_change(move |change| {
        if change.new.is_some_and(|job| left(job, Timestamp::now()).is_some()) {
            added.add(change.key.clone());
        }
    });
    let reconcile = |key: Key| {
        let (jobs, client) = (&jobs, &context.client);
        async move {
            let Some(wait) = jobs.get(&key).and_then(|job| left(&job, Timestamp::now())) else {
                return Ok(Outcome::Done);
            };
            if !wait.is_zero() {
                return Ok(Outcome::After(wait));
            }
            // The time may have been set anew: what the server has counts.
            let api: Api<Job> = namespaced(client, key.namespace());
            let Some(job) = api.get_opt(key.name()).await? else { return Ok(Outcome::Done) };
            match left(&job, Timestamp::now()) {
                None => return Ok(Outcome::Done),
                Some(wait) if !wait.is_zero() => return Ok(Outcome::After(wait)),
                Some(_) => {}
            }
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            ignore_not_found(api.delete(key.name(), &params).await)?;
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

/// How long a finished Job has left; None if it stays.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let over = job.status.as_ref()?.conditions.iter().flatten();
    let mut over = over.filter(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    let end = over.next()?.last_transition_time.as_ref()?.0;
    let left = SignedDuration::from_secs(seconds.into()) - now.duration_since(end);
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::common::test::at;

    #[test]
    fn counts_from_the_end() {
        let job = |ttl: Option<i32>, status: &str| -> Job {
            let condition =
                json!({"type": "Complete", "status": status, "lastTransitionTime": at(0).to_string()});
            let spec = json!({"ttlSecondsAfterFinished": ttl, "template": {}});
            serde_json::from_value(json!({"spec": spec, "status": {"conditions": [condition]}})).unwrap()
        };
        assert_eq!(left(&job(Some(10), "True"), at(4)), Some(Duration::from_secs(6)));
        assert_eq!(left(&job(Some(10), "True"), at(40)), Some(Duration::ZERO));
        assert_eq!(left(&job(Some(10), "False"), at(40)), None);
        assert_eq!(left(&job(None, "True"), at(40)), None);
    }
}
