//! Gives every pod of the node its worker, keeps the workers informed, and clears up what belongs to no pod.

use client::{Key, Source, Store};
use k8s_openapi::api::core::v1::Pod;
use runtime::cri::v1;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::pod_worker::{PodUpdate, Worker};
use super::{Agent, Wanted, runtime_events, static_pods};
use crate::cri::pod_of_labels;
use crate::pod::PodExt;
use crate::status::is_terminal;
use crate::volumes::remove_tree;
use crate::worker::lifecycle::Ending;

/// A pod with a worker.
pub(crate) struct PodEntry {
    updates: watch::Sender<PodUpdate>,
    wake: Arc<Notify>,
    statuses: watch::Receiver<Wanted>,
}

impl PodEntry {
    pub fn pod(&self) -> Arc<Pod> {
        self.updates.borrow().pod.clone()
    }
    /// The object that shows the pod in the API.
    pub fn api_pod(&self) -> Arc<Pod> {
        let update = self.updates.borrow();
        update.mirror.clone().unwrap_or_else(|| update.pod.clone())
    }
    /// The pod with its newest status, which the API may not have yet.
    pub fn with_status(&self) -> Pod {
        let mut pod = (*self.pod()).clone();
        let wanted = self.statuses.borrow();
        if wanted.version > 0 {
            pod.status = Some(wanted.status.clone());
        }
        pod
    }
    pub fn end(&self, ending: Ending) {
        self.updates.send_modify(|u| {
            u.ending.get_or_insert(ending);
        });
    }
    pub fn statuses(&self) -> watch::Receiver<Wanted> {
        self.statuses.clone()
    }
    pub fn is_ending(&self) -> bool {
        self.updates.borrow().ending.is_some()
    }
    pub fn is_removed(&self) -> bool {
        self.updates.borrow().removed
    }
}

impl Agent {
    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.entries().get(uid) {
            entry.wake.notify_one();
        }
    }
    pub fn wake_all(&self) {
        self.entries().values().for_each(|entry| entry.wake.notify_one());
    }
}

pub(super) async fn run(agent: Arc<Agent>, ready: oneshot::Sender<()>) {
    let (changes, mut changed) = mpsc::unbounded_channel::<Key>();
    let source = Source::of::<Pod>().fields(format!("spec.nodeName={}", agent.config.node_name));
    let informers = client::Informers::new(agent.client.clone(), agent.shutdown.clone());
    let store: Store<Pod> = informers.watch(source);
    let subscription = store.on_change(move |change| {
        let _ = changes.send(change.key.clone());
    });
    let mut dispatcher = Dispatcher {
        agent: agent.clone(),
        store: store.clone(),
        workers: JoinSet::new(),
        statics: HashMap::new(),
    };
    // Kept open without a directory, so that waiting on it waits.
    let (found, mut manifests) = mpsc::channel(1);
    if let Some(dir) = agent.config.static_pods.clone() {
        tokio::spawn(static_pods::watch(agent.clone(), dir, found.clone()));
        if let Some(pods) = manifests.recv().await {
            dispatcher.manifests(pods);
        }
    }

    tokio::select! {
        () = agent.shutdown.cancelled() => return,
        () = store.synced() => {}
    }
    while let Ok(key) = changed.try_recv() {
        dispatcher.reconcile(&key);
    }
    let events = tokio::spawn(runtime_events::run(agent.clone()));
    tokio::spawn(clear_up(agent.clone()));
    let _ = ready.send(());

    loop {
        tokio::select! {
            () = agent.shutdown.cancelled() => break,
            Some(key) = changed.recv() => dispatcher.reconcile(&key),
            Some(pods) = manifests.recv() => dispatcher.manifests(pods),
            Some(ended) = dispatcher.workers.join_next(), if !dispatcher.workers.is_empty() => {
                match ended {
                    Ok(uid) => dispatcher.ended(&uid),
                    Err(e) => tracing::error!(error = %e, "a pod worker failed"),
                }
            }
        }
    }
    drop(subscription);
    events.abort();
    // Workers see the shutdown too; none is cut off in the middle of a write to disk.
    while dispatcher.workers.join_next().await.is_some() {}
}

struct Dispatcher {
    agent: Arc<Agent>,
    store: Store<Pod>,
    workers: JoinSet<String>,
    /// Static pods by name, as their manifests are now.
    statics: HashMap<Key, Arc<Pod>>,
}

