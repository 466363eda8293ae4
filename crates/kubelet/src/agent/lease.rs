//! The node's heartbeat: its Lease, renewed four times in its duration.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use client::{ErrorKind, Key};

const NAMESPACE: &str = "kube-node-lease";
/// After a failed renewal.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);

pub(super) async fn run(agent: Arc<Agent>) {
    let api: Api<Lease> = Api::namespaced(agent.client.clone(), NAMESPACE);
    let period = agent.config.lease_duration / 4;
    let mut held: Option<Lease> = None;
    let mut retry = RETRY;
    let mut housekeeping = super::housekeeping::Housekeeping::default();
    loop {
        let wait = match renew(&agent, &api, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                retry = RETRY;
                period
            }
            Err(error) => {
                tracing::warn!(%error, "renewing the node's lease failed");
                retry = (retry * 2).min(RETRY_MAX);
                retry
            }
        };
        housekeeping.run(&agent).await;
        tokio::select! {
            () = agent.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(agent: &Agent, api: &Api<Lease>, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &agent.config.node_name;
    let found = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let mut lease = found.clone().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.into()),
            owner_references: owner(agent).map(|o| vec![o]),
            ..Default::default()
        },
        ..Default::default()
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = i32::try_from(agent.config.lease_duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    if found.is_none() {
        return match api.create(&PostParams::default(), &lease).await {
            // Made by someone else meanwhile: the next try renews it.
            Err(e) if ErrorKind::of(&e) == ErrorKind::AlreadyExists => api.get(name).await,
            other => other,
        };
    }
    api.replace(name, &PostParams::default(), &lease).await
}

fn owner(agent: &Agent) -> Option<OwnerReference> {
    let node: Arc<Node> = agent.node.get(&Key::cluster(&agent.config.node_name))?;
    Some(OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: agent.config.node_name.clone(),
        uid: node.metadata.uid.clone()?,
        ..Default::default()
    })
}
