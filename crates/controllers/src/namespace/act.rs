//! Deletes a namespace's content: pods first, then all else, then the finalizer.

use client::raw::{Content, list_metadata, send};
use client::write::{ErrorKind, ignore_not_found};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize;
use serde_json::json;

use super::decide::{Remains, conditions, pods_left_seconds};
use crate::common::{Context, Resource, discover, message, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    service_account: "namespace-controller",
    component: "namespace-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// The finalizer in `spec.finalizers` that is this controller's.
const FINALIZER: &str = "kubernetes";

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

struct Worker {
    context: Context,
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
}

async fn run(context: Context) {
    let worker = Worker { namespaces: context.informers.of(), pods: context.informers.of(), context };
    worker.namespaces.synced().await;
    worker.pods.synced().await;
    let queue = Queue::named("namespace");
    let added = queue.clone();
    let _namespaces = worker.namespaces.on_change(move |change| {
        if change.new.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            added.add(change.key.clone());
        }
    });
    let (added, namespaces) = (queue.clone(), worker.namespaces.clone());
    let _pods = worker.pods.on_change(move |change| {
        // The last pod's end is what a namespace mostly waits for.
        let key = Key::cluster(change.key.namespace());
        let ends = || namespaces.get(&key).is_some_and(|n| n.metadata.deletion_timestamp.is_some());
        if change.new.is_none() && ends() {
            added.add(key);
        }
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        // A deletion is not to be done on hearsay.
        let Some(namespace) = api.get_opt(key.name()).await? else { return Ok(Outcome::Done) };
        let Some(deleted) = namespace.metadata.deletion_timestamp.clone() else { return Ok(Outcome::Done) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(Outcome::Done);
        }
        let remains = self.empty(key.name(), deleted.0).await;
        let namespace = self.tell(&api, namespace, &remains).await?;
        let Some(namespace) = namespace else { return Ok(Outcome::Done) };
        if !remains.is_clean() {
            return Ok(Outcome::After(remains.again()));
        }
        let rest: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": namespace.metadata, "spec": {"finalizers": rest},
        });
        let path = format!("/api/v1/namespaces/{}/finalize", key.name());
        ignore_not_found(send(&self.context.client, "PUT", &path, Content::Json, &body).await)?;
        Ok(Outcome::Done)
    }

    /// Writes phase and conditions where they have changed; none if the namespace has gone.
    async fn tell(
        &self,
        api: &Api<Namespace>,
        mut namespace: Namespace,
        remains: &Remains,
    ) -> Result<Option<Namespace>, kube::Error> {
        let mut old = namespace.status.clone().unwrap_or_default();
        let phase_due = old.phase.as_deref() != Some("Terminating");
        old.phase = Some("Terminating".to_owned());
        let new = conditions(&old, remains, Timestamp::now());
        if new.is_none() && !phase_due {
            return Ok(Some(namespace));
        }
        namespace.status = new.or(Some(old));
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let written = ignore_not_found(api.replace_status(&name, &PostParams::default(), &namespace).await)?;
        if let Some(namespace) = &written {
            seen(&self.namespaces, namespace).await;
        }
        Ok(written)
    }

    /// One pass of deletion over everything in the namespace.
    async fn empty(&self, namespace: &str, deleted: Timestamp) -> Remains {
        let mut remains = Remains::default();
        let resources = match discover(&self.context.client).await {
            Ok(found) => {
                if !found.stale.is_empty() {
                    let (count, names) = (found.stale.len(), found.stale.join(", "));
                    remains.discovery_error = Some(format!(
                        "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {names}: stale GroupVersion discovery"
                    ));
                }
                found.resources
            }
            Err(error) => {
                remains.discovery_error = Some(message(&error));
                return remains;
            }
        };
        let (pods, others): (Vec<_>, Vec<_>) = resources
            .into_iter()
            .filter(|resource| {
                resource.namespaced && resource.can("delete") && !resource.plural.contains('/')
            })
            .partition(|resource| resource.group.is_empty() && resource.plural == "pods");
        for resource in &pods {
            self.empty_kind(namespace, resource, deleted, &mut remains).await;
        }
        // What pods still need in their last moments stays until they are gone.
        if remains.resources.is_empty() {
            for resource in &others {
                self.empty_kind(namespace, resource, deleted, &mut remains).await;
            }
        }
        remains
    }

    async fn empty_kind(
        &self,
        namespace: &str,
        resource: &Resource,
        deleted: Timestamp,
        remains: &mut Remains,
    ) {
        let mut grace = 0;
        if resource.plural == "pods" && resource.group.is_empty() {
            let pods = self.pods.list_namespace(namespace);
            let periods: Vec<i64> = pods
                .iter()
                .filter(|pod| !crate::common::is_finished(pod))
                .filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds)
                .collect();
            grace = pods_left_seconds(&periods, deleted, Timestamp::now());
        }
        if let Err(error) = self.delete_kind(namespace, resource).await {
            remains.delete_errors.push(message(&error));
            return;
        }
        if !resource.can("list") {
            return;
        }
        match list_metadata::<Item>(&self.context.client, &resource.path(namespace)).await {
            Ok(items) => {
                let finalizers: Vec<Vec<String>> =
                    items.into_iter().map(|item| item.metadata.finalizers.unwrap_or_default()).collect();
                let unheld = finalizers.iter().all(Vec::is_empty);
                if !finalizers.is_empty() && grace == 0 && unheld {
                    let (plural, group, version) = (&resource.plural, &resource.group, &resource.version);
                    remains.delete_errors.push(format!(
                        "unexpected items still remain in namespace: {namespace} for gvr: {group}/{version}, Resource={plural}"
                    ));
                }
                remains.add(&resource.plural, &resource.group, &finalizers, grace);
            }
            Err(error) if is_unsupported(&error) => {}
            Err(error) => remains.delete_errors.push(message(&error)),
        }
    }

    async fn delete_kind(&self, namespace: &str, resource: &Resource) -> Result<(), kube::Error> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let client = &self.context.client;
        if resource.can("deletecollection") {
            match send(client, "DELETE", &resource.path(namespace), Content::Json, &options).await {
                Err(error) if is_unsupported(&error) => {}
                result => return result,
            }
        }
        if !resource.can("list") {
            return Ok(());
        }
        let items: Vec<Item> = match list_metadata(client, &resource.path(namespace)).await {
            Err(error) if is_unsupported(&error) => return Ok(()),
            items => items?,
        };
        for item in items {
            let path = resource.object_path(namespace, item.metadata.name.as_deref().unwrap_or_default());
            match send(client, "DELETE", &path, Content::Json, &options).await {
                Err(error) if is_unsupported(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// The kind, or this way of asking for it, is not (or no longer) there.
fn is_unsupported(error: &kube::Error) -> bool {
    ErrorKind::of(error) == ErrorKind::NotFound
        || matches!(error, kube::Error::Api(status) if status.code == 405)
}