impl Dispatcher {
    /// Brings the workers of one name in line with the store.
    fn reconcile(&mut self, key: &Key) {
        let stored = self.store.get(key);
        let mirror = stored.clone().filter(|p| p.is_mirror());
        if let Some(pod) = self.statics.get(key).cloned() {
            let mirrored = static_pods::mirror(self.agent.clone(), pod.clone(), mirror.clone());
            tokio::spawn(mirrored);
            self.update_static(pod, mirror);
            return;
        }
        if let Some(mirror) = mirror {
            // What it showed is gone.
            let agent = self.agent.clone();
            tokio::spawn(async move { static_pods::delete(&agent, &mirror).await });
        }
        let found = stored.filter(|p| !p.is_mirror());
        let uid = found.as_ref().map(|p| p.uid().to_owned());
        {
            let entries = self.agent.entries();
            for (other, entry) in entries.iter() {
                let gone = uid.as_ref() != Some(other)
                    && entry.is(key.namespace(), key.name())
                    && !entry.pod().is_static()
                    && !entry.is_removed();
                if gone {
                    entry.updates.send_modify(|u| u.removed = true);
                }
            }
        }
        if let Some(pod) = found {
            self.update(pod, None);
        }
    }

    /// Takes in all manifests there are now.
    fn manifests(&mut self, pods: Vec<Arc<Pod>>) {
        let new: HashMap<Key, Arc<Pod>> =
            pods.into_iter().map(|p| (Key::new(p.namespace(), p.name()), p)).collect();
        let old = std::mem::take(&mut self.statics);
        for (key, pod) in &old {
            if new.get(key).is_none_or(|n| n.uid() != pod.uid())
                && let Some(entry) = self.agent.entries().get(pod.uid())
            {
                entry.updates.send_modify(|u| u.removed = true);
            }
        }
        let keys: HashSet<Key> = old.keys().chain(new.keys()).cloned().collect();
        // A manifest that is as it was keeps the time it was first seen.
        self.statics = new
            .into_iter()
            .map(|(key, pod)| {
                let same = old.get(&key).filter(|o| o.uid() == pod.uid()).cloned();
                (key, same.unwrap_or(pod))
            })
            .collect();
        for key in keys {
            self.reconcile(&key);
        }
    }

    /// A changed manifest waits until the pod it replaces is gone.
    fn update_static(&mut self, pod: Arc<Pod>, mirror: Option<Arc<Pod>>) {
        let waits =
            self.agent.entries().iter().any(|(uid, e)| {
                *uid != pod.uid() && e.is(pod.namespace(), pod.name()) && e.pod().is_static()
            });
        if !waits {
            self.update(pod, mirror);
        }
    }

    fn update(&mut self, pod: Arc<Pod>, mirror: Option<Arc<Pod>>) {
        let uid = pod.uid().to_owned();
        {
            let entries = self.agent.entries();
            if let Some(entry) = entries.get(&uid) {
                entry.updates.send_modify(|u| {
                    u.pod = pod;
                    u.mirror = mirror;
                });
                return;
            }
        }
        let update = PodUpdate { pod, mirror, removed: false, ending: None };
        let (updates, receiver) = watch::channel(update);
        let wake = Arc::new(Notify::new());
        let worker = Worker::new(self.agent.clone(), receiver, wake.clone());
        let statuses = worker.statuses();
        self.agent.entries().insert(uid.clone(), PodEntry { updates, wake, statuses });
        self.workers.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// A worker is done with its pod. If the store has the pod (again), it begins anew.
    fn ended(&mut self, uid: &str) {
        let entry = self.agent.entries().remove(uid);
        if let Some(entry) = entry {
            let pod = entry.pod();
            self.reconcile(&Key::new(pod.namespace(), pod.name()));
        }
    }
}

/// Stops and removes what is left of pods that are not this node's any more. Once, at start: later on every pod has a
/// worker that clears up after itself.
async fn clear_up(agent: Arc<Agent>) {
    let is_known = {
        let agent = agent.clone();
        move |uid: &str| agent.entries().contains_key(uid)
    };
    let Ok(sandboxes) = agent.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await
    else {
        return;
    };
    let mut orphans = HashSet::new();
    for sandbox in sandboxes.items {
        if let Some((_, _, uid)) = pod_of_labels(&sandbox.labels).filter(|(_, _, uid)| !is_known(uid)) {
            orphans.insert(uid);
        }
    }
    for uid in &orphans {
        // It may have come meanwhile.
        if is_known(uid) {
            continue;
        }
        tracing::info!(uid, "removing what is left of a pod that is gone");
        if let Ok(seen) = agent.observe(uid).await {
            let _ = agent.kill_pod(&Pod::default(), &seen, Some(1)).await;
        }
        agent.remove_from_runtime(uid).await;
    }
    let dirs = agent.facts.root.join("pods");
    let work = move || {
        for entry in std::fs::read_dir(&dirs).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !is_known(&uid)
                && let Err(error) = remove_tree(&entry.path())
            {
                tracing::warn!(uid, %error, "removing the directory of a pod that is gone failed");
            }
        }
    };
    let _ = tokio::task::spawn_blocking(work).await;
}

/// Pods that count against the node's resources.
pub(super) fn active(entries: &std::collections::HashMap<String, PodEntry>) -> Vec<Arc<Pod>> {
    let pods = entries.values().filter(|e| {
        let status = e.statuses.borrow();
        !is_terminal(status.status.phase.as_deref().unwrap_or_default()) && !is_terminal(e.pod().phase())
    });
    pods.map(PodEntry::pod).collect()
}
