//! Counting finished pods in the Job's status.

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

use super::indexes::{Indexes, show};
use super::policy::Verdict;
use super::view::{View, tracked};
use crate::common::phase;

/// The most pods that wait in the status to be counted.
const MOST_UNCOUNTED: usize = 500;

/// What has been reached, with what is not in the status yet.
#[derive(Debug, Default)]
pub struct Tally {
    pub succeeded: i32,
    pub failed: i32,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Option<Indexes>,
}

impl Tally {
    /// True if nothing more is to be done for the index.
    pub fn settled(&self, index: i32) -> bool {
        self.succeeded_indexes.contains(&index)
            || self.failed_indexes.as_ref().is_some_and(|all| all.contains(&index))
    }
}

pub fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition, if it is true.
pub fn holds<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

pub fn is_over(status: &JobStatus) -> bool {
    holds(status, "Complete").is_some() || holds(status, "Failed").is_some()
}

pub fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(is_over)
}

/// Turns uids whose pods have lost their finalizer into counts, and sums up what there is.
pub fn count(view: &View<'_>, new: &mut JobStatus) -> Tally {
    let waiting =
        |uid: &String| view.pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid) && tracked(pod));
    let mut uncounted = new.uncounted_terminated_pods.take().unwrap_or_default();
    let settle = |uids: &mut Option<Vec<String>>, count: &mut Option<i32>, counts: bool| {
        let all = uids.take().unwrap_or_default();
        let (left, gone): (Vec<String>, Vec<String>) = all.into_iter().partition(|uid| waiting(uid));
        if counts && !gone.is_empty() {
            *count = Some(count.unwrap_or(0) + gone.len() as i32);
        }
        *uids = (!left.is_empty()).then_some(left);
    };
    settle(&mut uncounted.succeeded, &mut new.succeeded, !view.indexed());
    settle(&mut uncounted.failed, &mut new.failed, true);
    let listed = |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, Vec::len) as i32;
    let known = |uids: &Option<Vec<String>>, pod: &Pod| {
        uids.iter().flatten().any(|uid| Some(uid) == pod.metadata.uid.as_ref())
    };
    let fresh =
        |pod: &&Arc<Pod>| tracked(pod) && !known(&uncounted.succeeded, pod) && !known(&uncounted.failed, pod);
    let succeeded = view.pods.iter().filter(fresh).filter(|pod| phase(pod) == "Succeeded").count() as i32;
    let failed = view
        .pods
        .iter()
        .filter(fresh)
        .filter(|pod| view.failed(pod) && view.verdict(pod) != Verdict::Ignore)
        .count() as i32;
    let mut tally = Tally {
        succeeded: new.succeeded.unwrap_or(0) + listed(&uncounted.succeeded) + succeeded,
        failed: new.failed.unwrap_or(0) + listed(&uncounted.failed) + failed,
        ..Tally::default()
    };
    if view.indexed() {
        tally.succeeded_indexes = view.succeeded();
        tally.succeeded = tally.succeeded_indexes.len() as i32;
        tally.failed_indexes = view.failed_indexes();
    }
    new.uncounted_terminated_pods = Some(uncounted);
    tally
}

/// Notes finished pods in the status; those whose finalizer can go once it is written.
pub fn track(
    view: &View<'_>,
    new: &mut JobStatus,
    end: Option<&JobCondition>,
    tally: &mut Tally,
) -> Vec<Arc<Pod>> {
    let held = view.last_failed();
    let failed_end = end.is_some_and(|end| end.type_ != "SuccessCriteriaMet");
    let over = view.job.metadata.deletion_timestamp.is_some() || end.is_some();
    let uncounted = new.uncounted_terminated_pods.get_or_insert_default();
    let mut release = Vec::new();
    for pod in view.pods.iter().filter(|pod| tracked(pod)) {
        let failed = view.failed(pod);
        let index = view.index(pod);
        let waits = index.and_then(|index| held.get(&index)).is_some_and(|other| Arc::ptr_eq(other, pod));
        if !(over || phase(pod) == "Succeeded" || (failed && !waits)) {
            continue;
        }
        release.push(pod.clone());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let noted = |uids: &Option<Vec<String>>| uids.iter().flatten().any(|other| *other == uid);
        if phase(pod) == "Succeeded" && !noted(&uncounted.failed) {
            // Indexes are counted by being in the list.
            if !view.indexed() && !noted(&uncounted.succeeded) {
                uncounted.succeeded.get_or_insert_default().push(uid);
            }
        } else if (failed || failed_end) && !noted(&uncounted.failed) {
            let counts = view.verdict(pod) != Verdict::Ignore && (!view.indexed() || index.is_some());
            if counts {
                uncounted.failed.get_or_insert_default().push(uid);
            }
        }
        let waiting = |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, Vec::len);
        if waiting(&uncounted.succeeded) + waiting(&uncounted.failed) >= MOST_UNCOUNTED {
            break;
        }
    }
    if view.indexed() {
        // A pod that is past the most of them is counted next time.
        let counted = |pod: &&Arc<Pod>| phase(pod) == "Succeeded";
        tally.succeeded_indexes = view.succeeded_before();
        tally.succeeded_indexes.extend(release.iter().filter(counted).filter_map(|pod| view.index(pod)));
        let total = tally.succeeded_indexes.len() as i32;
        new.succeeded = (total > 0).then_some(total);
        let text = show(&tally.succeeded_indexes);
        new.completed_indexes = (!text.is_empty()).then_some(text);
        new.failed_indexes = tally.failed_indexes.as_ref().map(show);
    }
    release
}
