use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Pod, PodSpec, PodTemplateSpec, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::decide::{Plan, View, decide, new_pod, status, target};
use crate::common::test::{at, labels, meta, pod};

struct World {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    hash: &'static str,
    made: usize,
}

fn node(name: &str, taint: Option<(&str, &str)>) -> Arc<Node> {
    let taints = taint
        .map(|(key, effect)| vec![Taint { key: key.into(), effect: effect.into(), ..Default::default() }]);
    Arc::new(Node {
        metadata: ObjectMeta { labels: Some(labels(&[("name", name)])), ..meta(name) },
        spec: Some(NodeSpec { taints, ..Default::default() }),
        status: None,
    })
}

impl World {
    fn new(nodes: Vec<Arc<Node>>) -> Self {
        let template = PodTemplateSpec { metadata: None, spec: Some(PodSpec::default()) };
        let spec = DaemonSetSpec { template, ..Default::default() };
        let set = DaemonSet { metadata: meta("ds"), spec: Some(spec), status: None };
        Self { set, nodes, pods: vec![], hash: "h1", made: 0 }
    }

    fn view(&self) -> View<'_> {
        View { set: &self.set, nodes: &self.nodes, pods: &self.pods, hash: self.hash }
    }

    fn apply(&mut self, plan: &Plan, steps: usize) -> bool {
        let mut left = steps;
        let mut step = || left.checked_sub(1).map(|n| left = n).is_some();
        for wanted in &plan.delete {
            if !step() {
                return false;
            }
            self.pods.retain(|pod| pod.metadata.uid != wanted.metadata.uid);
        }
        for name in &plan.create {
            if !step() {
                return false;
            }
            self.made += 1;
            let mut made = new_pod(&self.set, name, self.hash);
            made.metadata.uid = Some(format!("made-{}", self.made));
            made.status = pod("x", None, Some(0)).status;
            self.pods.push(Arc::new(made));
        }
        true
    }

    /// Runs to the end, each plan cut after `steps` steps; the targets of the pods that are there then.
    fn settle(&mut self, steps: usize) -> Vec<String> {
        for _ in 0..50 {
            let plan = decide(&self.view(), at(100));
            if plan == Plan::default() {
                let mut targets: Vec<String> = self.pods.iter().map(|pod| target(pod)).collect();
                targets.sort();
                return targets;
            }
            self.apply(&plan, steps);
        }
        panic!("does not settle");
    }
}

#[test]
fn one_on_every_node_that_suits_whatever_is_lost() {
    for steps in [1, 2, usize::MAX] {
        let nodes = vec![
            node("a", None),
            node("b", Some(("x", "NoSchedule"))),
            node("c", Some(("node.kubernetes.io/unschedulable", "NoSchedule"))),
        ];
        let mut world = World::new(nodes);
        assert_eq!(world.settle(steps), ["a", "c"]);
        world.nodes[0] = node("a", Some(("x", "NoExecute")));
        world.nodes.push(node("d", None));
        assert_eq!(world.settle(steps), ["c", "d"]);
        // A pod may stay where none would be started.
        world.nodes[2] = node("c", Some(("x", "NoSchedule")));
        assert_eq!(world.settle(steps), ["c", "d"]);
    }
}

#[test]
fn node_selectors_count() {
    let mut world = World::new(vec![node("a", None), node("b", None)]);
    let spec = world.set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.node_selector = Some(labels(&[("name", "b")]));
    assert_eq!(world.settle(usize::MAX), ["b"]);
}

#[test]
fn failed_pods_are_replaced_and_doubles_go() {
    let mut world = World::new(vec![node("a", None)]);
    world.settle(usize::MAX);
    Arc::make_mut(&mut world.pods[0]).status.as_mut().unwrap().phase = Some("Failed".into());
    assert_eq!(decide(&world.view(), at(100)).failed.len(), 1);
    world.settle(usize::MAX);
    let mut double = (*world.pods[0]).clone();
    double.metadata.uid = Some("double".into());
    world.pods.push(Arc::new(double));
    assert_eq!(world.settle(usize::MAX), ["a"]);
}

#[test]
fn a_new_template_comes_one_by_one() {
    let mut world = World::new(vec![node("a", None), node("b", None), node("c", None)]);
    world.settle(usize::MAX);
    world.hash = "h2";
    let plan = decide(&world.view(), at(100));
    assert_eq!((plan.delete.len(), plan.create.len()), (1, 0));
    assert_eq!(world.settle(usize::MAX), ["a", "b", "c"]);
    assert!(
        world
            .pods
            .iter()
            .all(|pod| pod.metadata.labels.as_ref().unwrap()["controller-revision-hash"] == "h2")
    );
    let status = status(&world.view(), at(100)).unwrap();
    assert_eq!(
        (status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled),
        (3, 3, Some(3))
    );
    world.set.status = Some(status);
    assert_eq!(super::decide::status(&world.view(), at(100)), None);
}
