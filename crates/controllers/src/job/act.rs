//! Carries out what a Job's decision says, and frees pods that have no Job any more.

use std::time::Duration;

use client::write::{Part, ignore_not_found, merge, namespace_terminating, namespaced};
use client::{Change, Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use futures_util::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::decide::{Plan, decide};
use super::status::is_finished;
use super::view::{FINALIZER, View, tracked};
use crate::common::{
    BY_CONTROLLER, Context, PodControl, controller_of, controller_ref, matches, orphans, owners,
    pod_controller, seen,
};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "job-controller",
    service_account: "job-controller",
    component: "job-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// Jobs that name another controller are left to it.
const OURS: &str = "kubernetes.io/job-controller";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Job(Key),
    /// A pod with our finalizer that may have lost its Job.
    Pod(Key),
}

struct Worker {
    context: Context,
    jobs: Store<Job>,
    pods: Store<Pod>,
}

async fn run(context: Context) {
    let worker = Worker { jobs: context.informers.of(), pods: context.informers.of(), context };
    worker.pods.add_index(BY_CONTROLLER, pod_controller);
    worker.jobs.synced().await;
    worker.pods.synced().await;
    let queue = Queue::named("job");
    let (added, pods) = (queue.clone(), worker.pods.clone());
    let _jobs = worker.jobs.on_change(move |change| {
        added.add(Item::Job(change.key.clone()));
        // Without the Job nobody counts its pods any more.
        let gone = change.old.filter(|_| change.new.is_none_or(|job| is_finished(job)));
        for pod in gone
            .iter()
            .flat_map(|job| pods.by_index(BY_CONTROLLER, job.metadata.uid.as_deref().unwrap_or_default()))
        {
            added.add(Item::Pod(client::Cached::key(&*pod)));
        }
    });
    let (added, jobs) = (queue.clone(), worker.jobs.clone());
    let _pods = worker.pods.on_change(move |change| pod_changed(change, &jobs, &added));
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |item| worker.reconcile(item)).await;
}

fn pod_changed(change: &Change<'_, Pod>, jobs: &Store<Job>, queue: &Queue<Item>) {
    owners::<Job, _>(change).for_each(|key| queue.add(Item::Job(key)));
    if let Some(pod) = change.new.filter(|pod| controller_of(&pod.metadata).is_none()) {
        for job in jobs.list_namespace(change.key.namespace()) {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if selector.is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref())) {
                queue.add(Item::Job(client::Cached::key(&*job)));
            }
        }
    }
    if change.new.is_some_and(|pod| tracked(pod)) {
        queue.add(Item::Pod(change.key.clone()));
    }
}

impl Worker {
    async fn reconcile(&self, item: Item) -> Result<Outcome, kube::Error> {
        match item {
            Item::Job(key) => self.job(&key).await,
            Item::Pod(key) => self.free(&key).await,
        }
    }

