//! One round of a Deployment: the writes that can be made from what is known now.
//!
//! Where a write's outcome matters for the next decision the round ends with it; the change it makes brings the
//! next round.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;

use super::revision::{
    DESIRED_REPLICAS, REVISION, ROLLBACK_TO, annotate, annotation, by_age, by_revision, count_annotation,
    is_own, new_replica_set, revision, same_template, set_size_annotations, template,
};
use super::scale::{
    is_recreate, new_set_size, replicas, resize, scale_down_old, scale_proportionally, wanted,
};
use super::status::{
    NEW_SET_CREATED, NEW_SET_FOUND, PAUSED, PROGRESSING, RESUMED, TIMED_OUT, condition, counts, deadline,
    is_complete, new_condition, next_check, rollout, set_condition,
};
use crate::common::{is_controlled_by, is_finished, matches};

pub(super) struct View<'a> {
    pub deployment: &'a Deployment,
    /// The Deployment's own ReplicaSets and the namespace's without controller.
    pub sets: &'a [Arc<ReplicaSet>],
    /// The pods of its own ReplicaSets.
    pub pods: &'a [Arc<Pod>],
}

/// A write, or an Event about the Deployment.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    /// If it cannot be created the rest of the plan does not hold.
    Create(Box<ReplicaSet>),
    Update(Box<ReplicaSet>),
    Delete(Box<ReplicaSet>),
    /// Template and annotations change: a rollback.
    UpdateDeployment(Box<Deployment>),
    /// Status and, as upstream does it, the revision annotation.
    UpdateStatus(Box<Deployment>),
    Event {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    pub again: Option<Duration>,
}

/// What a round works on: copies that take on the planned changes.
struct Round {
    deployment: Deployment,
    /// Status and revision as they were read.
    read: DeploymentStatus,
    read_revision: Option<String>,
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
    steps: Vec<Step>,
}

pub(super) fn decide(view: &View<'_>, now: Timestamp) -> Plan {
    let deployment = view.deployment;
    let Some(spec) = &deployment.spec else { return Plan::default() };
    if is_empty(&spec.selector) {
        return selects_all(deployment);
    }
    let (owned, claims) = claim(view);
    if !claims.is_empty() {
        return Plan { steps: claims, again: None };
    }
    let mut round = Round::new(deployment, owned);
    if deployment.metadata.deletion_timestamp.is_some() {
        return round.end(false, now);
    }
    round.note_pause(now);
    if spec.paused != Some(true) {
        if let Some(to) = annotation(&deployment.metadata, ROLLBACK_TO) {
            return round.roll_back(to);
        }
        if !round.was_scaled() {
            return if is_recreate(deployment) { round.recreate(view.pods, now) } else { round.roll(now) };
        }
    }
    if round.keep_new_set(now) {
        return round.plan();
    }
    round.scale();
    if spec.paused == Some(true) {
        round.clean_up();
    }
    round.end(false, now)
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}

fn selects_all(deployment: &Deployment) -> Plan {
    let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
    let mut steps = vec![Step::Event { warning: true, reason: "SelectingAll", message }];
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    if observed < deployment.metadata.generation.unwrap_or(0) {
        let mut deployment = deployment.clone();
        deployment.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
        steps.push(Step::UpdateStatus(Box::new(deployment)));
    }
    Plan { steps, again: None }
}

/// The ReplicaSets that are ours, and the steps that make others ours or no longer so.
fn claim(view: &View<'_>) -> (Vec<ReplicaSet>, Vec<Step>) {
    let (mut owned, mut steps) = (Vec::new(), Vec::new());
    let deployment = view.deployment;
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    for set in view.sets {
        let selected = matches(&selector, set.metadata.labels.as_ref());
        match (is_controlled_by(&set.metadata, uid), selected) {
            (true, true) => owned.push((**set).clone()),
            (true, false) => steps.push(Step::Release(set.clone())),
            (false, true) => {
                if deployment.metadata.deletion_timestamp.is_none()
                    && set.metadata.deletion_timestamp.is_none()
                {
                    steps.push(Step::Adopt(set.clone()));
                }
            }
            (false, false) => {}
        }
    }
    (owned, steps)
}

