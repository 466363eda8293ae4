use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::decide::{Step, View, decide, status};
use super::identity::{claims, new_pod, revision};
use crate::common::test::{at, meta, pod};

struct World {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    update: &'static str,
    made: usize,
    log: Vec<String>,
}

impl World {
    fn new(replicas: i32, policy: &str) -> Self {
        let spec = StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: Some(policy.into()),
            template: PodTemplateSpec::default(),
            ..Default::default()
        };
        let set = StatefulSet { metadata: meta("web"), spec: Some(spec), status: None };
        Self { set, pods: vec![], update: "r1", made: 0, log: vec![] }
    }

    fn view(&self) -> View<'_> {
        View { set: &self.set, pods: &self.pods, update: self.update }
    }

    /// One round, cut after `steps` steps; pods made are well at the next. False if there was nothing to do.
    fn round(&mut self, steps: usize) -> bool {
        let plan = decide(&self.view(), at(100));
        for step in plan.iter().take(steps) {
            match step {
                Step::Create(ordinal, revision) => {
                    let mut made = new_pod(&self.set, *ordinal, &PodTemplateSpec::default(), revision);
                    let name = made.metadata.name.clone();
                    assert!(self.pods.iter().all(|pod| pod.metadata.name != name), "{name:?} is there");
                    self.made += 1;
                    made.metadata.uid = Some(self.made.to_string());
                    made.status = pod_status();
                    self.pods.push(Arc::new(made));
                    self.log.push(format!("+{ordinal}"));
                }
                Step::Delete(pod) => {
                    self.pods.retain(|other| other.metadata.uid != pod.metadata.uid);
                    let name = pod.metadata.name.clone().unwrap();
                    self.log.push(format!("-{}", name.rsplit('-').next().unwrap()));
                }
            }
        }
        let new = status(&self.view(), at(100));
        let changed = new.is_some();
        if let Some(new) = new {
            self.set.status = Some(new);
        }
        changed || !plan.is_empty()
    }

    fn settle(&mut self, steps: usize) -> String {
        for _ in 0..100 {
            if !self.round(steps) {
                return std::mem::take(&mut self.log).join(" ");
            }
        }
        panic!("does not settle");
    }

    fn spec(&mut self) -> &mut StatefulSetSpec {
        self.set.spec.as_mut().unwrap()
    }

    fn revisions(&self) -> Vec<&str> {
        let mut pods: Vec<&Arc<Pod>> = self.pods.iter().collect();
        pods.sort_by_key(|pod| pod.metadata.name.clone());
        pods.into_iter().map(|pod| revision(pod)).collect()
    }
}

/// Of a pod that is well.
fn pod_status() -> Option<k8s_openapi::api::core::v1::PodStatus> {
    pod("x", None, Some(0)).status
}

#[test]
fn up_and_down_in_order() {
    for steps in [1, usize::MAX] {
        let mut world = World::new(3, "OrderedReady");
        assert_eq!(world.settle(steps), "+0 +1 +2");
        world.spec().replicas = Some(1);
        assert_eq!(world.settle(steps), "-2 -1");
    }
}

#[test]
fn each_waits_for_the_one_before() {
    let mut world = World::new(3, "OrderedReady");
    world.round(9);
    Arc::make_mut(&mut world.pods[0]).status = None;
    assert_eq!(decide(&world.view(), at(100)), []);
}

#[test]
fn none_is_taken_down_while_several_are_unwell() {
    let mut world = World::new(3, "OrderedReady");
    world.settle(usize::MAX);
    world.spec().replicas = Some(0);
    for pod in &mut world.pods {
        Arc::make_mut(pod).status = None;
    }
    assert_eq!(decide(&world.view(), at(100)), []);
    // the first of them goes, as nothing else could mend it
    for pod in &mut world.pods[1..] {
        Arc::make_mut(pod).status = pod_status();
    }
    assert_eq!(world.settle(usize::MAX), "-2 -1 -0");
}

#[test]
fn in_parallel_all_at_once() {
    let mut world = World::new(3, "Parallel");
    assert_eq!(decide(&world.view(), at(100)).len(), 3);
    world.settle(usize::MAX);
    world.spec().replicas = Some(0);
    assert_eq!(decide(&world.view(), at(100)).len(), 3);
}

#[test]
fn updates_come_from_the_last_to_the_first() {
    for steps in [1, usize::MAX] {
        let mut world = World::new(3, "OrderedReady");
        world.settle(steps);
        world.update = "r2";
        assert_eq!(world.settle(steps), "-2 +2 -1 +1 -0 +0");
        let status = world.set.status.clone().unwrap();
        assert_eq!((status.current_revision.as_deref(), status.current_replicas), (Some("r2"), Some(3)));
    }
}

#[test]
fn a_partition_keeps_the_lower_ones_old() {
    let mut world = World::new(3, "OrderedReady");
    world.settle(usize::MAX);
    world.spec().update_strategy = Some(StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy { partition: Some(2), max_unavailable: None }),
    });
    world.update = "r2";
    assert_eq!(world.settle(usize::MAX), "-2 +2");
    // One below the partition that is lost comes back as it was.
    world.pods.retain(|pod| pod.metadata.name.as_deref() != Some("web-0"));
    assert_eq!(world.settle(usize::MAX), "+0");
    assert_eq!(world.revisions(), ["r1", "r1", "r2"]);
}

#[test]
fn on_delete_waits_for_the_user() {
    let mut world = World::new(2, "OrderedReady");
    world.settle(usize::MAX);
    world.spec().update_strategy =
        Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None });
    world.update = "r2";
    assert_eq!(world.settle(usize::MAX), "");
    world.pods.retain(|pod| pod.metadata.name.as_deref() != Some("web-0"));
    world.settle(usize::MAX);
    assert_eq!(world.revisions(), ["r2", "r1"]);
}

#[test]
fn failed_pods_are_made_anew() {
    let mut world = World::new(2, "OrderedReady");
    world.settle(usize::MAX);
    Arc::make_mut(&mut world.pods[0]).status.as_mut().unwrap().phase = Some("Failed".into());
    assert_eq!(world.settle(usize::MAX), "-0 +0");
}

#[test]
fn claims_are_named_after_pods() {
    let mut world = World::new(1, "OrderedReady");
    let template = PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("data".into()), ..Default::default() },
        ..Default::default()
    };
    world.spec().volume_claim_templates = Some(vec![template]);
    let claims = claims(&world.set, 4);
    assert_eq!((claims[0].0.as_str(), claims[0].1.metadata.name.as_deref()), ("data", Some("data-web-4")));
    let pod = new_pod(&world.set, 4, &PodTemplateSpec::default(), "r1");
    let volume = &pod.spec.unwrap().volumes.unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-web-4");
}
