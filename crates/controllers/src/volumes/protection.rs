//! Finalizers that hold up the deletion of claims that pods use, of volumes that claims are bound to, and of attributes
//! classes that claims or volumes name.

use client::write::{ignore_not_found, namespaced};
use client::{Key, Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
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

pub(crate) const CLASSES: Controller = Controller {
    name: "volumeattributesclass-protection-controller",
    service_account: "volumeattributesclass-protection-controller",
    component: "volumeattributesclass-protection-controller",
    on_by_default: true,
    start: |context| run_classes(context).boxed(),
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";

/// The index of claims, and of volumes, by the attributes classes that they name.
const BY_CLASS: &str = "attributes-class";

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
    let queue = Queue::named("pvcprotection");
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
    let queue = Queue::named("pvprotection");
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

/// The attributes classes that a claim names: wanted, in effect, or being gone over to.
pub(super) fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|modify| modify.target_volume_attributes_class_name.clone());
    let mut names: Vec<String> =
        [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    names
}

fn classes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    let name = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    name.into_iter().filter(|name| !name.is_empty()).collect()
}

async fn run_classes(context: Context) {
    let store = context.informers.of::<VolumeAttributesClass>();
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let volumes = context.informers.of::<PersistentVolume>();
    claims.add_index(BY_CLASS, classes_of_claim);
    volumes.add_index(BY_CLASS, classes_of_volume);
    store.synced().await;
    claims.synced().await;
    volumes.synced().await;
    let queue = Queue::named("vacprotection");
    let added = queue.clone();
    let _classes = store.on_change(move |change| added.add(change.key.clone()));
    // a class is looked at again when somebody lets go of it
    let added = queue.clone();
    let _claims = claims.on_change(move |change| {
        let kept = change.new.map(|new| classes_of_claim(new)).unwrap_or_default();
        let before = change.old.map(|old| classes_of_claim(old)).unwrap_or_default();
        before.iter().filter(|name| !kept.contains(name)).for_each(|name| added.add(Key::cluster(name)));
    });
    let added = queue.clone();
    let _volumes = volumes.on_change(move |change| {
        let kept = change.new.map(|new| classes_of_volume(new)).unwrap_or_default();
        let before = change.old.map(|old| classes_of_volume(old)).unwrap_or_default();
        before.iter().filter(|name| !kept.contains(name)).for_each(|name| added.add(Key::cluster(name)));
    });
    let reconcile = |key: Key| {
        let (store, claims, volumes, client) = (&store, &claims, &volumes, &context.client);
        async move {
            let Some(class) = store.get(&key) else { return Ok(Outcome::Done) };
            let used = || {
                !claims.by_index(BY_CLASS, key.name()).is_empty()
                    || !volumes.by_index(BY_CLASS, key.name()).is_empty()
            };
            let Some(finalizers) = decide(&class.metadata, CLASS_FINALIZER, used) else {
                return Ok(Outcome::Done);
            };
            let api: Api<VolumeAttributesClass> = Api::all(client.clone());
            let mut class = (*class).clone();
            class.metadata.finalizers = Some(finalizers);
            let written = api.replace(key.name(), &PostParams::default(), &class).await;
            if let Some(class) = ignore_not_found(written)? {
                seen(store, &class).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}