impl Round {
    fn new(deployment: &Deployment, mut sets: Vec<ReplicaSet>) -> Self {
        let wanted = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        // Of several with the same template the oldest is the new one.
        sets.sort_by(by_age);
        let new = sets.iter().position(|set| same_template(&template(set), &wanted)).map(|n| sets.remove(n));
        Self {
            read: deployment.status.clone().unwrap_or_default(),
            read_revision: annotation(&deployment.metadata, REVISION).map(str::to_owned),
            deployment: deployment.clone(),
            new,
            old: sets,
            steps: Vec::new(),
        }
    }

    fn status(&mut self) -> &mut DeploymentStatus {
        self.deployment.status.get_or_insert_default()
    }

    fn all(&self) -> Vec<ReplicaSet> {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    fn new_revision(&self) -> i64 {
        self.old.iter().map(revision).max().unwrap_or(0) + 1
    }

    /// So that the time spent paused does not count as standing still.
    fn note_pause(&mut self, now: Timestamp) {
        if deadline(&self.deployment).is_none() {
            return;
        }
        let paused = self.deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
        let current = condition(&self.read, PROGRESSING).and_then(|c| c.reason.clone());
        let (reason, message) = match (paused, current.as_deref()) {
            (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => return,
            (true, _) => (PAUSED, "Deployment is paused"),
            (false, Some(PAUSED)) => (RESUMED, "Deployment is resumed"),
            (false, _) => return,
        };
        let new = new_condition(PROGRESSING, "Unknown", reason, message.into(), now);
        set_condition(self.status(), new);
    }

    /// The Deployment's size has changed since the sets in use were told.
    fn was_scaled(&self) -> bool {
        let wanted = wanted(&self.deployment);
        self.old
            .iter()
            .chain(&self.new)
            .filter(|set| replicas(set) > 0)
            .any(|set| count_annotation(set, DESIRED_REPLICAS).is_some_and(|desired| desired != wanted))
    }

    /// Keeps the new set's annotations, and the Deployment's revision. True if the set must be written first.
    fn keep_new_set(&mut self, now: Timestamp) -> bool {
        let new_revision = self.new_revision();
        let Some(new) = &mut self.new else { return false };
        let annotated = annotate(&self.deployment, new, new_revision);
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let spec = new.spec.get_or_insert_default();
        if annotated || spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
            spec.min_ready_seconds = min_ready;
            self.steps.push(Step::Update(Box::new(new.clone())));
            return true;
        }
        let revision = annotation(&new.metadata, REVISION).unwrap_or_default().to_owned();
        let name = new.metadata.name.clone().unwrap_or_default();
        self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
        if deadline(&self.deployment).is_some() && condition(self.status(), PROGRESSING).is_none() {
            let message = format!("Found new replica set {name:?}");
            let found = new_condition(PROGRESSING, "True", NEW_SET_FOUND, message, now);
            set_condition(self.status(), found);
        }
        false
    }

    /// Plans the new set where there is none.
    fn make_new_set(&mut self, now: Timestamp) {
        let new_revision = self.new_revision();
        let mut set = new_replica_set(&self.deployment, new_revision);
        let total = self.old.iter().map(replicas).sum();
        resize(&mut set, new_set_size(&self.deployment, 0, total));
        let name = set.metadata.name.clone().unwrap_or_default();
        let size = replicas(&set);
        self.steps.push(Step::Create(Box::new(set.clone())));
        if size > 0 {
            self.scaling_event(&name, 0, size);
        }
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.into(), new_revision.to_string());
        if deadline(&self.deployment).is_some() {
            let message = format!("Created new replica set {name:?}");
            let created = new_condition(PROGRESSING, "True", NEW_SET_CREATED, message, now);
            set_condition(self.status(), created);
        }
        self.new = Some(set);
    }

