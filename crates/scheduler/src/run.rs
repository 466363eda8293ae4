//! The scheduler at work: one task owns cache and queue, decides, and lets writes go on beside it.

use std::collections::HashMap;
use std::sync::Arc;

use client::backoff::chance;
use client::events::{Happening, Recorder, Severity, Style};
use client::raw::{Content, send};
use client::write::{ErrorKind, ignore_not_found};
use client::{Informers, Source, Store};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::framework::{Cycle, Happenings, Refusals, Verdict, names};
use crate::node::{PodInfo, Snapshot};
use crate::objects::{Node, Pod};
use crate::preempt::{self, Budget};
use crate::queue::Queue;

/// What the scheduler is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// It takes the pods whose `spec.schedulerName` is this.
    pub scheduler_name: String,
    /// Where it runs, for Events.
    pub host: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".into(), host: String::new() }
    }
}

/// Pods decided in one go before other things get their turn.
const BATCH: usize = 64;

enum Seen {
    Pod { old: Option<Arc<Pod>>, new: Option<Arc<Pod>> },
    Node { old: Option<Arc<Node>>, new: Option<Arc<Node>> },
    Namespace { name: String, new: Option<Arc<Namespace>> },
}

/// A write that has ended.
enum Written {
    Bound { pod: Arc<PodInfo>, node: String, result: Result<(), kube::Error> },
    Other { what: &'static str, result: Result<(), kube::Error> },
}

/// Runs until `shutdown`; `ready` is told when pods and nodes are known.
pub async fn run(
    config: Config,
    client: kube::Client,
    ready: oneshot::Sender<()>,
    shutdown: CancellationToken,
) {
    let informers = Informers::new(client.clone(), shutdown.clone());
    let pods: Store<Pod> =
        informers.watch(Source::path("/api/v1/pods").fields("status.phase!=Succeeded,status.phase!=Failed"));
    let nodes: Store<Node> = informers.watch(Source::path("/api/v1/nodes"));
    let namespaces: Store<Namespace> = informers.of();
    let budgets: Store<Budget> = informers.watch(Source::path("/apis/policy/v1/poddisruptionbudgets"));
    let (sender, mut seen) = mpsc::unbounded_channel();
    // The receiver lives as long as this function; a lost message after its end is no loss.
    let to = sender.clone();
    let _nodes = nodes.on_change(move |change| {
        let _ = to.send(Seen::Node { old: change.old.cloned(), new: change.new.cloned() });
    });
    let to = sender.clone();
    let _pods = pods.on_change(move |change| {
        let _ = to.send(Seen::Pod { old: change.old.cloned(), new: change.new.cloned() });
    });
    let _namespaces = namespaces.on_change(move |change| {
        let _ = sender.send(Seen::Namespace { name: change.key.name().to_owned(), new: change.new.cloned() });
    });
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = async { nodes.synced().await; pods.synced().await; namespaces.synced().await } => {}
    }
    // Nobody may be listening any more.
    let _ = ready.send(());
    let recorder = Recorder::new(client.clone(), Style::Series, &config.scheduler_name, &config.host);
    let mut scheduler = Scheduler {
        config,
        client,
        recorder,
        budgets,
        cache: Cache::default(),
        queue: Queue::default(),
        nominations: HashMap::new(),
        writes: FuturesUnordered::new(),
        next_node: 0,
    };
    scheduler.run(&mut seen, &shutdown).await;
}

struct Scheduler {
    config: Config,
    client: kube::Client,
    recorder: Recorder,
    budgets: Store<Budget>,
    cache: Cache,
    queue: Queue,
    /// Pods by uid that have a node promised, and which.
    nominations: HashMap<String, (String, Arc<PodInfo>)>,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
    next_node: usize,
}

