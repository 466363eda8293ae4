//! One node agent between the stand-ins.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::cri::Recorder;

pub const PODS: &str = "/api/v1/namespaces/ns/pods";
const BOUND: Duration = Duration::from_secs(20);

/// The agent's directory. What it has mounted there (volumes of memory) goes with it.
pub struct Root(tempfile::TempDir);

impl Root {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl std::ops::Deref for Root {
    type Target = tempfile::TempDir;

    fn deref(&self) -> &tempfile::TempDir {
        &self.0
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in below.filter(|mount| std::path::Path::new(mount).starts_with(self.0.path())) {
            let _ = std::process::Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

pub struct Node {
    pub api: Api,
    pub cri: Recorder,
    pub root: Root,
    stop: CancellationToken,
    task: JoinHandle<Result<(), kubelet::Error>>,
}

impl Node {
    pub async fn start() -> Node {
        Node::start_with(Api::new(), Recorder::new(), Root::new()).await
    }

    pub async fn start_serving(server: kubelet::Server) -> Node {
        Node::start_as(Api::new(), Recorder::new(), Root::new(), |c| c.server = Some(server)).await
    }

    pub async fn start_with(api: Api, cri: Recorder, root: Root) -> Node {
        Node::start_as(api, cri, root, |_| {}).await
    }

    pub async fn start_as(
        api: Api,
        cri: Recorder,
        root: Root,
        settings: impl FnOnce(&mut kubelet::Config),
    ) -> Node {
        let mut config = kubelet::Config::new("node", root.path().join("kubelet"));
        config.log_root = root.path().join("logs/pods");
        config.node_ips = vec!["192.168.0.1".parse().unwrap()];
        config.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
        config.eviction_hard.clear();
        // No traces on the machine that runs the tests.
        config.manage_cgroups = false;
        config.static_pods = Some(root.path().join("manifests"));
        settings(&mut config);
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let task =
            tokio::spawn(kubelet::run(config, api.client(), Arc::new(cri.clone()), ready, stop.clone()));
        tokio::time::timeout(BOUND, is_ready).await.expect("ready in time").expect("ready");
        Node { api, cri, root, stop, task }
    }

    /// Stops the agent; what it ran goes on.
    pub async fn stop(self) -> (Api, Recorder, Root) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        (self.api, self.cri, self.root)
    }

    pub fn pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "generation": 1},
            "spec": spec, "status": {"phase": "Pending"}});
        self.api.put(PODS, pod);
    }

    pub fn delete(&self, name: &str) {
        let mut pod = self.api.get(PODS, name).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] =
            json!(pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30));
        self.api.put(PODS, pod);
    }

    /// Waits until `test` holds for the pod (`Null` when it is gone), and gives the pod.
    pub async fn wait(&self, name: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let look = || self.api.get(PODS, name).unwrap_or(Value::Null);
        let wait = async {
            loop {
                let pod = look();
                if test(&pod) {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(BOUND, wait).await {
            Ok(pod) => pod,
            Err(_) => {
                panic!("{what} did not come; the pod: {:#}\ncalls: {:?}", look()["status"], self.cri.calls())
            }
        }
    }

    pub async fn wait_for(&self, what: &str, test: impl Fn() -> bool) {
        let wait = async {
            while !test() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(BOUND, wait).await.is_err() {
            panic!("{what} did not come; calls: {:?}", self.cri.calls());
        }
    }

    /// `reason: message` of all Events about the pod.
    pub fn events(&self) -> Vec<String> {
        let list = self.api.list("/api/v1/namespaces/ns/events");
        list.iter()
            .map(|e| format!("{}: {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap()))
            .collect()
    }
}

pub fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

pub fn waiting(pod: &Value) -> &str {
    pod.pointer("/status/containerStatuses/0/state/waiting/reason")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