    fn roll(mut self, now: Timestamp) -> Plan {
        if self.keep_new_set(now) {
            return self.plan();
        }
        if self.new.is_none() {
            self.make_new_set(now);
            return self.end(true, now);
        }
        let before = self.all();
        let total = before.iter().map(replicas).sum();
        if let Some(new) = &mut self.new {
            let size = new_set_size(&self.deployment, replicas(new), total);
            if size != replicas(new) {
                resize(new, size);
                self.write_sizes(&before, false);
                return self.end(true, now);
            }
            scale_down_old(&self.deployment, &mut self.old, new);
        }
        self.write_sizes(&before, false);
        if self.steps.is_empty() && is_complete(&self.deployment, &self.read) {
            self.clean_up();
        }
        self.end(true, now)
    }

    fn recreate(mut self, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
        if self.keep_new_set(now) {
            return self.plan();
        }
        let before = self.all();
        self.old.iter_mut().for_each(|set| resize(set, 0));
        self.write_sizes(&before, false);
        if !self.steps.is_empty() || self.old_pods_run(pods) {
            return self.end(true, now);
        }
        if self.new.is_none() {
            self.make_new_set(now);
            return self.end(true, now);
        }
        let wanted = wanted(&self.deployment);
        self.new.iter_mut().for_each(|set| resize(set, wanted));
        self.write_sizes(&before, false);
        if self.steps.is_empty() && is_complete(&self.deployment, &self.read) {
            self.clean_up();
        }
        self.end(true, now)
    }

