//! A Job and its pods, as the decisions see them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::indexes::{Indexes, parse};
use super::policy::{Verdict, verdict};
use crate::common::{is_finished, phase};

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The wait after a first failure, doubled for each further one.
const BACKOFF: Duration = Duration::from_secs(10);
const BACKOFF_MOST: Duration = Duration::from_secs(600);

pub struct View<'a> {
    pub job: &'a Job,
    /// The Job's own pods.
    pub pods: &'a [Arc<Pod>],
    pub now: Timestamp,
}

impl View<'_> {
    pub fn spec(&self) -> &JobSpec {
        static NONE: std::sync::OnceLock<JobSpec> = std::sync::OnceLock::new();
        self.job.spec.as_ref().unwrap_or_else(|| NONE.get_or_init(JobSpec::default))
    }

    pub fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    pub fn indexed(&self) -> bool {
        self.spec().completion_mode.as_deref() == Some("Indexed")
    }

    pub fn suspended(&self) -> bool {
        self.spec().suspend == Some(true)
    }

    pub fn completions(&self) -> i32 {
        self.spec().completions.unwrap_or(0)
    }

    /// Pods that run, or may yet.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        let active = |pod: &&Arc<Pod>| !is_finished(pod) && pod.metadata.deletion_timestamp.is_none();
        self.pods.iter().filter(active).cloned().collect()
    }

    pub fn terminating(&self) -> i32 {
        let terminating = |pod: &&Arc<Pod>| !is_finished(pod) && pod.metadata.deletion_timestamp.is_some();
        self.pods.iter().filter(terminating).count() as i32
    }

    /// True if only pods that have ended are replaced, not ones that are on their way out.
    pub fn replaces_failed_only(&self) -> bool {
        self.spec().pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// Pods that are on their way out count as failed, for they may never get there; unless the Job waits for that.
    pub fn failed(&self, pod: &Pod) -> bool {
        phase(pod) == "Failed"
            || (!self.replaces_failed_only()
                && pod.metadata.deletion_timestamp.is_some()
                && phase(pod) != "Succeeded")
    }

    pub fn verdict(&self, pod: &Pod) -> Verdict {
        verdict(self.job, pod)
    }

    /// The index of a pod, if it is one the Job has.
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        let index = annotation(pod, INDEX)?.parse().ok()?;
        (0..self.completions()).contains(&index).then_some(index)
    }

    pub fn succeeded_before(&self) -> Indexes {
        parse(self.status().completed_indexes.as_deref().unwrap_or_default(), self.completions())
    }

    pub fn succeeded(&self) -> Indexes {
        let mut all = self.succeeded_before();
        let new = self.pods.iter().filter(|pod| phase(pod) == "Succeeded" && tracked(pod));
        all.extend(new.filter_map(|pod| self.index(pod)));
        all
    }

    /// Indexes that have failed for good; None where the Job does not count by index.
    pub fn failed_indexes(&self) -> Option<Indexes> {
        let limit = self.spec().backoff_limit_per_index?;
        let mut all = parse(self.status().failed_indexes.as_deref().unwrap_or_default(), self.completions());
        for pod in self.pods.iter().filter(|pod| tracked(pod) && self.failed(pod)) {
            let Some(index) = self.index(pod) else { continue };
            let over = number(pod, FAILURES) >= limit && self.verdict(pod) != Verdict::Ignore;
            if over || self.verdict(pod) == Verdict::FailIndex {
                all.insert(index);
            }
        }
        Some(all)
    }

    /// Where the Job counts by index: the last failed pod of each index that is to be tried again. It keeps its
    /// finalizer until the next one is there, which is told its count.
    pub fn last_failed(&self) -> BTreeMap<i32, Arc<Pod>> {
        let mut last = BTreeMap::new();
        let Some(failed) = self.failed_indexes() else { return last };
        let succeeded = self.succeeded();
        let active: Indexes = self.active().iter().filter_map(|pod| self.index(pod)).collect();
        let tries = |pod: &Pod| number(pod, FAILURES) + number(pod, IGNORED);
        for pod in self.pods.iter().filter(|pod| tracked(pod) && self.failed(pod)) {
            let Some(index) = self.index(pod) else { continue };
            if failed.contains(&index) || succeeded.contains(&index) || active.contains(&index) {
                continue;
            }
            let later = last.get(&index).is_none_or(|other: &Arc<Pod>| tries(other) <= tries(pod));
            if later {
                last.insert(index, pod.clone());
            }
        }
        last
    }

    /// How long after the failures since the last success no pod is made.
    pub fn backoff(&self) -> Option<Duration> {
        let ended = |pod: &&Arc<Pod>| phase(pod) == "Succeeded";
        let success = self.pods.iter().filter(ended).map(|pod| self.ended_at(pod)).max();
        let mut failures: Vec<Timestamp> = self
            .pods
            .iter()
            .filter(|pod| self.failed(pod) && phase(pod) != "Succeeded")
            .map(|pod| self.ended_at(pod))
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        failures.sort();
        self.left(failures.len() as i32, *failures.last()?)
    }

    /// How long after `failures`, of which the last was at `last`, no pod is made.
    fn left(&self, failures: i32, last: Timestamp) -> Option<Duration> {
        let wait = BACKOFF.saturating_mul(1u32 << (failures - 1).clamp(0, 10)).min(BACKOFF_MOST);
        let left = SignedDuration::try_from(wait).ok()? - self.now.duration_since(last);
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }

    /// As [`Self::backoff`] for one index, by its last failed pod.
    pub fn index_backoff(&self, last: &Pod) -> Option<Duration> {
        self.left(number(last, FAILURES) + number(last, IGNORED) + 1, self.ended_at(last))
    }

    fn ended_at(&self, pod: &Pod) -> Timestamp {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let ends =
            statuses.filter_map(|s| Some(s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
        let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let condition = crate::common::condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref());
        ends.max().or(deleted).or(condition.map(|time| time.0)).unwrap_or(self.now).min(self.now)
    }
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn number(pod: &Pod, key: &str) -> i32 {
    annotation(pod, key).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// True until the pod has been counted.
pub fn tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}
