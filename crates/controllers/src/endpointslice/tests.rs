use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodIP, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::decide::{Plan, View, decide};
use crate::common::test::{at, labels, meta, pod};

struct World {
    service: Service,
    pods: Vec<Arc<Pod>>,
    slices: Vec<Arc<EndpointSlice>>,
    made: usize,
}

fn with_ip(name: &str, number: usize, ready: bool) -> Arc<Pod> {
    let mut pod = pod(name, None, ready.then_some(1));
    let ip = format!("10.0.{}.{}", number / 250, number % 250);
    let status = pod.status.as_mut().unwrap();
    status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
    status.pod_ip = Some(ip);
    Arc::new(pod)
}

impl World {
    fn new(pods: usize) -> Self {
        let port = ServicePort { port: 80, target_port: Some(IntOrString::Int(8080)), ..Default::default() };
        let spec = ServiceSpec {
            selector: Some(labels(&[("app", "a")])),
            cluster_ip: Some("10.96.0.1".into()),
            ip_families: Some(vec!["IPv4".into()]),
            ports: Some(vec![port]),
            ..Default::default()
        };
        let pods = (0..pods).map(|n| with_ip(&format!("p{n}"), n, true)).collect();
        let service = Service { metadata: meta("s"), spec: Some(spec), status: None };
        Self { service, pods, slices: vec![], made: 0 }
    }

    fn decide(&self) -> Plan {
        let node = |name: &str| {
            (name == "n1").then(|| BTreeMap::from([("topology.kubernetes.io/zone".into(), "z".into())]))
        };
        decide(&View { service: &self.service, pods: &self.pods, slices: &self.slices, node: &node })
    }

    fn apply(&mut self, plan: Plan, steps: usize) -> usize {
        let mut left = steps;
        let mut step = || left.checked_sub(1).map(|n| left = n).is_some();
        for mut slice in plan.create {
            if step() {
                self.made += 1;
                slice.metadata.name = Some(format!("slice-{}", self.made));
                self.slices.push(Arc::new(slice));
            }
        }
        for slice in plan.update {
            if step() {
                let old =
                    self.slices.iter_mut().find(|old| old.metadata.name == slice.metadata.name).unwrap();
                *old = Arc::new(slice);
            }
        }
        for slice in plan.delete {
            if step() {
                self.slices.retain(|old| old.metadata.name != slice.metadata.name);
            }
        }
        left
    }

    fn settle(&mut self) {
        let plan = self.decide();
        self.apply(plan, usize::MAX);
        assert_eq!(self.decide(), Plan::default());
    }

    fn addresses(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> =
            self.slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    }
}

#[test]
fn as_many_slices_as_needed_and_one_if_empty() {
    for (pods, expected) in [(0, vec![0]), (1, vec![1]), (100, vec![100]), (250, vec![50, 100, 100])] {
        let mut world = World::new(pods);
        world.settle();
        assert_eq!(world.addresses(), expected);
    }
}

#[test]
fn changes_write_as_little_as_possible() {
    let mut world = World::new(150);
    world.settle();
    world.pods.push(with_ip("new", 200, true));
    let plan = world.decide();
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    world.apply(plan, usize::MAX);
    assert_eq!(world.addresses(), [51, 100]);
    world.pods.clear();
    world.settle();
    assert_eq!(world.addresses(), [0]);
}

#[test]
fn a_crash_anywhere_converges() {
    for steps in 0..8 {
        let mut world = World::new(250);
        let plan = world.decide();
        world.apply(plan, steps);
        world.pods.truncate(120);
        let plan = world.decide();
        world.apply(plan, steps);
        world.settle();
        assert_eq!(world.addresses().iter().sum::<usize>(), 120);
    }
}

#[test]
fn conditions_follow_the_pod() {
    let mut world = World::new(1);
    let mut leaving = (*with_ip("leaving", 7, true)).clone();
    leaving.metadata.deletion_timestamp = Some(Time(at(3)));
    world.pods = vec![with_ip("unready", 5, false), Arc::new(leaving)];
    world.settle();
    let mut states: Vec<_> = world.slices[0]
        .endpoints
        .as_ref()
        .unwrap()
        .iter()
        .map(|e| {
            e.conditions
                .clone()
                .map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()))
                .unwrap()
        })
        .collect();
    states.sort_unstable();
    assert_eq!(states, [(false, false, false), (false, true, true)]);
    assert_eq!(world.slices[0].endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z"));
}

#[test]
fn named_ports_may_differ_from_pod_to_pod() {
    use k8s_openapi::api::core::v1::{Container, ContainerPort};
    let mut world = World::new(2);
    world.service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].target_port =
        Some(IntOrString::String("web".into()));
    for (n, pod) in world.pods.iter_mut().enumerate() {
        let port =
            ContainerPort { name: Some("web".into()), container_port: 8000 + n as i32, ..Default::default() };
        let container = Container { ports: Some(vec![port]), ..Default::default() };
        Arc::make_mut(pod).spec.as_mut().unwrap().containers = vec![container];
    }
    world.settle();
    assert_eq!(world.addresses(), [1, 1]);
}

#[test]
fn pods_on_unknown_nodes_wait() {
    let mut world = World::new(1);
    Arc::make_mut(&mut world.pods[0]).spec.as_mut().unwrap().node_name = Some("other".into());
    let plan = world.decide();
    assert!(plan.incomplete);
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 0);
}

#[test]
fn hints_keep_traffic_near() {
    let mut world = World::new(1);
    world.service.spec.as_mut().unwrap().traffic_distribution = Some("PreferSameZone".into());
    world.settle();
    let hints = world.slices[0].endpoints.as_ref().unwrap()[0].hints.clone().unwrap();
    assert_eq!(hints.for_zones.unwrap()[0].name, "z");
}
