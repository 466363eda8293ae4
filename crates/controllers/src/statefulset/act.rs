//! Carries out what a StatefulSet's decision says.

use std::sync::Arc;

use client::write::{ErrorKind, ignore_not_found, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::decide::{Step, View, decide, status};
use super::identity::{claims, new_pod, pod_name, revision};
use crate::common::{
    BY_CONTROLLER, Context, PodControl, Revisions, available_in, data_hash, message, owners, pod_controller,
    seen,
};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    service_account: "statefulset-controller",
    component: "statefulset-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

struct Worker {
    context: Context,
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    revisions: Store<ControllerRevision>,
}

async fn run(context: Context) {
    let worker = Worker {
        sets: context.informers.of(),
        pods: context.informers.of(),
        revisions: context.informers.of(),
        context,
    };
    worker.pods.add_index(BY_CONTROLLER, pod_controller);
    worker.sets.synced().await;
    worker.pods.synced().await;
    worker.revisions.synced().await;
    let queue = Queue::named("statefulset");
    let added = queue.clone();
    let _sets = worker.sets.on_change(move |change| added.add(change.key.clone()));
    let added = queue.clone();
    let _pods =
        worker.pods.on_change(move |change| owners::<StatefulSet, _>(&change).for_each(|key| added.add(key)));
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(set) = self.sets.get(&key) else { return Ok(Outcome::Done) };
        let Some(spec) = &set.spec else { return Ok(Outcome::Done) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let kept = Revisions::keep(&self.context, &self.revisions, &*set, &spec.template, |data| {
            data_hash(data, Some(collisions))
        })
        .await;
        let revisions = match kept {
            Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
            kept => kept?,
        };
        let update = revisions.name();
        let pods = self.own(&set);
        let steps = decide(&View { set: &set, pods: &pods, update: &update }, Timestamp::now());
        let mut acted = Ok(());
        for step in steps {
            acted = self.step(&set, &revisions, step).await;
            if acted.is_err() {
                break;
            }
        }
        let pods = self.own(&set);
        if let Some(status) = status(&View { set: &set, pods: &pods, update: &update }, Timestamp::now()) {
            let mut set = (*set).clone();
            set.status = Some(status);
            let api: Api<StatefulSet> = namespaced(&self.context.client, key.namespace());
            let written = api.replace_status(key.name(), &PostParams::default(), &set).await;
            if let Some(set) = ignore_not_found(written)? {
                seen(&self.sets, &set).await;
            }
        }
        match acted {
            Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
            acted => acted?,
        }
        let current =
            set.status.as_ref().and_then(|status| status.current_revision.clone()).unwrap_or_default();
        let in_use = |name: &str| name == current || pods.iter().any(|pod| revision(pod) == name);
        let limit = spec.revision_history_limit.unwrap_or(10).max(0) as usize;
        revisions.clean_up(&self.context, limit, in_use).await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let next = pods.iter().filter_map(|pod| available_in(pod, min_ready, Timestamp::now())).min();
        Ok(next.map_or(Outcome::Done, Outcome::After))
    }

    fn own(&self, set: &StatefulSet) -> Vec<Arc<Pod>> {
        self.pods.by_index(BY_CONTROLLER, set.metadata.uid.as_deref().unwrap_or_default())
    }

    async fn step(&self, set: &StatefulSet, revisions: &Revisions, step: Step) -> Result<(), kube::Error> {
        let control = PodControl { context: &self.context, pods: &self.pods };
        let namespace = set.namespace().unwrap_or_default();
        let (verb, name, done) = match step {
            Step::Create(ordinal, revision) => {
                let template = revisions.template(&revision);
                let template = template.or_else(|| set.spec.as_ref().map(|spec| spec.template.clone()));
                let pod = new_pod(set, ordinal, &template.unwrap_or_default(), &revision);
                ("create", pod_name(set, ordinal), self.create(set, &namespace, ordinal, &pod).await)
            }
            Step::Delete(pod) => ("delete", pod.name_any(), control.remove(&namespace, &pod).await),
        };
        let (reason, owner) = (if verb == "create" { "Create" } else { "Delete" }, set.name_any());
        match done {
            Ok(true) => {
                let text = format!("{verb} Pod {name} in StatefulSet {owner} successful");
                self.context.recorder.normal(set, &format!("Successful{reason}"), text);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                let why = message(&error);
                let text = format!("{verb} Pod {name} in StatefulSet {owner} failed error: {why}");
                self.context.recorder.warning(set, &format!("Failed{reason}"), text);
                Err(error)
            }
        }
    }

    /// The claims, then the pod; false if the name is still taken by another pod.
    async fn create(
        &self,
        set: &StatefulSet,
        namespace: &str,
        ordinal: i32,
        pod: &Pod,
    ) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let api: Api<PersistentVolumeClaim> = namespaced(&self.context.client, namespace);
        for (_, claim) in claims(set, ordinal) {
            let name = claim.name_any();
            match api.create(&params, &claim).await {
                Ok(_) => {
                    let (pod, set_name) = (pod.name_any(), set.name_any());
                    let text = format!("create Claim {name} Pod {pod} in StatefulSet {set_name} success");
                    self.context.recorder.normal(set, "SuccessfulCreate", text);
                }
                Err(error) if ErrorKind::of(&error) == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let api: Api<Pod> = namespaced(&self.context.client, namespace);
        let pod = api.create(&params, pod).await?;
        seen(&self.pods, &pod).await;
        Ok(true)
    }
}