    async fn job(&self, key: &Key) -> Result<Outcome, kube::Error> {
        let Some(job) = self.jobs.get(key) else { return Ok(Outcome::Done) };
        let foreign =
            job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).is_some_and(|by| by != OURS);
        if foreign || is_finished(&job) {
            return Ok(Outcome::Done);
        }
        if self.claim(&job, key).await? {
            // What came and went changes what is to be decided.
            return Ok(Outcome::After(Duration::ZERO));
        }
        let pods = self.pods.by_index(BY_CONTROLLER, job.metadata.uid.as_deref().unwrap_or_default());
        let plan = decide(&View { job: &job, pods: &pods, now: Timestamp::now() });
        match self.apply(&job, key, plan).await {
            Err(error) if namespace_terminating(&error) => Ok(Outcome::Done),
            result => result,
        }
    }

    /// Takes in pods without controller that the selector covers, and lets go own ones that it no longer does. True if
    /// there were any.
    async fn claim(&self, job: &Job, key: &Key) -> Result<bool, kube::Error> {
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Ok(false);
        };
        let api: Api<Pod> = namespaced(&self.context.client, key.namespace());
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let covers = |pod: &Pod| matches(selector, pod.metadata.labels.as_ref());
        let mut pods = self.pods.by_index(BY_CONTROLLER, uid);
        pods.retain(|pod| !covers(pod));
        let let_go = pods.len();
        for pod in pods {
            let owners: Vec<_> = pod.owner_references().iter().filter(|owner| owner.uid != uid).collect();
            self.write(&api, &pod, json!({"ownerReferences": owners, "finalizers": without(&pod)})).await?;
        }
        let mut pods = self.pods.by_index(BY_CONTROLLER, &orphans(key.namespace()));
        pods.retain(|pod| covers(pod) && pod.metadata.deletion_timestamp.is_none());
        if pods.is_empty() || job.metadata.deletion_timestamp.is_some() {
            return Ok(let_go > 0);
        }
        // Taking in must not race with our own deletion: the server is asked, not the cache.
        let jobs: Api<Job> = namespaced(&self.context.client, key.namespace());
        let fresh = jobs.get_opt(key.name()).await?;
        if fresh.is_none_or(|fresh| fresh.uid() != job.uid() || fresh.metadata.deletion_timestamp.is_some()) {
            return Ok(let_go > 0);
        }
        for pod in pods {
            let mut owners = pod.owner_references().to_vec();
            owners.push(controller_ref(job));
            let mut finalizers = without(&pod);
            finalizers.push(FINALIZER);
            self.write(&api, &pod, json!({"ownerReferences": owners, "finalizers": finalizers})).await?;
        }
        Ok(true)
    }

    async fn apply(&self, job: &Job, key: &Key, plan: Plan) -> Result<Outcome, kube::Error> {
        let control = PodControl { context: &self.context, pods: &self.pods };
        for deleted in join_all(plan.delete.iter().map(|pod| control.delete(job, pod))).await {
            deleted?;
        }
        // Batches of one, two, four, …: what always fails fails once.
        let (mut left, mut batch) = (plan.create.as_slice(), 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            for made in join_all(now.iter().map(|pod| control.create(job, key.namespace(), pod))).await {
                made?;
            }
            (left, batch) = (later, batch * 2);
        }
        if let Some(status) = plan.status {
            let api: Api<Job> = namespaced(&self.context.client, key.namespace());
            let job = Job { status: Some(status), ..job.clone() };
            let written = api.replace_status(key.name(), &PostParams::default(), &job).await;
            let Some(job) = ignore_not_found(written)? else { return Ok(Outcome::Done) };
            seen(&self.jobs, &job).await;
        }
        for (warning, reason, message) in plan.notes {
            match warning {
                true => self.context.recorder.warning(job, &reason, message),
                false => self.context.recorder.normal(job, &reason, message),
            }
        }
        for released in join_all(plan.release.iter().map(|pod| self.release(pod))).await {
            released?;
        }
        Ok(plan.again.map_or(Outcome::Done, Outcome::After))
    }

    /// Takes our finalizer off; the pod's change brings its Job back to count it.
    async fn release(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api: Api<Pod> = namespaced(&self.context.client, &pod.namespace().unwrap_or_default());
        self.write(&api, pod, json!({"finalizers": without(pod)})).await
    }

    async fn write(&self, api: &Api<Pod>, pod: &Pod, mut meta: Value) -> Result<(), kube::Error> {
        meta["uid"] = json!(pod.uid());
        meta["resourceVersion"] = json!(pod.resource_version());
        let written = merge(api, &pod.name_any(), Part::Main, &json!({"metadata": meta})).await;
        if let Some(pod) = ignore_not_found(written)? {
            seen(&self.pods, &pod).await;
        }
        Ok(())
    }

    async fn free(&self, key: &Key) -> Result<Outcome, kube::Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| tracked(pod)) else { return Ok(Outcome::Done) };
        if let Some(owner) = controller_of(&pod.metadata)
            && let Some(job) = self.jobs.get(&Key::new(key.namespace(), &owner.name))
            && job.metadata.uid.as_ref() == Some(&owner.uid)
            && !is_finished(&job)
        {
            return Ok(Outcome::Done);
        }
        self.release(&pod).await?;
        Ok(Outcome::Done)
    }
}

/// A pod's finalizers but ours.
fn without(pod: &Pod) -> Vec<&str> {
    pod.finalizers().iter().map(String::as_str).filter(|finalizer| *finalizer != FINALIZER).collect()
}