    fn old_pods_run(&self, pods: &[Arc<Pod>]) -> bool {
        let told = self.old.iter().any(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0));
        let new = self.new.as_ref().and_then(|set| set.metadata.uid.as_deref());
        told || pods
            .iter()
            .any(|pod| !is_finished(pod) && !new.is_some_and(|uid| is_controlled_by(&pod.metadata, uid)))
    }

    fn scale(&mut self) {
        let before = self.all();
        let mut sets = before.clone();
        let new = self.new.is_some().then(|| sets.len() - 1);
        scale_proportionally(&self.deployment, &mut sets, new);
        self.new = new.and_then(|_| sets.pop());
        self.old = sets;
        // The sets in use are told the new size even where theirs stays: else the next round would scale again.
        self.write_sizes(&before, true);
    }

    /// Updates of the sets whose size has changed from `before` (`told`: or who do not know the Deployment's size).
    fn write_sizes(&mut self, before: &[ReplicaSet], told: bool) {
        let deployment = self.deployment.clone();
        let mut events = Vec::new();
        for set in self.old.iter_mut().chain(&mut self.new) {
            let name = set.metadata.name.clone().unwrap_or_default();
            let Some(was) = before.iter().find(|other| other.metadata.name == set.metadata.name) else {
                continue;
            };
            let (from, to) = (replicas(was), replicas(set));
            if from == to && !(told && to > 0) {
                continue;
            }
            let annotated = set_size_annotations(&deployment, set);
            if from != to || annotated {
                self.steps.push(Step::Update(Box::new(set.clone())));
            }
            if from != to {
                events.push((name, from, to));
            }
        }
        for (name, from, to) in events {
            self.scaling_event(&name, from, to);
        }
    }

    fn scaling_event(&mut self, name: &str, from: i32, to: i32) {
        let way = if from < to { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {from} to {to}");
        self.steps.push(Step::Event { warning: false, reason: "ScalingReplicaSet", message });
    }

    /// Deletes the oldest sets beyond the history limit.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut sets: Vec<&ReplicaSet> =
            self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        sets.sort_by(|a, b| by_revision(a, b));
        let surplus = sets.len().saturating_sub(limit.max(0) as usize);
        for set in sets.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let settled = set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
            if status.replicas == 0 && replicas(set) == 0 && settled {
                self.steps.push(Step::Delete(Box::new(set.clone())));
            }
        }
    }

    fn roll_back(mut self, to: &str) -> Plan {
        let mut sets = self.all();
        sets.sort_by(by_revision);
        let current = self.new.as_ref().map_or(0, revision);
        let to = match to.parse::<i64>() {
            // 0 is the revision before this.
            Ok(0) => sets.iter().map(revision).filter(|r| *r != current).max().unwrap_or(0),
            Ok(number) => number,
            Err(_) => 0,
        };
        let event = |warning, reason, message| Step::Event { warning, reason, message };
        let step = match sets.iter().find(|set| to != 0 && revision(set) == to) {
            None if to == 0 => {
                event(true, "DeploymentRollbackRevisionNotFound", "Unable to find last revision.".into())
            }
            None => {
                let message = "Unable to find the revision to rollback to.".to_owned();
                event(true, "DeploymentRollbackRevisionNotFound", message)
            }
            Some(set) if self.is_current(set) => {
                let message = format!(
                    "The rollback revision contains the same template as current deployment {:?}",
                    self.name()
                );
                event(true, "DeploymentRollbackTemplateUnchanged", message)
            }
            Some(set) => {
                let (template, annotations) = (template(set), set.metadata.annotations.clone());
                self.take_over(template, annotations.unwrap_or_default());
                let message = format!("Rolled back deployment {:?} to revision {to}", self.name());
                event(false, "DeploymentRollback", message)
            }
        };
        if let Some(annotations) = &mut self.deployment.metadata.annotations {
            annotations.remove(ROLLBACK_TO);
        }
        Plan { steps: vec![Step::UpdateDeployment(Box::new(self.deployment)), step], again: None }
    }

    fn name(&self) -> &str {
        self.deployment.metadata.name.as_deref().unwrap_or_default()
    }

    fn is_current(&self, set: &ReplicaSet) -> bool {
        self.deployment.spec.as_ref().is_some_and(|spec| same_template(&spec.template, &template(set)))
    }

    fn take_over(
        &mut self,
        mut template: k8s_openapi::api::core::v1::PodTemplateSpec,
        from: std::collections::BTreeMap<String, String>,
    ) {
        if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
            labels.remove(super::revision::HASH_LABEL);
        }
        self.deployment.spec.get_or_insert_default().template = template;
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        annotations.retain(|key, _| is_own(key));
        annotations.extend(from.into_iter().filter(|(key, _)| !is_own(key)));
    }

    fn plan(self) -> Plan {
        Plan { steps: self.steps, again: None }
    }

    /// Ends the round with the status that follows from it.
    fn end(mut self, rolling: bool, now: Timestamp) -> Plan {
        let sets = self.all();
        let conditions = self.deployment.status.clone().unwrap_or_default();
        // Progress is measured against what was read.
        let mut basis = self.deployment.clone();
        basis.status = Some(self.read.clone());
        let make = if rolling { rollout } else { counts };
        let status = make(&basis, &conditions, &sets, self.new.as_ref(), now);
        let again = if rolling { next_check(&basis, &status, now) } else { None };
        let revision = annotation(&self.deployment.metadata, REVISION).map(str::to_owned);
        self.deployment.status = Some(status.clone());
        if !same(&self.read, &status) || self.read_revision != revision {
            self.steps.push(Step::UpdateStatus(Box::new(self.deployment)));
        }
        Plan { steps: self.steps, again }
    }
}

/// Absent and empty conditions mean the same.
fn same(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let plain = |status: &DeploymentStatus| {
        let mut status = status.clone();
        status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
        status.collision_count = status.collision_count.filter(|count| *count != 0);
        for count in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
        ] {
            *count = count.filter(|count| *count != 0);
        }
        status
    };
    plain(a) == plain(b)
}
