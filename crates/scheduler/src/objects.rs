//! Pods and nodes with the fields that scheduling reads, and nothing else: thousands of them stay in memory.

use std::collections::BTreeMap;

use client::{Cached, Key, null_is_default};
use k8s_openapi::api::core::v1::{Affinity, ContainerImage, Taint, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::Deserialize;

pub type Labels = BTreeMap<String, String>;
pub type Quantities = BTreeMap<String, Quantity>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    #[serde(deserialize_with = "null_is_default")]
    pub labels: Labels,
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: Annotations,
    #[serde(deserialize_with = "null_is_default")]
    pub owner_references: Vec<OwnerReference>,
    pub creation_timestamp: Option<Time>,
    pub deletion_timestamp: Option<Time>,
}

/// The few annotations that matter here; others are not kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "pv.kubernetes.io/bind-completed")]
    pub bind_completed: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Meta,
    #[serde(deserialize_with = "null_is_default")]
    pub spec: PodSpec,
    #[serde(deserialize_with = "null_is_default")]
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: String,
    pub scheduler_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    pub overhead: Quantities,
    #[serde(deserialize_with = "null_is_default")]
    pub resources: Requests,
    pub host_network: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub node_selector: Labels,
    pub affinity: Option<Affinity>,
    #[serde(deserialize_with = "null_is_default")]
    pub tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "null_is_default")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    pub priority: i32,
    pub preemption_policy: Option<String>,
    /// Only how many there are.
    #[serde(deserialize_with = "null_is_default")]
    pub scheduling_gates: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
    pub termination_grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub image: String,
    pub restart_policy: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub resources: Requests,
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Requests {
    #[serde(deserialize_with = "null_is_default")]
    pub requests: Quantities,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub host_port: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: String,
    pub persistent_volume_claim: Option<ClaimSource>,
    /// Only whether there is one.
    pub ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    pub claim_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub nominated_node_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
    pub start_time: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Meta,
    #[serde(deserialize_with = "null_is_default")]
    pub spec: NodeSpec,
    #[serde(deserialize_with = "null_is_default")]
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub unschedulable: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "null_is_default")]
    pub allocatable: Quantities,
    #[serde(deserialize_with = "null_is_default")]
    pub images: Vec<ContainerImage>,
}

macro_rules! cached {
    ($($kind:ty),*) => {$(
        impl Cached for $kind {
            fn key(&self) -> Key {
                Key::new(&self.metadata.namespace, &self.metadata.name)
            }
            fn object_uid(&self) -> &str {
                &self.metadata.uid
            }
            fn version(&self) -> &str {
                &self.metadata.resource_version
            }
        }
    )*};
}

cached!(Pod, Node);

impl Pod {
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    pub fn is_assigned(&self) -> bool {
        !self.spec.node_name.is_empty()
    }

    pub fn controller(&self) -> Option<&OwnerReference> {
        self.metadata.owner_references.iter().find(|owner| owner.controller == Some(true))
    }

    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }
}
