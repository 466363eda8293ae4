//! Carries out what a CronJob's decision says.

use client::events::reference;
use client::write::{ErrorKind, ignore_not_found, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use super::decide::{View, decide};
use crate::common::{Context, controller_of, is_controlled_by, message, owners, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    service_account: "cronjob-controller",
    component: "cronjob-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// The index of Jobs by their controller's uid.
const BY_OWNER: &str = "owner";

struct Worker {
    context: Context,
    crons: Store<CronJob>,
    jobs: Store<Job>,
    local: TimeZone,
}

async fn run(context: Context) {
    let local = std::fs::read("/etc/localtime").ok().and_then(|data| TimeZone::tzif("Local", &data).ok());
    let worker = Worker {
        crons: context.informers.of(),
        jobs: context.informers.of(),
        local: local.unwrap_or(TimeZone::UTC),
        context,
    };
    worker.jobs.add_index(BY_OWNER, |job| {
        controller_of(&job.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
    });
    worker.crons.synced().await;
    worker.jobs.synced().await;
    let queue = Queue::named("cronjob");
    let added = queue.clone();
    let _crons = worker.crons.on_change(move |change| added.add(change.key.clone()));
    let added = queue.clone();
    let _jobs =
        worker.jobs.on_change(move |change| owners::<CronJob, _>(&change).for_each(|key| added.add(key)));
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(cron) = self.crons.get(&key) else { return Ok(Outcome::Done) };
        let jobs = self.jobs.by_index(BY_OWNER, cron.metadata.uid.as_deref().unwrap_or_default());
        let view = View { cron: &cron, jobs: &jobs, local: &self.local, now: Timestamp::now() };
        let plan = decide(&view);
        let recorder = &self.context.recorder;
        for (warning, reason, message) in plan.notes {
            match warning {
                true => recorder.warning(&*cron, reason, message),
                false => recorder.normal(&*cron, reason, message),
            }
        }
        let api: Api<Job> = namespaced(&self.context.client, key.namespace());
        for job in plan.delete {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: job.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            if ignore_not_found(api.delete(&job.name_any(), &params).await)?.is_some() {
                recorder.normal(&*cron, "SuccessfulDelete", format!("Deleted job {}", job.name_any()));
            }
        }
        let mut status = plan.status;
        if let Some(job) = plan.create {
            let name = job.name_any();
            let made = match api.create(&PostParams::default(), &job).await {
                Ok(made) => {
                    recorder.normal(&*cron, "SuccessfulCreate", format!("Created job {name}"));
                    made
                }
                Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
                // An earlier try got as far as this; of somebody else's Job nothing is taken over.
                Err(error) if ErrorKind::of(&error) == ErrorKind::AlreadyExists => {
                    let there = api.get(&name).await?;
                    if !is_controlled_by(&there.metadata, cron.metadata.uid.as_deref().unwrap_or_default()) {
                        return Err(error);
                    }
                    there
                }
                Err(error) => {
                    let text = format!("Error creating job: {}", message(&error));
                    recorder.warning(&*cron, "FailedCreate", text);
                    return Err(error);
                }
            };
            let status = status.get_or_insert_with(CronJobStatus::default);
            status.active.get_or_insert_default().push(reference(&made));
            seen(&self.jobs, &made).await;
        }
        if status.is_some() {
            let api: Api<CronJob> = namespaced(&self.context.client, key.namespace());
            let cron = CronJob { status, ..(*cron).clone() };
            let written = api.replace_status(key.name(), &PostParams::default(), &cron).await;
            if let Some(cron) = ignore_not_found(written)? {
                seen(&self.crons, &cron).await;
            }
        }
        Ok(plan.again.map_or(Outcome::Done, Outcome::After))
    }
}
