use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::decide::{Plan, Step, View, decide};
use super::revision::{REVISION, REVISION_HISTORY, annotation, template_hash};
use super::scale::{replicas, scale_proportionally};
use super::status::condition;
use crate::common::test::{at, labels, meta};

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(&[("app", "a")])), ..Default::default() }),
        spec: Some(PodSpec {
            containers: vec![Container { name: "c".into(), image: Some(image.into()), ..Default::default() }],
            ..Default::default()
        }),
    }
}

fn deployment(size: i32, surge: &str, unavailable: &str) -> Deployment {
    let share = |text: &str| match text.parse() {
        Ok(number) => IntOrString::Int(number),
        Err(_) => IntOrString::String(text.into()),
    };
    Deployment {
        metadata: meta("d"),
        spec: Some(DeploymentSpec {
            replicas: Some(size),
            selector: LabelSelector { match_labels: Some(labels(&[("app", "a")])), match_expressions: None },
            template: template("v1"),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(share(surge)),
                    max_unavailable: Some(share(unavailable)),
                }),
            }),
            ..Default::default()
        }),
        status: None,
    }
}

/// A Deployment, its sets, and a ReplicaSet controller whose pods are available at once while `healthy` is true.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    now: i64,
    events: Vec<String>,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: vec![], now: 10, events: vec![] }
    }

    fn decide(&self) -> Plan {
        decide(&View { deployment: &self.deployment, sets: &self.sets, pods: &[] }, at(self.now))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create(set) => {
                let mut set = *set;
                let name = set.metadata.name.clone().unwrap();
                assert!(
                    self.sets.iter().all(|other| other.metadata.name != set.metadata.name),
                    "{name} is there"
                );
                set.metadata.uid = Some(format!("uid-{name}"));
                set.metadata.creation_timestamp = Some(Time(at(self.now)));
                set.metadata.generation = Some(1);
                self.sets.push(Arc::new(set));
            }
            Step::Update(set) => {
                let place =
                    self.sets.iter_mut().find(|other| other.metadata.name == set.metadata.name).unwrap();
                let generation = place.metadata.generation.unwrap() + i64::from(place.spec != set.spec);
                *place = Arc::new(*set);
                Arc::make_mut(place).metadata.generation = Some(generation);
            }
            Step::Delete(set) => self.sets.retain(|other| other.metadata.name != set.metadata.name),
            Step::UpdateStatus(deployment) | Step::UpdateDeployment(deployment) => {
                self.deployment = *deployment
            }
            Step::Event { message, .. } => self.events.push(message),
            Step::Adopt(_) | Step::Release(_) => unreachable!(),
        }
    }

    /// Every set gets what it asks for; `healthy` says whether its pods become available.
    fn run_pods(&mut self, healthy: impl Fn(&ReplicaSet) -> bool) {
        for set in &mut self.sets {
            let set = Arc::make_mut(set);
            let size = replicas(set);
            let available = if healthy(set) {
                Some(size)
            } else {
                set.status.as_ref().and_then(|s| s.available_replicas).map(|a| a.min(size))
            };
            set.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: available,
                available_replicas: available,
                terminating_replicas: Some(0),
                observed_generation: set.metadata.generation,
                ..Default::default()
            });
        }
    }

    /// Runs until nothing changes; each round's plan is cut after at most `steps` steps.
    fn settle(&mut self, steps: usize, healthy: impl Fn(&ReplicaSet) -> bool) {
        for _ in 0..200 {
            self.now += 1;
            let before = (self.deployment.clone(), self.sets.clone());
            let plan = self.decide();
            plan.steps.into_iter().take(steps).for_each(|step| self.apply(step));
            self.check_bounds(&healthy);
            self.run_pods(&healthy);
            if before == (self.deployment.clone(), self.sets.clone()) {
                return;
            }
        }
        panic!("does not settle: {:?}", self.decide());
    }

    /// Never more pods than wanted and surge together, once the first set is there.
    fn check_bounds(&self, _healthy: &impl Fn(&ReplicaSet) -> bool) {
        let most = super::scale::wanted(&self.deployment) + super::scale::max_surge(&self.deployment);
        let total: i32 = self.sets.iter().map(|set| replicas(set)).sum();
        assert!(total <= most, "{total} > {most}");
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| replicas(set)).collect()
    }

    fn change(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(self.deployment.spec.as_mut().unwrap());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn reason(&self, kind: &str) -> String {
        let status = self.deployment.status.clone().unwrap();
        condition(&status, kind).unwrap().reason.clone().unwrap()
    }
}

