//! A node with the pods on it, added up; a snapshot of all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

use crate::objects::{Labels, Node, Pod, Port};
use crate::resources::{Amounts, pod_limit, pod_nonzero_requests, pod_requests};

/// A pod, and what is asked of it again and again.
#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Amounts,
    pub nonzero: Amounts,
    pub ports: Vec<Port>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let containers =
            pod.spec.containers.iter().chain(
                pod.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always")),
            );
        let ports =
            containers.flat_map(|c| c.ports.iter()).filter(|port| port.host_port > 0).cloned().collect();
        Self { requests: pod_requests(&pod), nonzero: pod_nonzero_requests(&pod), ports, pod }
    }

    pub fn required_affinity(&self) -> &[PodAffinityTerm] {
        let affinity = self.pod.spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
        affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default()
    }

    pub fn required_anti_affinity(&self) -> &[PodAffinityTerm] {
        let affinity = self.pod.spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
        affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default()
    }

    pub fn preferred_affinity(&self) -> &[WeightedPodAffinityTerm] {
        let affinity = self.pod.spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
        affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default()
    }

    pub fn preferred_anti_affinity(&self) -> &[WeightedPodAffinityTerm] {
        let affinity = self.pod.spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
        affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default()
    }

    pub fn has_affinity(&self) -> bool {
        self.pod
            .spec
            .affinity
            .as_ref()
            .is_some_and(|a| a.pod_affinity.is_some() || a.pod_anti_affinity.is_some())
    }
}

/// What is free and taken on a node.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub allocatable: Amounts,
    pub pod_limit: i64,
    pub pods: Vec<Arc<PodInfo>>,
    pub requested: Amounts,
    pub nonzero: Amounts,
    /// How many of the pods have (anti-)affinity to others.
    pub with_affinity: usize,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            allocatable: Amounts::of(&node.status.allocatable),
            pod_limit: pod_limit(&node.status.allocatable),
            node,
            pods: Vec::new(),
            requested: Amounts::default(),
            nonzero: Amounts::default(),
            with_affinity: 0,
        }
    }

    /// The same pods on a changed node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        self.allocatable = Amounts::of(&node.status.allocatable);
        self.pod_limit = pod_limit(&node.status.allocatable);
        self.node = node;
    }

    pub fn name(&self) -> &str {
        &self.node.metadata.name
    }

    pub fn labels(&self) -> &Labels {
        &self.node.metadata.labels
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero.add(&pod.nonzero);
        self.with_affinity += usize::from(pod.has_affinity());
        self.pods.push(pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let place = self.pods.iter().position(|pod| pod.pod.metadata.uid == uid)?;
        let pod = self.pods.swap_remove(place);
        self.requested.sub(&pod.requests);
        self.nonzero.sub(&pod.nonzero);
        self.with_affinity -= usize::from(pod.has_affinity());
        Some(pod)
    }
}

/// All nodes at one moment. Cheap to make: unchanged nodes are shared.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub nodes: Vec<Arc<NodeInfo>>,
    /// How many nodes have an image, and its size in bytes.
    pub images: Arc<HashMap<String, (usize, i64)>>,
    /// Labels of namespaces.
    pub namespaces: Arc<BTreeMap<String, Labels>>,
}

impl Snapshot {
    pub fn get(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.iter().find(|node| node.name() == name)
    }
}
