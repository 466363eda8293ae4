use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};

use super::decide::{Plan, View, decide, next_available, status};
use crate::common::test::{at, labels, meta, pod};
use crate::common::{controller_ref, pod_from_template};

/// A world with one ReplicaSet in it, in which a plan's steps can be carried out one by one.
struct World {
    set: ReplicaSet,
    pods: Vec<Arc<Pod>>,
    made: usize,
}

impl World {
    fn new(replicas: i32, pods: Vec<Pod>) -> Self {
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels(&[("app", "a")])), ..Default::default() }),
            spec: None,
        };
        let set = ReplicaSet {
            metadata: meta("rs"),
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                selector: LabelSelector {
                    match_labels: Some(labels(&[("app", "a")])),
                    match_expressions: None,
                },
                template: Some(template),
                ..Default::default()
            }),
            status: None,
        };
        Self { set, pods: pods.into_iter().map(Arc::new).collect(), made: 0 }
    }

    fn decide(&self) -> Plan {
        decide(&View { set: &self.set, pods: &self.pods, related: &self.pods }, at(1000))
    }

    /// Carries out the first `steps` steps of a plan; true if that was all of them.
    fn apply(&mut self, plan: &Plan, steps: usize) -> bool {
        let mut left = steps;
        let mut step = || left.checked_sub(1).map(|n| left = n).is_some();
        let owner = controller_ref(&self.set);
        for (pods, owners) in [(&plan.adopt, Some(vec![owner.clone()])), (&plan.release, None)] {
            for wanted in pods {
                if !step() {
                    return false;
                }
                let found = self.pods.iter_mut().find(|pod| pod.metadata.uid == wanted.metadata.uid).unwrap();
                Arc::make_mut(found).metadata.owner_references = owners.clone();
            }
        }
        for _ in 0..plan.create {
            if !step() {
                return false;
            }
            let mut pod = pod_from_template(
                self.set.spec.as_ref().unwrap().template.as_ref().unwrap(),
                "ns",
                owner.clone(),
            );
            self.made += 1;
            pod.metadata.uid = Some(format!("made-{}", self.made));
            self.pods.push(Arc::new(pod));
        }
        for wanted in &plan.delete {
            if !step() {
                return false;
            }
            self.pods.retain(|pod| pod.metadata.uid != wanted.metadata.uid);
        }
        true
    }
}

fn owned(name: &str, ready: Option<i64>) -> Pod {
    pod(name, Some(controller_ref(&World::new(0, vec![]).set)), ready)
}

/// After the whole plan nothing is left to do; after any part of it the rest still comes to the same.
fn check(make: impl Fn() -> World, pods: usize) {
    for crash_after in 0.. {
        let mut world = make();
        let plan = world.decide();
        let whole = world.apply(&plan, crash_after);
        let rest = world.decide();
        world.apply(&rest, usize::MAX);
        assert!(world.decide().is_empty(), "crash after {crash_after}");
        assert_eq!(world.pods.iter().filter(|p| p.metadata.owner_references.is_some()).count(), pods);
        if whole {
            assert!(rest.is_empty());
            return;
        }
    }
}

#[test]
fn makes_what_is_missing_and_deletes_what_is_too_much() {
    check(|| World::new(3, vec![]), 3);
    check(|| World::new(1, vec![owned("a", Some(1)), owned("b", None), owned("c", Some(2))]), 1);
    check(|| World::new(0, vec![owned("a", Some(1))]), 0);
}

#[test]
fn takes_in_orphans_and_lets_go_of_strangers() {
    check(|| World::new(2, vec![pod("orphan", None, Some(1))]), 2);
    let stranger = || {
        let mut pod = owned("stranger", Some(1));
        pod.metadata.labels = Some(labels(&[("app", "b")]));
        pod
    };
    check(|| World::new(2, vec![stranger(), owned("a", None)]), 2);
}

#[test]
fn finished_and_leaving_pods_do_not_count() {
    let mut failed = owned("failed", None);
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    let mut leaving = owned("leaving", Some(1));
    leaving.metadata.deletion_timestamp = Some(Time(at(5)));
    let world = World::new(1, vec![failed, leaving]);
    assert_eq!(world.decide().create, 1);
    let status = status(&world.set, &world.pods, None, at(9)).unwrap();
    assert_eq!((status.replicas, status.terminating_replicas), (0, Some(1)));
}

#[test]
fn nothing_is_made_while_going_away() {
    let mut world = World::new(3, vec![pod("orphan", None, None)]);
    world.set.metadata.deletion_timestamp = Some(Time(at(1)));
    assert!(world.decide().is_empty());
}

#[test]
fn the_least_missed_go_first() {
    let names = |plan: Plan| -> Vec<String> {
        plan.delete.iter().map(|p| p.metadata.name.clone().unwrap()).collect()
    };
    let mut unassigned = owned("unassigned", None);
    unassigned.spec.as_mut().unwrap().node_name = None;
    let mut cheap = owned("cheap", Some(1));
    let cost = ("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-5".to_owned());
    cheap.metadata.annotations = Some([cost].into());
    let pods =
        vec![owned("old", Some(1)), owned("young", Some(990)), cheap, owned("unready", None), unassigned];
    assert_eq!(names(World::new(1, pods).decide()), ["unassigned", "unready", "cheap", "young"]);
}

#[test]
fn status_counts_and_time() {
    let mut world = World::new(2, vec![owned("a", Some(1)), owned("b", Some(995))]);
    world.set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let new = status(&world.set, &world.pods, None, at(1000)).unwrap();
    assert_eq!((new.replicas, new.ready_replicas, new.available_replicas), (2, Some(2), Some(1)));
    assert_eq!(next_available(&world.set, &world.pods, at(1000)).unwrap().as_secs(), 5);
    world.set.status = Some(new);
    assert_eq!(status(&world.set, &world.pods, None, at(1000)), None);
}

#[test]
fn a_failure_shows_and_goes() {
    let mut world = World::new(2, vec![]);
    let failed = status(&world.set, &[], Some("no room"), at(1)).unwrap();
    let condition = &failed.conditions.as_ref().unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_deref()),
        ("ReplicaFailure", Some("FailedCreate"))
    );
    world.set.status = Some(failed);
    assert_eq!(status(&world.set, &[], Some("no room"), at(2)), None);
    assert_eq!(status(&world.set, &[], None, at(3)).unwrap().conditions, None);
}