#[test]
fn rolls_out_and_over_whatever_is_lost_on_the_way() {
    // Cut plans after one, two, … steps: a crash at any point converges to the same.
    for steps in [1, 2, 3, usize::MAX] {
        for (surge, unavailable) in [("25%", "25%"), ("1", "0"), ("0", "1"), ("0", "0"), ("100%", "100%")] {
            let mut world = World::new(deployment(4, surge, unavailable));
            world.settle(steps, |_| true);
            assert_eq!(world.sizes(), [4]);
            assert_eq!(world.reason("Progressing"), "NewReplicaSetAvailable");
            assert_eq!(world.reason("Available"), "MinimumReplicasAvailable");
            world.change(|spec| spec.template = template("v2"));
            world.settle(steps, |_| true);
            assert_eq!(world.sizes(), [0, 4], "{surge} {unavailable}");
            assert_eq!(annotation(&world.deployment.metadata, REVISION), Some("2"));
            assert!(world.decide().steps.is_empty());
            let status = world.deployment.status.clone().unwrap();
            assert_eq!(
                (status.replicas, status.updated_replicas, status.unavailable_replicas),
                (Some(4), Some(4), None)
            );
        }
    }
}

#[test]
fn availability_holds_while_the_new_version_fails() {
    let mut world = World::new(deployment(10, "3", "2"));
    world.settle(usize::MAX, |_| true);
    world.change(|spec| spec.template = template("bad"));
    let good = world.sets[0].metadata.name.clone();
    world.settle(usize::MAX, |set| set.metadata.name == good);
    assert_eq!(world.sizes(), [8, 5]);
    assert_eq!(world.decide().again.is_some(), true);
    world.now += 700;
    world.settle(usize::MAX, |set| set.metadata.name == good);
    assert_eq!(world.reason("Progressing"), "ProgressDeadlineExceeded");
    // Back to the good one: its set is used again and gets a new revision.
    world.change(|spec| spec.template = template("v1"));
    world.settle(usize::MAX, |set| set.metadata.name == good);
    assert_eq!(world.sizes(), [10, 0]);
    let first = &world.sets[0].metadata;
    assert_eq!((annotation(first, REVISION), annotation(first, REVISION_HISTORY)), (Some("3"), Some("1")));
}

#[test]
fn recreate_waits_for_the_old_to_be_gone() {
    let mut recreate = deployment(3, "0", "0");
    recreate.spec.as_mut().unwrap().strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    let mut world = World::new(recreate);
    world.settle(usize::MAX, |_| true);
    world.change(|spec| spec.template = template("v2"));
    world.now += 1;
    for step in world.decide().steps {
        world.apply(step);
    }
    assert_eq!(world.sizes(), [0]);
    world.settle(usize::MAX, |_| true);
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn paused_scales_but_does_not_roll() {
    let mut world = World::new(deployment(4, "1", "1"));
    world.settle(usize::MAX, |_| true);
    world.change(|spec| {
        spec.paused = Some(true);
        spec.template = template("v2");
        spec.replicas = Some(6);
    });
    world.settle(usize::MAX, |_| true);
    assert_eq!((world.sizes(), world.reason("Progressing")), (vec![6], "DeploymentPaused".into()));
    world.change(|spec| spec.paused = None);
    world.settle(usize::MAX, |_| true);
    assert_eq!((world.sizes(), world.reason("Progressing")), (vec![0, 6], "NewReplicaSetAvailable".into()));
}

#[test]
fn scaling_during_a_rollout_is_shared() {
    let mut world = World::new(deployment(10, "3", "2"));
    world.settle(usize::MAX, |_| true);
    world.change(|spec| spec.template = template("bad"));
    let good = world.sets[0].metadata.name.clone();
    world.settle(usize::MAX, |set| set.metadata.name == good);
    world.deployment.spec.as_mut().unwrap().replicas = Some(15);
    let mut sets: Vec<ReplicaSet> = world.sets.iter().map(|set| (**set).clone()).collect();
    scale_proportionally(&world.deployment, &mut sets, Some(1));
    // The documentation's example: 8 and 5 become 11 and 7.
    assert_eq!(sets.iter().map(replicas).collect::<Vec<_>>(), [11, 7]);
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut world = World::new(deployment(1, "1", "0"));
    world.deployment.spec.as_mut().unwrap().revision_history_limit = Some(2);
    for version in 1..6 {
        world.change(|spec| spec.template = template(&format!("v{version}")));
        world.settle(usize::MAX, |_| true);
    }
    let mut revisions: Vec<_> = world.sets.iter().map(|set| super::revision::revision(set)).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [3, 4, 5]);
}

#[test]
fn events_say_what_was_scaled() {
    let mut world = World::new(deployment(2, "1", "0"));
    world.settle(usize::MAX, |_| true);
    let name = world.sets[0].metadata.name.clone().unwrap();
    assert_eq!(world.events, [format!("Scaled up replica set {name} from 0 to 2")]);
}

#[test]
fn the_hash_tells_templates_and_collisions_apart() {
    let hash = |image: &str, collisions| template_hash(&template(image), collisions);
    assert_eq!(hash("a", None), hash("a", None));
    assert_ne!(hash("a", None), hash("b", None));
    assert_ne!(hash("a", None), hash("a", Some(1)));
}
