//! Carries out a Deployment's rounds.

use std::sync::Arc;

use client::write::{ErrorKind, Part, ignore_not_found, merge, namespace_terminating, namespaced, strategic};
use client::{Change, Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::decide::{Step, View, decide};
use super::revision::{same_template, template};
use super::scale::is_recreate;
use super::status::{NEW_SET_FAILED, PROGRESSING, deadline, new_condition, set_condition};
use crate::common::{
    BY_CONTROLLER, Context, controller_of, controller_ref, gone, is_controlled_by, matches, message, owner,
    owners, pod_controller, seen,
};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    service_account: "deployment-controller",
    component: "deployment-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

struct Worker {
    context: Context,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
}

async fn run(context: Context) {
    let worker = Arc::new(Worker {
        deployments: context.informers.of(),
        sets: context.informers.of(),
        pods: context.informers.of(),
        context,
    });
    worker.pods.add_index(BY_CONTROLLER, pod_controller);
    worker.deployments.synced().await;
    worker.sets.synced().await;
    worker.pods.synced().await;
    let queue = Queue::named("deployment");
    let added = queue.clone();
    let _deployments = worker.deployments.on_change(move |change| added.add(change.key.clone()));
    let (added, deployments) = (queue.clone(), worker.deployments.clone());
    let _sets = worker.sets.on_change(move |change| set_changed(change, &deployments, &added));
    let (added, all) = (queue.clone(), worker.clone());
    let _pods = worker.pods.on_change(move |change| {
        // Recreate waits for the last old pod to go.
        if let (Some(pod), None) = (change.old, change.new)
            && let Some(key) = all.recreating(pod)
        {
            added.add(key);
        }
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

fn set_changed(change: &Change<'_, ReplicaSet>, deployments: &Store<Deployment>, queue: &Queue) {
    owners::<Deployment, _>(change).for_each(|key| queue.add(key));
    let Some(set) = change.new.filter(|set| controller_of(&set.metadata).is_none()) else { return };
    for deployment in deployments.list_namespace(change.key.namespace()) {
        if deployment.spec.as_ref().is_some_and(|spec| matches(&spec.selector, set.metadata.labels.as_ref()))
        {
            queue.add(Key::new(change.key.namespace(), &deployment.name_any()));
        }
    }
}

impl Worker {
    fn recreating(&self, pod: &Pod) -> Option<Key> {
        let set = self.sets.get(&owner::<ReplicaSet>(&pod.metadata)?)?;
        let key = owner::<Deployment>(&set.metadata)?;
        self.deployments.get(&key).filter(|deployment| is_recreate(deployment)).map(|_| key)
    }

    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let Some(deployment) = self.deployments.get(&key) else { return Ok(Outcome::Done) };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut sets = self.sets.list_namespace(key.namespace());
        sets.retain(|set| controller_of(&set.metadata).is_none_or(|owner| owner.uid == uid));
        let pods: Vec<Arc<Pod>> = if is_recreate(&deployment) {
            let own = sets.iter().filter(|set| is_controlled_by(&set.metadata, uid));
            let uids = own.filter_map(|set| set.metadata.uid.as_deref());
            uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid)).collect()
        } else {
            Vec::new()
        };
        let plan = decide(&View { deployment: &deployment, sets: &sets, pods: &pods }, Timestamp::now());
        for step in plan.steps {
            match self.step(&deployment, step).await {
                Ok(true) => {}
                Ok(false) => return Ok(Outcome::Done),
                Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
                Err(error) => return Err(error),
            }
        }
        Ok(plan.again.map_or(Outcome::Done, Outcome::After))
    }

    /// Carries out one step; false if the rest of the plan no longer holds.
    async fn step(&self, deployment: &Deployment, step: Step) -> Result<bool, kube::Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let sets: Api<ReplicaSet> = namespaced(&self.context.client, namespace);
        let deployments: Api<Deployment> = namespaced(&self.context.client, namespace);
        let params = PostParams::default();
        let written = match step {
            Step::Event { warning: true, reason, message } => {
                self.context.recorder.warning(deployment, reason, message);
                return Ok(true);
            }
            Step::Event { warning: false, reason, message } => {
                self.context.recorder.normal(deployment, reason, message);
                return Ok(true);
            }
            Step::Adopt(set) => {
                let fresh = deployments.get(&deployment.name_any()).await?;
                if fresh.metadata.uid != deployment.metadata.uid
                    || fresh.metadata.deletion_timestamp.is_some()
                {
                    return Ok(false);
                }
                let body =
                    json!({"metadata": {"uid": set.uid(), "ownerReferences": [controller_ref(deployment)]}});
                ignore_not_found(strategic(&sets, &set.name_any(), Part::Main, &body).await)?
            }
            Step::Release(set) => {
                let owners = set.owner_references();
                let kept: Vec<_> =
                    owners.iter().filter(|o| Some(&o.uid) != deployment.metadata.uid.as_ref()).collect();
                let body = json!({"metadata": {"uid": set.uid(), "ownerReferences": kept}});
                match merge(&sets, &set.name_any(), Part::Main, &body).await {
                    Err(error) if ErrorKind::of(&error) == ErrorKind::Invalid => None,
                    result => ignore_not_found(result)?,
                }
            }
            Step::Create(set) => match sets.create(&params, &set).await {
                Ok(set) => Some(set),
                Err(error) => return self.not_created(deployment, &set, error).await,
            },
            Step::Update(set) => Some(sets.replace(&set.name_any(), &params, &set).await?),
            Step::Delete(set) => {
                ignore_not_found(sets.delete(&set.name_any(), &DeleteParams::default()).await)?;
                gone(&self.sets, &set).await;
                None
            }
            Step::UpdateDeployment(deployment) => {
                seen(
                    &self.deployments,
                    &deployments.replace(&deployment.name_any(), &params, &deployment).await?,
                )
                .await;
                None
            }
            Step::UpdateStatus(deployment) => {
                let written = deployments.replace_status(&deployment.name_any(), &params, &deployment).await;
                if let Some(deployment) = ignore_not_found(written)? {
                    seen(&self.deployments, &deployment).await;
                }
                None
            }
        };
        if let Some(set) = written {
            seen(&self.sets, &set).await;
        }
        Ok(true)
    }

    /// A name that is taken is either our own earlier write, or two templates have the same hash: then the next
    /// round makes another one.
    async fn not_created(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: kube::Error,
    ) -> Result<bool, kube::Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.name_any();
        if namespace_terminating(&error) {
            return Err(error);
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        if ErrorKind::of(&error) == ErrorKind::AlreadyExists {
            let sets: Api<ReplicaSet> = namespaced(&self.context.client, namespace);
            let Some(existing) = sets.get_opt(&name).await? else { return Err(error) };
            let own =
                is_controlled_by(&existing.metadata, deployment.metadata.uid.as_deref().unwrap_or_default());
            if own && same_template(&template(&existing), &template(set)) {
                seen(&self.sets, &existing).await;
                return Err(error);
            }
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        } else {
            let text = format!("Failed to create new replica set {name:?}: {}", message(&error));
            self.context.recorder.warning(deployment, NEW_SET_FAILED, text.clone());
            if deadline(deployment).is_none() {
                return Err(error);
            }
            set_condition(
                status,
                new_condition(PROGRESSING, "False", NEW_SET_FAILED, text, Timestamp::now()),
            );
        }
        let api: Api<Deployment> = namespaced(&self.context.client, namespace);
        if let Ok(written) =
            api.replace_status(&deployment.name_any(), &PostParams::default(), &changed).await
        {
            seen(&self.deployments, &written).await;
        }
        Err(error)
    }
}
