//! What happens next to a Job: which pods are made and deleted, what is counted, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;

use super::indexes::Indexes;
use super::policy::{Verdict, succeeded};
use super::status::{self, condition, holds, is_over};
use super::view::{FAILURES, FINALIZER, IGNORED, INDEX, View, number};
use crate::common::{controller_ref, is_ready, pod_from_template};
use crate::replicaset::less_missed;

/// The most pods made or deleted in one go.
const BURST: usize = 500;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub delete: Vec<Arc<Pod>>,
    pub create: Vec<Pod>,
    /// The status to write, if it is not there yet. Comes after the pods, and before `release`.
    pub status: Option<JobStatus>,
    /// Pods that are counted: their finalizer goes.
    pub release: Vec<Arc<Pod>>,
    pub again: Option<Duration>,
    /// Events: warning, reason, message.
    pub notes: Vec<(bool, String, String)>,
}

pub fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let old = view.status();
    let mut new = old.clone();
    if new.start_time.is_none() && !view.suspended() {
        new.start_time = Some(Time(view.now));
    }
    let mut tally = status::count(view, &mut new);
    let active = view.active();
    let mut end = end(view, &new, &tally, &mut plan);
    let going = view.job.metadata.deletion_timestamp.is_some();
    let mut remaining = active.clone();
    match &end {
        Some(_) => {
            plan.delete = active.clone();
            remaining.clear();
        }
        None if !going => {
            manage(view, &tally, &active, &mut plan);
            remaining.retain(|pod| !plan.delete.iter().any(|gone| Arc::ptr_eq(gone, pod)));
            let made = plan.create.len();
            let enough = match view.spec().completions {
                None => tally.succeeded > 0,
                Some(completions) => tally.succeeded >= completions,
            };
            if enough && remaining.is_empty() && made == 0 {
                let message = "Reached expected number of succeeded pods";
                end = Some(condition("SuccessCriteriaMet", "CompletionsReached", message, view.now));
            } else {
                suspension(view, &mut new, &mut plan);
            }
        }
        None => {}
    }
    let deleted = (active.len() - remaining.len()) as i32;
    new.active = nonzero((remaining.len() + plan.create.len()) as i32);
    new.ready = Some(remaining.iter().filter(|pod| is_ready(pod)).count() as i32);
    new.terminating = Some(view.terminating() + deleted);
    plan.release = status::track(view, &mut new, end.as_ref(), &mut tally);
    finish(view, &mut new, end, &mut plan);
    plan.status = (new != old).then_some(new);
    plan
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// Why the Job is at its end, if it is: the condition that says so before the last pods have gone.
fn end(view: &View<'_>, new: &JobStatus, tally: &status::Tally, plan: &mut Plan) -> Option<JobCondition> {
    let spec = view.spec();
    if let Some(met) = holds(new, "SuccessCriteriaMet").or_else(|| holds(new, "FailureTarget")) {
        return Some(met.clone());
    }
    let failure = |reason: &str, message: &str| Some(condition("FailureTarget", reason, message, view.now));
    if spec.pod_failure_policy.is_some() {
        let verdicts = view.pods.iter().filter(|pod| view.failed(pod)).map(|pod| view.verdict(pod));
        if let Some(message) = verdicts.into_iter().find_map(|verdict| match verdict {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        }) {
            return failure("PodFailurePolicy", &message);
        }
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if tally.failed > limit || restarted_too_often(view, limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if let (Some(deadline), Some(start), false) =
        (spec.active_deadline_seconds, new.start_time.as_ref(), view.suspended())
    {
        let left = SignedDuration::from_secs(deadline) - view.now.duration_since(start.0);
        if !left.is_positive() {
            return failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        sooner(&mut plan.again, left.try_into().unwrap_or_default());
    }
    if !view.indexed() {
        return None;
    }
    if let Some(failed) = &tally.failed_indexes {
        if spec.max_failed_indexes.is_some_and(|most| failed.len() > most as usize) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return failure("MaxFailedIndexesExceeded", message);
        }
        if !failed.is_empty() && failed.len() + tally.succeeded_indexes.len() >= view.completions() as usize {
            return failure("FailedIndexes", "Job has failed indexes");
        }
    }
    let message = succeeded(spec.success_policy.as_ref()?, view.completions(), &tally.succeeded_indexes)?;
    Some(condition("SuccessCriteriaMet", "SuccessPolicy", &message, view.now))
}

fn sooner(again: &mut Option<Duration>, wait: Duration) {
    *again = Some(again.map_or(wait, |other| other.min(wait)));
}

/// Where containers are restarted in place, their restarts count as failures.
fn restarted_too_often(view: &View<'_>, limit: i32) -> bool {
    let template = view.spec().template.spec.as_ref();
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|pod| matches!(crate::common::phase(pod), "Running" | "Pending"));
    let restarts: i32 = running.map(|pod| crate::common::restarts(pod)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// Makes pods where some are missing, deletes where some are too many.
fn manage(view: &View<'_>, tally: &status::Tally, active: &[Arc<Pod>], plan: &mut Plan) {
    let spec = view.spec();
    if view.suspended() {
        plan.delete = active.iter().take(BURST).cloned().collect();
        return;
    }
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        None if tally.succeeded > 0 => active.len() as i32,
        None => parallelism,
        Some(completions) => (completions - tally.succeeded).clamp(0, parallelism),
    };
    let surplus = active.len().saturating_sub(wanted.max(0) as usize);
    let mut delete = Vec::new();
    let mut rest = active.to_vec();
    rest.sort_by(|a, b| less_missed(a, b, 0, 0, view.now));
    if view.indexed() {
        // Of pods with the same index, or none, only the last of this order stays.
        let mut kept = Indexes::new();
        rest.reverse();
        rest.retain(|pod| {
            let keep = view.index(pod).is_some_and(|index| !tally.settled(index) && kept.insert(index));
            if !keep {
                delete.push(pod.clone());
            }
            keep
        });
        rest.reverse();
    }
    let more = surplus.saturating_sub(delete.len());
    delete.extend(rest.into_iter().take(more));
    delete.truncate(BURST);
    if !delete.is_empty() {
        plan.delete = delete;
        return;
    }
    let terminating = if view.replaces_failed_only() { view.terminating() } else { 0 };
    let missing = wanted - terminating - active.len() as i32;
    if missing <= 0 {
        return;
    }
    // Failures counted by index hold back their index only.
    if spec.backoff_limit_per_index.is_none()
        && let Some(wait) = view.backoff()
    {
        return sooner(&mut plan.again, wait);
    }
    let missing = (missing as usize).min(BURST);
    if view.indexed() {
        let last = view.last_failed();
        let there: Indexes = view
            .pods
            .iter()
            .filter(|pod| !crate::common::is_finished(pod))
            .filter(|pod| pod.metadata.deletion_timestamp.is_none() || view.replaces_failed_only())
            .filter_map(|pod| view.index(pod))
            .collect();
        let free = (0..view.completions()).filter(|index| !tally.settled(*index) && !there.contains(index));
        for index in free {
            if plan.create.len() == missing {
                break;
            }
            match last.get(&index).and_then(|last| view.index_backoff(last)) {
                Some(wait) => sooner(&mut plan.again, wait),
                None => plan.create.push(indexed_pod(view, index, last.get(&index))),
            }
        }
    } else {
        plan.create = vec![new_pod(view.job); missing];
    }
}

fn new_pod(job: &Job) -> Pod {
    let spec = job.spec.clone().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&spec.template, namespace, controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    pod
}

/// A pod that knows its index by annotation, label, host name and environment.
fn indexed_pod(view: &View<'_>, index: i32, last: Option<&Arc<Pod>>) -> Pod {
    let mut pod = new_pod(view.job);
    let text = index.to_string();
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), text.clone());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), text.clone());
    if view.spec().backoff_limit_per_index.is_some() {
        let (mut failures, mut ignored) =
            last.map_or((0, 0), |pod| (number(pod, FAILURES), number(pod, IGNORED)));
        match last.map(|pod| view.verdict(pod)) {
            None => {}
            Some(Verdict::Ignore) => ignored += 1,
            Some(_) => failures += 1,
        }
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.into(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.into(), ignored.to_string());
        }
    }
    let name = view.job.metadata.name.as_deref().unwrap_or_default();
    let suffix = format!("-{text}-");
    // What the server adds must fit into a label's 63 characters.
    let room = 58usize.saturating_sub(suffix.len()).min(name.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", &name[..room]));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{text}"));
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.name == VARIABLE) {
            let field = ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                ..Default::default()
            };
            env.push(EnvVar {
                name: VARIABLE.into(),
                value_from: Some(EnvVarSource { field_ref: Some(field), ..Default::default() }),
                ..Default::default()
            });
        }
    }
    pod
}