impl Scheduler {
    async fn run(&mut self, seen: &mut mpsc::UnboundedReceiver<Seen>, shutdown: &CancellationToken) {
        loop {
            while let Ok(change) = seen.try_recv() {
                self.see(change);
            }
            let busy = self.schedule_some();
            let next = self.queue.next();
            let timer = async {
                match next {
                    _ if busy => tokio::task::yield_now().await,
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                change = seen.recv() => match change {
                    Some(change) => self.see(change),
                    None => return,
                },
                Some(written) = self.writes.next() => self.finish(written),
                () = timer => {}
            }
        }
    }

    /// Decides for some of the waiting pods; true if there may be more.
    fn schedule_some(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some(pod) = self.queue.pop(Instant::now()) else { return false };
            self.schedule(pod);
        }
        true
    }

    fn schedule(&mut self, pod: Arc<PodInfo>) {
        let uid = &pod.pod.metadata.uid;
        if self.cache.node_count() == 0 {
            return self.refuse(&pod, 0, "no nodes available to schedule pods".to_owned(), None);
        }
        let plain = self.cache.snapshot();
        let snapshot = self.with_nominated(&pod, &plain);
        let cycle = Cycle::new(&pod, &snapshot);
        self.next_node = (self.next_node + 1) % plain.nodes.len();
        // A node it was promised comes first.
        let promised = self.nominations.get(uid).map(|(node, _)| node.clone());
        let promised =
            promised.filter(|name| snapshot.get(name).is_some_and(|node| cycle.filter(node).is_ok()));
        let verdict = match promised {
            Some(name) => Verdict::Node(name),
            None => cycle.decide(self.next_node, chance()),
        };
        match verdict {
            Verdict::Node(node) => self.bind(pod, node),
            Verdict::Nowhere(refusals) => self.preempt(&pod, &plain, &refusals),
        }
    }

    /// The snapshot as if the other pods that have a promise, and are as important, were there.
    fn with_nominated(&self, pod: &PodInfo, snapshot: &Snapshot) -> Snapshot {
        let mut snapshot = snapshot.clone();
        for (uid, (node, other)) in &self.nominations {
            if *uid == pod.pod.metadata.uid || other.pod.spec.priority < pod.pod.spec.priority {
                continue;
            }
            if let Some(info) = snapshot.nodes.iter_mut().find(|info| info.name() == node) {
                Arc::make_mut(info).add(other.clone());
            }
        }
        snapshot
    }

    fn bind(&mut self, pod: Arc<PodInfo>, node: String) {
        self.cache.assume(&pod.pod, &node);
        let client = self.client.clone();
        self.writes.push(Box::pin(async move {
            let result = bind(&client, &pod.pod, &node).await;
            Written::Bound { pod, node, result }
        }));
    }

    fn preempt(&mut self, pod: &Arc<PodInfo>, snapshot: &Snapshot, refusals: &Refusals) {
        let mut message = refusals.message();
        let mut nominated = None;
        match preempt::decide(pod, snapshot, refusals, &self.budgets.list()) {
            Ok(candidate) => {
                self.nominations.insert(pod.pod.metadata.uid.clone(), (candidate.node.clone(), pod.clone()));
                for victim in candidate.victims {
                    self.evict(pod, &victim, &candidate.node);
                }
                nominated = Some(candidate.node);
            }
            Err(why) => {
                message.push_str(&format!(" no new claims to deallocate, preemption: {why}"));
                if self.nominations.remove(&pod.pod.metadata.uid).is_some()
                    || !pod.pod.status.nominated_node_name.is_empty()
                {
                    nominated = Some(String::new());
                }
            }
        }
        self.refuse(pod, refusals.plugins, message, nominated);
    }

