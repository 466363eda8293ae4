//! An API server with a memory store, all controllers, the scheduler, and nodes that pretend to run pods.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, User};
use client::{Informers, Store};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const BOUND: Duration = Duration::from_secs(20);

pub struct World {
    pub admin: Client,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    /// A cluster with so many nodes of 4 CPUs each.
    pub async fn start(nodes: usize) -> Self {
        Self::with(nodes, controllers::Config { root_ca: Some("CA".into()), ..Default::default() }).await
    }

    pub async fn with(nodes: usize, config: controllers::Config) -> Self {
        // RUST_LOG=debug shows what the controllers think.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let store: Arc<dyn store::Store> = Arc::new(store::memory::Memory::new());
        let api = ApiServer::start(apiserver::Config::default(), store).await.unwrap();
        let shutdown = CancellationToken::new();
        let identity = |user: User, agent: &str| client::transport::in_process(api.service(user), agent);
        let admin = identity(User::new("admin", &["system:masters"]), "test");
        let manager = identity(User::new("system:kube-controller-manager", &[]), "kube-controller-manager");
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (of, stop) = (api.clone(), shutdown.clone());
        tokio::spawn(async move {
            let each = |account: &str| {
                let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
                let user = User::new(format!("system:serviceaccount:kube-system:{account}"), &groups);
                client::transport::in_process(of.service(user), account)
            };
            controllers::run(config, manager, each, ready, stop).await.unwrap();
        });
        is_ready.await.unwrap();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let scheduler = identity(User::new("system:kube-scheduler", &[]), "kube-scheduler");
        tokio::spawn(scheduler::run(scheduler::Config::default(), scheduler, ready, shutdown.clone()));
        is_ready.await.unwrap();
        let world = Self { admin, shutdown };
        for n in 0..nodes {
            world.add_node(&format!("n{n}")).await;
        }
        world.pretend_to_run_pods();
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = world.namespaced("default");
        world
            .until(
                "the default account",
                || async { accounts.get_opt("default").await.unwrap() },
                Option::is_some,
            )
            .await;
        world
    }

    pub async fn add_node(&self, name: &str) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        });
        let api: Api<Node> = Api::all(self.admin.clone());
        api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let status = json!({"status": {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Bound pods run and are ready at once, unless their image is `never-ready`; deleted ones go at once.
    fn pretend_to_run_pods(&self) {
        let informers = Informers::new(self.admin.clone(), self.shutdown.clone());
        let pods: Store<Pod> = informers.of();
        let (sender, mut changed) = tokio::sync::mpsc::unbounded_channel();
        let subscription = pods.on_change(move |change| {
            if let Some(pod) = change.new {
                let _ = sender.send(pod.clone());
            }
        });
        let admin = self.admin.clone();
        let mut count = 0;
        tokio::spawn(async move {
            let _subscription = subscription;
            while let Some(pod) = changed.recv().await {
                let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
                let api: Api<Pod> = Api::namespaced(admin.clone(), &pod.namespace().unwrap());
                if pod.metadata.deletion_timestamp.is_some() {
                    // Another of the same name may be there already.
                    let this = Preconditions { uid: pod.uid(), resource_version: None };
                    let end = DeleteParams::default().grace_period(0).preconditions(this);
                    let _ = api.delete(&pod.name_any(), &end).await;
                } else if assigned && pod.status.as_ref().is_none_or(|s| s.pod_ip.is_none()) {
                    count += 1;
                    let ip = format!("10.244.{}.{}", count / 250, count % 250 + 1);
                    let image =
                        pod.spec.as_ref().and_then(|s| s.containers[0].image.clone()).unwrap_or_default();
                    let ready = if image == "never-ready" { "False" } else { "True" };
                    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                    let status = json!({"status": {
                        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now,
                        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
                    }});
                    let _ = api
                        .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status))
                        .await;
                }
            }
        });
    }

    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), namespace)
    }

    pub async fn namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.admin.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = self.namespaced(name);
        self.until(
            "the default account",
            || async { accounts.get_opt("default").await.unwrap() },
            Option::is_some,
        )
        .await;
    }

    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.namespaced::<K>(namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    /// Asks until `test` holds; panics with the last answer after the bound.
    pub async fn until<T: Debug, F: Future<Output = T>>(
        &self,
        what: &str,
        ask: impl Fn() -> F,
        test: impl Fn(&T) -> bool,
    ) -> T {
        let start = tokio::time::Instant::now();
        loop {
            let last = ask().await;
            if test(&last) {
                return last;
            }
            assert!(start.elapsed() < BOUND, "{what} did not come about; last: {last:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.namespaced::<Pod>(namespace).list(&Default::default()).await.unwrap().items
    }
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}
