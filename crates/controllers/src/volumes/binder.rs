//! Carries out what the decisions on claims and volumes say.
//!
//! One item at a time: of two claims that want the same volume the second must see what the first has taken.

use std::time::Duration;

use client::write::namespaced;
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::claim::{self, View, Write};
use super::pods::{BY_CLAIM, claims};
use super::terms::claim_ref;
use super::volume;
use crate::common::{Context, seen};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "persistentvolume-binder-controller",
    service_account: "persistent-volume-binder",
    component: "persistentvolume-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

/// How soon a claim that nothing tells of is looked at again; upstream's resync period.
const AGAIN: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Claim(Key),
    Volume(Key),
}

struct Worker {
    context: Context,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
    pods: Store<Pod>,
    queue: Queue<Item>,
}

async fn run(context: Context) {
    let worker = Worker {
        claims: context.informers.of(),
        volumes: context.informers.of(),
        classes: context.informers.of(),
        pods: context.informers.of(),
        queue: Queue::named("claims"),
        context,
    };
    worker.pods.add_index(BY_CLAIM, claims);
    worker.claims.synced().await;
    worker.volumes.synced().await;
    worker.classes.synced().await;
    worker.pods.synced().await;
    let (claims, volumes) = (worker.claims.clone(), worker.volumes.clone());
    let queue = worker.queue.clone();
    let _claims = worker.claims.on_change(move |change| {
        queue.add(Item::Claim(change.key.clone()));
        for claim in [change.old, change.new].into_iter().flatten() {
            let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            if !name.is_empty() {
                queue.add(Item::Volume(Key::cluster(name)));
            }
        }
        if change.new.is_none() {
            volumes.for_each(|key, volume| {
                let of = claim_ref(volume).map(|of| (of.namespace.as_deref(), of.name.as_deref()));
                if of == Some((Some(change.key.namespace()), Some(change.key.name()))) {
                    queue.add(Item::Volume(key.clone()));
                }
            });
        }
    });
    let queue = worker.queue.clone();
    let all = claims.clone();
    let _volumes = worker.volumes.on_change(move |change| {
        queue.add(Item::Volume(change.key.clone()));
        unbound(&all, &queue, |claim| {
            let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            name.is_empty() || name == change.key.name()
        });
    });
    let queue = worker.queue.clone();
    let all = claims.clone();
    let _classes = worker.classes.on_change(move |_| unbound(&all, &queue, |_| true));
    let shutdown = worker.context.shutdown.clone();
    run_workers(&worker.queue, 1, &shutdown, |item| worker.reconcile(item)).await;
}

/// Adds the claims that wait for a volume and pass `test`, and those bound to one that changed.
fn unbound(
    claims: &Store<PersistentVolumeClaim>,
    queue: &Queue<Item>,
    test: impl Fn(&PersistentVolumeClaim) -> bool,
) {
    claims.for_each(|key, claim| {
        if test(claim) {
            queue.add(Item::Claim(key.clone()));
        }
    });
}

impl Worker {
    async fn reconcile(&self, item: Item) -> Result<Outcome, kube::Error> {
        match item {
            Item::Claim(key) => self.claim(&key).await,
            Item::Volume(key) => self.volume(&key).await,
        }
    }

    async fn claim(&self, key: &Key) -> Result<Outcome, kube::Error> {
        let mut noted = None;
        loop {
            let Some(claim) = self.claims.get(key) else { return Ok(Outcome::Done) };
            let (volumes, classes) = (self.volumes.list(), self.classes.list());
            let waiting: Vec<String> = self
                .pods
                .by_index(BY_CLAIM, key.as_str())
                .iter()
                .filter(|pod| pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()))
                .map(|pod| pod.name_any())
                .collect();
            let view = View { claim: &claim, volumes: &volumes, classes: &classes, waiting: &waiting };
            let plan = claim::decide(&view);
            if let Some(note) = plan.note
                && noted.as_ref() != Some(&note)
            {
                let recorder = &self.context.recorder;
                match note.warning {
                    true => recorder.warning(&*claim, note.reason, note.message.clone()),
                    false => recorder.normal(&*claim, note.reason, note.message.clone()),
                }
                noted = Some(note);
            }
            match plan.write {
                Some(write) => self.write(*write).await?,
                None if plan.retry => return Ok(Outcome::After(AGAIN)),
                None => return Ok(Outcome::Done),
            }
        }
    }

    async fn volume(&self, key: &Key) -> Result<Outcome, kube::Error> {
        loop {
            let Some(volume) = self.volumes.get(key) else { return Ok(Outcome::Done) };
            let mut claim = None;
            if let Some((namespace, name)) =
                claim_ref(&volume).and_then(|of| of.namespace.as_deref().zip(of.name.as_deref()))
            {
                let uid = claim_ref(&volume).and_then(|of| of.uid.clone());
                claim = self.claims.get(&Key::new(namespace, name)).map(|claim| (*claim).clone());
                // Before a volume is given up, the server is asked: the cache may be behind.
                if uid.is_some() && claim.as_ref().is_none_or(|claim| claim.metadata.uid != uid) {
                    let api: Api<PersistentVolumeClaim> = namespaced(&self.context.client, namespace);
                    claim = api.get_opt(name).await?;
                }
            }
            let (write, warning) = volume::decide(&volume, claim.as_ref());
            if let Some((reason, message)) = warning {
                self.context.recorder.warning(&*volume, reason, message);
            }
            match write {
                Some(write) => self.write(write).await?,
                None => return Ok(Outcome::Done),
            }
        }
    }

    async fn write(&self, write: Write) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let client = &self.context.client;
        match write {
            Write::Claim(claim) => {
                let api: Api<PersistentVolumeClaim> =
                    namespaced(client, &claim.namespace().unwrap_or_default());
                seen(&self.claims, &api.replace(&claim.name_any(), &params, &claim).await?).await;
            }
            Write::ClaimStatus(claim) => {
                let api: Api<PersistentVolumeClaim> =
                    namespaced(client, &claim.namespace().unwrap_or_default());
                seen(&self.claims, &api.replace_status(&claim.name_any(), &params, &claim).await?).await;
            }
            Write::Volume(volume) => {
                let api = Api::all(client.clone());
                seen(&self.volumes, &api.replace(&volume.name_any(), &params, &volume).await?).await;
            }
            Write::VolumeStatus(volume) => {
                let api = Api::all(client.clone());
                seen(&self.volumes, &api.replace_status(&volume.name_any(), &params, &volume).await?).await;
            }
        }
        Ok(())
    }
}