    /// Tells why a pod stays without node and lets it wait.
    fn refuse(&mut self, pod: &Arc<PodInfo>, plugins: u32, message: String, nominated: Option<String>) {
        tracing::debug!(pod = pod.pod.metadata.name, plugins = ?names(plugins), "no node takes the pod");
        self.queue.unschedulable(&pod.pod.metadata.uid, plugins, Instant::now());
        self.event(&pod.pod, None, Severity::Warning, "FailedScheduling", "Scheduling", message.clone());
        let told = pod.pod.condition("PodScheduled").is_some_and(|condition| {
            condition.status == "False" && condition.reason == "Unschedulable" && condition.message == message
        });
        if told && nominated.is_none() {
            return;
        }
        let transition =
            pod.pod.condition("PodScheduled").is_none_or(|condition| condition.status != "False");
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "observedGeneration": pod.pod.metadata.generation,
        });
        if transition {
            condition["lastProbeTime"] = json!(null);
            condition["lastTransitionTime"] = json!(now());
        }
        let mut status = json!({"conditions": [condition]});
        match nominated.as_deref() {
            Some("") => status["nominatedNodeName"] = json!(null),
            Some(node) => status["nominatedNodeName"] = json!(node),
            None => {}
        }
        self.patch_status("status of a pod without node", &pod.pod, status, false);
    }

    fn evict(&mut self, pod: &PodInfo, victim: &PodInfo, node: &str) {
        let name = &self.config.scheduler_name;
        let status = json!({"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{name}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": now(), "observedGeneration": victim.pod.metadata.generation,
        }]});
        self.patch_status("preemption", &victim.pod, status, true);
        let message = format!("Preempted by pod {} on node {node}", pod.pod.metadata.uid);
        self.event(&victim.pod, Some(&pod.pod), Severity::Normal, "Preempted", "Preempting", message);
    }

    fn patch_status(
        &mut self,
        what: &'static str,
        pod: &Arc<Pod>,
        status: serde_json::Value,
        then_delete: bool,
    ) {
        let (client, pod) = (self.client.clone(), pod.clone());
        self.writes.push(Box::pin(async move {
            let mut result = patch_status(&client, &pod, &status).await;
            if result.is_ok() && then_delete {
                result = delete(&client, &pod).await;
            }
            Written::Other { what, result }
        }));
    }

    fn finish(&mut self, written: Written) {
        match written {
            Written::Bound { pod, node, result: Ok(()) } => {
                let meta = &pod.pod.metadata;
                self.nominations.remove(&meta.uid);
                let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
                self.event(&pod.pod, None, Severity::Normal, "Scheduled", "Binding", message);
            }
            Written::Bound { pod, node, result: Err(error) } => {
                let meta = &pod.pod.metadata;
                self.cache.forget(&meta.uid);
                // What was taken for it is free again.
                self.queue.happened(Happenings::POD_GONE, Instant::now());
                match ErrorKind::of(&error) {
                    ErrorKind::NotFound => self.queue.remove(&meta.uid),
                    _ => {
                        tracing::debug!(pod = meta.name, node, %error, "binding failed");
                        self.queue.failed(&meta.uid, Instant::now());
                    }
                }
            }
            Written::Other { what, result: Err(error) } => tracing::warn!(what, %error, "a write failed"),
            Written::Other { result: Ok(()), .. } => {}
        }
    }

    fn event(
        &self,
        pod: &Pod,
        related: Option<&Pod>,
        severity: Severity,
        reason: &str,
        action: &str,
        message: String,
    ) {
        self.recorder.record(Happening {
            about: reference(pod),
            severity,
            reason: reason.to_owned(),
            message,
            action: action.to_owned(),
            related: related.map(reference),
            annotations: None,
        });
    }

    fn see(&mut self, change: Seen) {
        let happening = match change {
            Seen::Pod { old, new } => self.see_pod(old, new),
            Seen::Node { old, new } => self.see_node(old.as_deref(), new),
            Seen::Namespace { name, new } => {
                self.cache.set_namespace(&name, new.and_then(|namespace| namespace.metadata.labels.clone()));
                Happenings::NAMESPACE
            }
        };
        self.queue.happened(happening, Instant::now());
    }

    fn see_node(&mut self, old: Option<&Node>, new: Option<Arc<Node>>) -> Happenings {
        let Some(new) = new else {
            if let Some(old) = old {
                self.cache.remove_node(&old.metadata.name);
            }
            return Happenings::default();
        };
        let mut happening = Happenings::default();
        match old {
            None => happening = Happenings::NODE_ADDED,
            Some(old) => {
                if old.status.allocatable != new.status.allocatable {
                    happening = happening.or(Happenings::NODE_ALLOCATABLE);
                }
                if old.metadata.labels != new.metadata.labels {
                    happening = happening.or(Happenings::NODE_LABELS);
                }
                if old.spec.taints != new.spec.taints || old.spec.unschedulable != new.spec.unschedulable {
                    happening = happening.or(Happenings::NODE_TAINTS);
                }
            }
        }
        self.cache.set_node(new);
        happening
    }

    fn see_pod(&mut self, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>) -> Happenings {
        let replaced = |old: &Arc<Pod>| new.as_ref().is_none_or(|new| new.metadata.uid != old.metadata.uid);
        let mut happening = Happenings::default();
        if let Some(old) = old.as_ref().filter(|old| replaced(old)) {
            happening = self.lose_pod(&old.metadata.uid);
        }
        let Some(new) = new else { return happening };
        let uid = new.metadata.uid.clone();
        let old = old.filter(|old| old.metadata.uid == uid);
        if new.is_assigned() {
            self.queue.remove(&uid);
            self.nominations.remove(&uid);
            if !self.cache.is_placed(&uid) {
                happening = happening.or(Happenings::POD_PLACED);
            }
            if let Some(old) = old.filter(|old| old.is_assigned()) {
                if old.metadata.labels != new.metadata.labels {
                    happening = happening.or(Happenings::POD_LABELS);
                }
                let ends = new.is_finished() && !old.is_finished();
                if ends
                    || old.metadata.deletion_timestamp.is_none() && new.metadata.deletion_timestamp.is_some()
                {
                    happening = happening.or(Happenings::POD_GONE);
                }
            } else {
                // An assumed pod has arrived; others may wait for its company.
                happening = happening.or(Happenings::POD_PLACED);
            }
            self.cache.set_pod(new);
            return happening;
        }
        if new.spec.scheduler_name != self.config.scheduler_name
            || new.is_finished()
            || new.metadata.deletion_timestamp.is_some()
        {
            self.queue.remove(&uid);
            self.nominations.remove(&uid);
            return happening;
        }
        let info = Arc::new(PodInfo::new(new.clone()));
        let nominated = &new.status.nominated_node_name;
        if !nominated.is_empty() {
            self.nominations.insert(uid, (nominated.clone(), info.clone()));
        }
        // Our own notes in the status are no reason to try again.
        let helps = old.is_some_and(|old| {
            old.metadata.generation != new.metadata.generation || old.metadata.labels != new.metadata.labels
        });
        self.queue.set(info, helps, Instant::now());
        happening
    }

    fn lose_pod(&mut self, uid: &str) -> Happenings {
        self.queue.remove(uid);
        let promised = self.nominations.remove(uid).is_some();
        if self.cache.is_placed(uid) {
            self.cache.remove_pod(uid);
            return Happenings::POD_GONE;
        }
        if promised { Happenings::POD_GONE } else { Happenings::default() }
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.metadata.namespace.clone()),
        name: Some(pod.metadata.name.clone()),
        uid: Some(pod.metadata.uid.clone()),
        resource_version: Some(pod.metadata.resource_version.clone()),
        field_path: None,
    }
}

async fn bind(client: &kube::Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let meta = &pod.metadata;
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"kind": "Node", "name": node},
    });
    send(client, "POST", &format!("{}/binding", path(pod)), Content::Json, &body).await
}

async fn patch_status(
    client: &kube::Client,
    pod: &Pod,
    status: &serde_json::Value,
) -> Result<(), kube::Error> {
    let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    let path = format!("{}/status", path(pod));
    ignore_not_found(send(client, "PATCH", &path, Content::StrategicMergePatch, &body).await)?;
    Ok(())
}

async fn delete(client: &kube::Client, pod: &Pod) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.metadata.uid},
    });
    ignore_not_found(send(client, "DELETE", &path(pod), Content::Json, &body).await)?;
    Ok(())
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.metadata.namespace, pod.metadata.name)
}