/// The Suspended condition, which is there only after a suspension.
fn suspension(view: &View<'_>, new: &mut JobStatus, plan: &mut Plan) {
    let conditions = new.conditions.get_or_insert_default();
    let old = conditions.iter().position(|condition| condition.type_ == "Suspended");
    let was = old.is_some_and(|place| conditions[place].status == "True");
    let (status, reason, message, event) = match view.suspended() {
        true => ("True", "JobSuspended", "Job suspended", "Suspended"),
        false => ("False", "JobResumed", "Job resumed", "Resumed"),
    };
    if was != view.suspended() {
        let changed =
            JobCondition { status: status.into(), ..condition("Suspended", reason, message, view.now) };
        match old {
            Some(place) => conditions[place] = changed,
            None => conditions.push(changed),
        }
        plan.notes.push((false, event.into(), message.into()));
        new.start_time = (!view.suspended()).then(|| Time(view.now));
    }
    if new.conditions.as_ref().is_some_and(Vec::is_empty) {
        new.conditions = None;
    }
}

/// Puts the end into the status: first what is to come, and when all pods have gone and are counted, that it has.
fn finish(view: &View<'_>, new: &mut JobStatus, end: Option<JobCondition>, plan: &mut Plan) {
    let Some(end) = end else { return };
    if holds(new, &end.type_).is_none() {
        new.conditions.get_or_insert_default().push(end.clone());
    }
    let uncounted = new.uncounted_terminated_pods.as_ref().is_some_and(|uncounted| {
        [&uncounted.failed, &uncounted.succeeded].into_iter().flatten().any(|pods| !pods.is_empty())
    });
    let waits =
        uncounted || !plan.release.is_empty() || new.terminating.unwrap_or(0) > 0 || new.active.is_some();
    if waits || is_over(new) {
        return;
    }
    let (kind, event) = match end.type_.as_str() {
        "SuccessCriteriaMet" => ("Complete", (false, "Completed".to_owned(), "Job completed".to_owned())),
        _ => (
            "Failed",
            (true, end.reason.clone().unwrap_or_default(), end.message.clone().unwrap_or_default()),
        ),
    };
    if kind == "Complete" {
        new.completion_time = Some(Time(view.now));
    }
    let (reason, message) = (end.reason.unwrap_or_default(), end.message.unwrap_or_default());
    new.conditions.get_or_insert_default().push(condition(kind, &reason, &message, view.now));
    plan.notes.push(event);
}
