//! Finalizers that hold up the deletion of claims that pods use, and of volumes that claims are bound to.

use client::write::{ignore_not_found, namespaced};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::pods::{BY_CLAIM, claims};
use super::terms::volume_phase;
use crate::common::{Context, is_finished, seen};
use crate::table::Controller;

pub(crate) const CLAIMS: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    service_account: "pvc-protection-controller",
    component: "pvc-protection-controller",
    on_by_default: true,
    start: |context| run_claims(context).boxed(),
};

pub(crate) const VOLUMES: Controller = Controller {
    name: "persistentvolume-protection-controller",
    service_account: "pv-protection-controller",
    component: "pv-protection-controller",
    on_by_default: true,
    start: |context| run_volumes(context).boxed(),
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// The finalizers to write, if `finalizer` is not as it should be: on what lives, and off what goes and is not used.
pub(super) fn decide(meta: &ObjectMeta, finalizer: &str, used: impl FnOnce() -> bool) -> Option<Vec<String>> {
    let mut all = meta.finalizers.clone().unwrap_or_default();
    let there = all.iter().any(|name| name == finalizer);
    match (meta.deletion_timestamp.is_some(), there) {
        (false, false) => all.push(finalizer.to_owned()),
        (true, true) if !used() => all.retain(|name| name != finalizer),
        _ => return None,
    }
    Some(all)
}

/// Pods without node do not count: no kubelet starts one whose claim is going.
pub(super) fn uses(pod: &Pod, claim: &str) -> bool {
    let Some(spec) =
        pod.spec.as_ref().filter(|spec| spec.node_name.as_deref().is_some_and(|n| !n.is_empty()))
    else {
        return false;
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    spec.volumes.iter().flatten().any(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => source.claim_name == claim,
        (None, Some(_)) => !is_finished(pod) && format!("{name}-{}", volume.name) == claim,
        (None, None) => false,
    })
}

async fn run_claims(context: Context) {
    let store = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    pods.add_index(BY_CLAIM, claims);
    store.synced().await;
    pods.synced().await;
    let queue = Queue::new();
    let added = queue.clone();
    let _claims = store.on_change(move |change| added.add(change.key.clone()));
    let added = queue.clone();
    let _pods = pods.on_change(move |change| {
        // Only a pod that ends can set a claim free.
        if change.new.is_none_or(|pod| is_finished(pod)) {
            for key in change.old.or(change.new).into_iter().flat_map(|pod| claims(pod)) {
                if let Some((namespace, name)) = key.split_once('/') {
                    added.add(Key::new(namespace, name));
                }
            }
        }
    });
    let reconcile = |key: Key| {
        let (store, pods, client) = (&store, &pods, &context.client);
        async move {
            let Some(claim) = store.get(&key) else { return Ok(Outcome::Done) };
            let cached = || pods.by_index(BY_CLAIM, key.as_str()).iter().any(|pod| uses(pod, key.name()));
            let Some(finalizers) = decide(&claim.metadata, CLAIM_FINALIZER, cached) else {
                return Ok(Outcome::Done);
            };
            if claim.metadata.deletion_timestamp.is_some() {
                // The cache may be behind a pod that has just been given its node.
                let live: Api<Pod> = namespaced(client, key.namespace());
                if live.list(&ListParams::default()).await?.iter().any(|pod| uses(pod, key.name())) {
                    return Ok(Outcome::Done);
                }
            }
            let api: Api<PersistentVolumeClaim> = namespaced(client, key.namespace());
            let mut claim = (*claim).clone();
            claim.metadata.finalizers = Some(finalizers);
            let written = api.replace(key.name(), &PostParams::default(), &claim).await;
            if let Some(claim) = ignore_not_found(written)? {
                seen(store, &claim).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

async fn run_volumes(context: Context) {
    let store = context.informers.of::<PersistentVolume>();
    store.synced().await;
    let queue = Queue::new();
    let added = queue.clone();
    let _volumes = store.on_change(move |change| added.add(change.key.clone()));
    let reconcile = |key: Key| {
        let (store, client) = (&store, &context.client);
        async move {
            let Some(volume) = store.get(&key) else { return Ok(Outcome::Done) };
            let used = || volume_phase(&volume) == "Bound";
            let Some(finalizers) = decide(&volume.metadata, VOLUME_FINALIZER, used) else {
                return Ok(Outcome::Done);
            };
            let api: Api<PersistentVolume> = Api::all(client.clone());
            let mut volume = (*volume).clone();
            volume.metadata.finalizers = Some(finalizers);
            let written = api.replace(key.name(), &PostParams::default(), &volume).await;
            if let Some(volume) = ignore_not_found(written)? {
                seen(store, &volume).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}
