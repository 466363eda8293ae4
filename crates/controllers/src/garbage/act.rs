//! Looks at objects one by one and carries out what is decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::raw::{Content, get_metadata, send};
use client::write::{ErrorKind, ignore_not_found};
use client::{Outcome, Source, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use tokio::sync::Notify;

use super::decide::{Action, Dependent, Owner, decide};
use super::graph::{FOREGROUND, Meta, Node, ORPHAN, Object};
use super::watch::{Watches, World};
use crate::common::{Context, Resource};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    service_account: "generic-garbage-collector",
    component: "garbage-collector-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

struct Worker {
    context: Context,
    world: Arc<World>,
}

async fn run(context: Context) {
    let world = Arc::new(World::default());
    let mut watches = Watches::new(world.clone());
    while let Err(error) = watches.refresh(&context).await {
        tracing::debug!(%error, "discovery failed");
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    tokio::select! {
        () = context.shutdown.cancelled() => return,
        () = watches.synced() => {}
    }
    let worker = Worker { world: world.clone(), context };
    let Context { config, shutdown, .. } = &worker.context;
    let delete = run_workers(&world.delete, config.concurrency, shutdown, |uid| worker.look(uid));
    let orphan = run_workers(&world.orphan, config.concurrency, shutdown, |uid| worker.orphan(uid));
    let kinds = follow_kinds(&worker.context, watches);
    tokio::join!(delete, orphan, kinds);
}

/// Discovers anew when CRDs or aggregated groups change, until a round finds nothing more.
async fn follow_kinds(context: &Context, mut watches: Watches) {
    let changed = Arc::new(Notify::new());
    let mut handlers = Vec::new();
    for path in [
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "/apis/apiregistration.k8s.io/v1/apiservices",
    ] {
        let store: Store<Object> = context.informers.watch(Source::path(path).metadata_only());
        let notify = changed.clone();
        handlers.push(store.on_change(move |_| notify.notify_one()));
    }
    // A change shows in discovery a moment later: look again with growing waits while nothing comes of it.
    const WAITS: [u64; 5] = [50, 200, 1000, 5000, 20_000];
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = changed.notified() => {}
        }
        for wait in WAITS {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            }
            match watches.refresh(context).await {
                Ok(true) => tracing::debug!("kinds have changed"),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "discovery failed"),
            }
        }
    }
}

impl Worker {
    fn node(&self, uid: &str) -> Option<Node> {
        World::lock(&self.world.graph).get(uid).cloned()
    }

