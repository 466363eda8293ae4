//! Which nodes get a pod and which pods go, for lack of a suitable node, as failed, or for a newer template.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::common::{
    REVISION_LABEL, controller_ref, is_available, is_finished, is_ready, node_name, node_wanted, nonzero,
    pod_from_template, scaled_up, tolerates,
};

const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct View<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// The set's own pods.
    pub pods: &'a [Arc<Pod>],
    /// The hash of the present template.
    pub hash: &'a str,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Names of nodes.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Those of `delete` that are finished: told of as such.
    pub failed: Vec<Arc<Pod>>,
}

/// The spec of the set's pods on any node, with what daemons tolerate.
fn pod_spec(set: &DaemonSet) -> PodSpec {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut spec = template.spec.unwrap_or_default();
    let mut add = |key: &str, effect: &str| {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    };
    add("not-ready", "NoExecute");
    add("unreachable", "NoExecute");
    for key in ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"] {
        add(key, "NoSchedule");
    }
    if spec.host_network == Some(true) {
        let toleration = Toleration {
            key: Some("node.kubernetes.io/network-unavailable".into()),
            operator: Some("Exists".into()),
            effect: Some("NoSchedule".into()),
            ..Default::default()
        };
        spec.tolerations.get_or_insert_default().push(toleration);
    }
    spec
}

/// Whether a pod should be started there, and whether one that is there may stay.
fn suits(spec: &PodSpec, node: &Node) -> (bool, bool) {
    if !node_wanted(spec, node) {
        return (false, false);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let tolerated = |taint: &&Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let taints: Vec<&Taint> = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).collect();
    let of = |effects: &[&str]| {
        taints.iter().filter(|taint| effects.contains(&taint.effect.as_str())).all(tolerated)
    };
    (of(&["NoSchedule", "NoExecute"]), of(&["NoExecute"]))
}

/// The node a pod is on, or is meant for.
pub(super) fn target(pod: &Pod) -> String {
    let named = node_name(pod);
    if !named.is_empty() {
        return named.to_owned();
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let mut fields = required
        .iter()
        .flat_map(|selector| &selector.node_selector_terms)
        .flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In");
    field.and_then(|field| field.values.as_ref()?.first().cloned()).unwrap_or_default()
}

fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut map: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        map.entry(target(pod)).or_default().push(pod.clone());
    }
    map
}

pub(super) fn decide(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if view.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let spec = pod_spec(view.set);
    let mut on = by_node(view.pods);
    for node in view.nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut pods = on.remove(&name).unwrap_or_default();
        let (start, stay) = suits(&spec, node);
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() || stay);
        if !stay {
            plan.delete.extend(pods);
        } else if pods.is_empty() {
            if start {
                plan.create.push(name);
            }
        } else {
            let leaving = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
            let (finished, mut rest): (Vec<_>, Vec<_>) =
                pods.into_iter().filter(|pod| !leaving(pod)).partition(|pod| is_finished(pod));
            plan.failed.extend(finished.iter().cloned());
            plan.delete.extend(finished);
            // Of several the oldest stays, one with a node before one without.
            rest.sort_by_key(|pod| {
                (node_name(pod).is_empty(), pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
            });
            plan.delete.extend(rest.into_iter().skip(1));
        }
    }
    // What was meant for a node that is gone will never start.
    plan.delete.extend(
        on.into_values()
            .flatten()
            .filter(|pod| node_name(pod).is_empty() && pod.metadata.deletion_timestamp.is_none()),
    );
    if plan == Plan::default() {
        plan.delete = outdated(view, &spec, now);
    }
    plan
}

/// The pods to take down next for a newer template: as many as may be unavailable.
fn outdated(view: &View<'_>, spec: &PodSpec, now: Timestamp) -> Vec<Arc<Pod>> {
    let Some(set_spec) = &view.set.spec else { return Vec::new() };
    let strategy = set_spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return Vec::new();
    }
    let min_ready = set_spec.min_ready_seconds.unwrap_or(0);
    let on = by_node(view.pods);
    let wanted: Vec<&Arc<Node>> = view.nodes.iter().filter(|node| suits(spec, node).0).collect();
    let allowed =
        strategy.rolling_update.and_then(|rolling| rolling.max_unavailable).unwrap_or(IntOrString::Int(1));
    let mut room = scaled_up(&allowed, wanted.len() as i32).max(1);
    let (mut idle, mut serving) = (Vec::new(), Vec::new());
    for node in wanted {
        let pods = on.get(node.metadata.name.as_deref().unwrap_or_default());
        let pod = pods.and_then(|pods| pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none()));
        let Some(pod) = pod else {
            room -= 1;
            continue;
        };
        let available = is_available(pod, min_ready, now);
        let old = revision(pod) != Some(view.hash);
        match (old, available) {
            // Taking down what does not serve costs nothing.
            (true, false) => {
                room -= 1;
                idle.push(pod.clone());
            }
            (true, true) => serving.push(pod.clone()),
            (false, false) => room -= 1,
            (false, true) => {}
        }
    }
    idle.extend(serving.into_iter().take(room.max(0) as usize));
    idle
}

fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

/// The pod for one node: the scheduler is told which by affinity.
pub(super) fn new_pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&template, namespace, controller_ref(set));
    let mut spec = pod_spec(set);
    let here = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut NodeAffinity =
        spec.affinity.get_or_insert_with(Affinity::default).node_affinity.get_or_insert_default();
    let term = NodeSelectorTerm { match_fields: Some(vec![here.clone()]), ..Default::default() };
    match &mut affinity.required_during_scheduling_ignored_during_execution {
        Some(required) if !required.node_selector_terms.is_empty() => {
            required
                .node_selector_terms
                .iter_mut()
                .for_each(|term| term.match_fields = Some(vec![here.clone()]));
        }
        required => *required = Some(NodeSelector { node_selector_terms: vec![term] }),
    }
    pod.spec = Some(spec);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.into(), hash.to_owned());
    let generation = set.metadata.annotations.as_ref().and_then(|a| a.get(GENERATION_ANNOTATION));
    if let Some(generation) = generation {
        labels.insert(GENERATION_LABEL.into(), generation.clone());
    }
    pod
}

/// The status; none if it is so already.
pub(super) fn status(view: &View<'_>, now: Timestamp) -> Option<DaemonSetStatus> {
    let old = view.set.status.clone().unwrap_or_default();
    let spec = pod_spec(view.set);
    let min_ready = view.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let on = by_node(view.pods);
    let (mut desired, mut current, mut misplaced, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
    for node in view.nodes {
        let pods = on.get(node.metadata.name.as_deref().unwrap_or_default());
        let mut pods: Vec<&Arc<Pod>> = pods.into_iter().flatten().collect();
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0));
        if !suits(&spec, node).0 {
            misplaced += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        let Some(pod) = pods.first() else { continue };
        current += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(is_available(pod, min_ready, now));
        updated += i32::from(revision(pod) == Some(view.hash));
    }
    let new = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misplaced,
        number_ready: ready,
        updated_number_scheduled: nonzero(updated),
        number_available: nonzero(available),
        number_unavailable: nonzero(desired - available),
        observed_generation: view.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let plain = |status: &DaemonSetStatus| {
        let mut status = status.clone();
        for count in [
            &mut status.updated_number_scheduled,
            &mut status.number_available,
            &mut status.number_unavailable,
        ] {
            *count = count.filter(|count| *count != 0);
        }
        status
    };
    (plain(&old) != plain(&new)).then_some(new)
}