    /// The object as the server has it; none if it is gone, or another one by now.
    async fn live(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Meta>, kube::Error> {
        let path = resource.object_path(namespace, name);
        let object: Option<Object> = ignore_not_found(get_metadata(&self.context.client, &path).await)?;
        Ok(object.map(|object| object.metadata).filter(|meta| meta.uid == uid))
    }

    async fn look(&self, uid: String) -> Result<Outcome, kube::Error> {
        let Some(node) = self.node(&uid) else { return Ok(Outcome::Done) };
        if node.deleting && !node.foreground {
            return Ok(Outcome::Done);
        }
        if !node.hearsay && !node.foreground && node.owners.is_empty() {
            return Ok(Outcome::Done);
        }
        let Some(meta) = self.live(&node.resource, &node.namespace, &node.name, &uid).await? else {
            self.world.remove(&uid);
            return Ok(Outcome::Done);
        };
        if node.hearsay {
            // It is there; its watch will tell. Should that not be (a kind without watch) this is as good.
            self.world.set(&node.resource, &Object { metadata: meta });
            return Ok(Outcome::Done);
        }
        let owners = self.owners(&meta).await?;
        let dependents = self.dependents(&uid);
        let plan =
            decide(&meta, |owner| owners.get(&owner.uid).copied().unwrap_or(Owner::Absent), &dependents);
        let path = node.resource.object_path(&node.namespace, &node.name);
        self.apply(&path, &uid, &meta, plan).await?;
        Ok(Outcome::Done)
    }

    /// What is known of each owner, asking the server where the graph does not say.
    async fn owners(&self, meta: &Meta) -> Result<HashMap<String, Owner>, kube::Error> {
        let mut known = HashMap::new();
        if meta.is_deleting() {
            return Ok(known);
        }
        for owner in &meta.owner_references {
            known.insert(owner.uid.clone(), self.owner(meta, owner).await?);
        }
        Ok(known)
    }

    async fn owner(&self, meta: &Meta, owner: &OwnerReference) -> Result<Owner, kube::Error> {
        let resource = World::lock(&self.world.kinds).of(owner);
        let Some(resource) = resource else {
            // A kind nobody serves: it may only be away. Never delete on that.
            return Ok(Owner::Solid);
        };
        if resource.namespaced && meta.namespace.is_empty() {
            let text = format!(
                "ownerRef [{}/{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                owner.api_version, owner.kind, owner.name, owner.uid
            );
            tracing::warn!(name = meta.name, text, "a cluster-scoped object has an owner in a namespace");
            return Ok(Owner::Solid);
        }
        if let Some(node) = self.node(&owner.uid)
            && !node.hearsay
        {
            let there = node.name == owner.name
                && node.resource.kind == owner.kind
                && (!node.resource.namespaced || node.namespace == meta.namespace);
            if there {
                return Ok(if node.foreground { Owner::Waiting } else { Owner::Solid });
            }
        }
        Ok(match self.live(&resource, &meta.namespace, &owner.name, &owner.uid).await? {
            None => Owner::Absent,
            Some(meta) if meta.is_deleting() && meta.has(FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Solid,
        })
    }

    fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let graph = World::lock(&self.world.graph);
        let all = graph.dependents(uid).into_iter().filter(|(_, node)| !node.hearsay);
        all.map(|(_, node)| Dependent {
            blocks: node.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true)),
            foreground: node.foreground,
        })
        .collect()
    }

    async fn apply(&self, path: &str, uid: &str, meta: &Meta, action: Action) -> Result<(), kube::Error> {
        match action {
            Action::Nothing => Ok(()),
            Action::Release { uids } => {
                let kept: Vec<_> = meta.owner_references.iter().filter(|o| !uids.contains(&o.uid)).collect();
                self.patch(path, meta, json!({"ownerReferences": kept})).await
            }
            Action::UnblockAndDelete => {
                let mut owners = meta.owner_references.clone();
                owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
                self.patch(path, meta, json!({"ownerReferences": owners})).await?;
                self.delete(path, uid, None, "Foreground").await
            }
            // The version too: owners may have been given to it meanwhile.
            Action::Delete { policy } => self.delete(path, uid, Some(&meta.resource_version), policy).await,
            Action::RemoveForegroundFinalizer => self.remove_finalizer(path, meta, FOREGROUND).await,
            Action::AwaitDependents => {
                let graph = World::lock(&self.world.graph);
                for (dependent, node) in graph.dependents(uid) {
                    if !node.deleting {
                        self.world.delete.add(dependent.clone());
                    }
                }
                Ok(())
            }
        }
    }

    async fn remove_finalizer(&self, path: &str, meta: &Meta, finalizer: &str) -> Result<(), kube::Error> {
        let kept: Vec<_> = meta.finalizers.iter().filter(|own| *own != finalizer).collect();
        self.patch(path, meta, json!({"finalizers": kept})).await
    }

    /// Changes metadata if the object is still as it was seen.
    async fn patch(&self, path: &str, meta: &Meta, mut change: serde_json::Value) -> Result<(), kube::Error> {
        change["uid"] = json!(meta.uid);
        change["resourceVersion"] = json!(meta.resource_version);
        let body = json!({"metadata": change});
        ignore_not_found(send(&self.context.client, "PATCH", path, Content::MergePatch, &body).await)?;
        Ok(())
    }

    async fn delete(
        &self,
        path: &str,
        uid: &str,
        version: Option<&str>,
        policy: &str,
    ) -> Result<(), kube::Error> {
        let mut preconditions = json!({"uid": uid});
        if let Some(version) = version {
            preconditions["resourceVersion"] = json!(version);
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": preconditions, "propagationPolicy": policy,
        });
        ignore_not_found(send(&self.context.client, "DELETE", path, Content::Json, &options).await)?;
        Ok(())
    }

    /// Takes an owner off all its dependents, then lets it go.
    async fn orphan(&self, uid: String) -> Result<Outcome, kube::Error> {
        let Some(node) = self.node(&uid) else { return Ok(Outcome::Done) };
        if !node.orphaning {
            return Ok(Outcome::Done);
        }
        let dependents: Vec<(String, Node)> = {
            let graph = World::lock(&self.world.graph);
            graph.dependents(&uid).into_iter().map(|(uid, node)| (uid.clone(), node.clone())).collect()
        };
        for (dependent, node) in dependents.into_iter().filter(|(_, node)| !node.hearsay) {
            self.disown(&dependent, &node, &uid).await?;
        }
        if let Some(meta) = self.live(&node.resource, &node.namespace, &node.name, &uid).await? {
            let path = node.resource.object_path(&node.namespace, &node.name);
            self.remove_finalizer(&path, &meta, ORPHAN).await?;
        }
        Ok(Outcome::Done)
    }

    async fn disown(&self, uid: &str, node: &Node, owner: &str) -> Result<(), kube::Error> {
        let path = node.resource.object_path(&node.namespace, &node.name);
        for attempt in 0.. {
            let Some(meta) = self.live(&node.resource, &node.namespace, &node.name, uid).await? else {
                break;
            };
            if !meta.owner_references.iter().any(|other| other.uid == owner) {
                break;
            }
            let kept: Vec<_> = meta.owner_references.iter().filter(|other| other.uid != owner).collect();
            match self.patch(&path, &meta, json!({"ownerReferences": kept})).await {
                Err(error) if ErrorKind::of(&error) == ErrorKind::Conflict && attempt < 5 => {}
                result => return result,
            }
        }
        Ok(())
    }
}
