//! The states of a pod worker. They never go back: a pod that began to terminate does not run again.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::{PodExt, SpecExt};
use crate::status::is_terminal;

/// How far the pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Meant to run.
    Syncing,
    /// Its containers are being stopped.
    Terminating,
    /// Nothing of it runs any more; what it used is being given back.
    Terminated,
    /// Nothing is left to do; only the API object may still be there.
    Finished,
}

/// Why the node itself ends a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub reason: String,
    pub message: String,
    /// Seconds; `None` for what the pod asks for.
    pub grace: Option<i64>,
}

/// One pod's way.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    stage: Stage,
    /// Seconds the containers get; only ever shorter.
    grace: Option<i64>,
    ending: Option<Ending>,
    deleted: bool,
    removed: bool,
}

impl Lifecycle {
    /// A pod seen for the first time; one that has ended already is not begun again.
    pub fn new(pod: &Pod) -> Self {
        let mut new =
            Lifecycle { stage: Stage::Syncing, grace: None, ending: None, deleted: false, removed: false };
        if is_terminal(pod.phase()) {
            new.advance(Stage::Terminating);
        }
        new.observe(pod, false);
        new
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
    /// Deletion was asked for.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }
    /// The object is gone from its source.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    fn advance(&mut self, to: Stage) {
        self.stage = self.stage.max(to);
    }

    fn shorten(&mut self, seconds: i64) {
        let seconds = seconds.max(1);
        self.grace = Some(self.grace.map_or(seconds, |g| g.min(seconds)));
    }

    /// Takes in the newest object, or that it is `removed`. True if the containers are to stop sooner than was said
    /// before (or at all).
    pub fn observe(&mut self, pod: &Pod, removed: bool) -> bool {
        let before = (self.stage.min(Stage::Terminating), self.grace);
        if pod.is_deleted() {
            self.deleted = true;
            self.shorten(
                pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| pod.spec().grace_period()),
            );
            self.advance(Stage::Terminating);
        }
        if removed {
            self.deleted = true;
            self.removed = true;
            // An object that goes before its containers was deleted by force: whoever did that does not wait. A static
            // pod's manifest is simply taken away.
            self.shorten(if pod.is_static() { pod.spec().grace_period() } else { 1 });
            self.advance(Stage::Terminating);
        }
        before != (self.stage.min(Stage::Terminating), self.grace)
    }

    /// The node ends the pod (eviction, deadline, refusal). The first reason stays.
    pub fn end(&mut self, ending: Ending, pod: &Pod) -> bool {
        let grace = ending.grace.unwrap_or_else(|| pod.spec().grace_period());
        let before = (self.stage, self.grace);
        if self.stage == Stage::Syncing && self.ending.is_none() {
            self.ending = Some(ending);
        }
        self.shorten(grace);
        self.advance(Stage::Terminating);
        before != (self.stage, self.grace)
    }

    /// All containers ended by themselves and are not to start again.
    pub fn ran_out(&mut self) {
        self.advance(Stage::Terminating);
    }
    /// Nothing of the pod runs any more.
    pub fn stopped(&mut self) {
        if self.stage == Stage::Terminating {
            self.stage = Stage::Terminated;
        }
    }
    /// Everything the pod used has been given back.
    pub fn cleaned(&mut self) {
        if self.stage == Stage::Terminated {
            self.stage = Stage::Finished;
        }
    }

    /// Seconds the containers get to stop.
    pub fn grace(&self, pod: &Pod) -> i64 {
        self.grace.unwrap_or_else(|| pod.spec().grace_period().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(extra: serde_json::Value) -> Pod {
        let mut value = json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [], "terminationGracePeriodSeconds": 20}});
        for (key, part) in extra.as_object().unwrap() {
            for (k, v) in part.as_object().unwrap() {
                value[key][k] = v.clone();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn deleted(grace: i64) -> Pod {
        pod(
            json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}}),
        )
    }

    #[test]
    fn never_goes_back() {
        let mut life = Lifecycle::new(&pod(json!({})));
        assert_eq!(life.stage(), Stage::Syncing);
        life.cleaned();
        life.stopped();
        assert_eq!(life.stage(), Stage::Syncing, "no step is skipped");
        assert!(life.observe(&deleted(20), false));
        assert!(!life.observe(&deleted(20), false), "nothing new");
        life.observe(&pod(json!({})), false);
        assert_eq!(life.stage(), Stage::Terminating);
        life.stopped();
        life.cleaned();
        life.observe(&deleted(5), false);
        assert_eq!(life.stage(), Stage::Finished);
    }

    #[test]
    fn grace_only_shrinks() {
        let mut life = Lifecycle::new(&pod(json!({})));
        assert_eq!(life.grace(&pod(json!({}))), 20);
        life.observe(&deleted(30), false);
        assert_eq!(life.grace(&deleted(30)), 30);
        assert!(life.observe(&deleted(5), false));
        assert_eq!(life.grace(&deleted(5)), 5);
        assert!(!life.observe(&deleted(60), false));
        assert_eq!(life.grace(&deleted(60)), 5);
        life.observe(&deleted(0), true);
        assert_eq!(life.grace(&deleted(0)), 1, "never none at all");
    }

    #[test]
    fn the_first_ending_stays() {
        let p = pod(json!({}));
        let mut life = Lifecycle::new(&p);
        let ending = |reason: &str| Ending { reason: reason.into(), message: String::new(), grace: Some(1) };
        assert!(life.end(ending("Evicted"), &p));
        assert!(!life.end(ending("DeadlineExceeded"), &p));
        assert_eq!(life.ending().unwrap().reason, "Evicted");
        let done = pod(json!({"status": {"phase": "Succeeded"}}));
        assert_eq!(Lifecycle::new(&done).stage(), Stage::Terminating, "what has ended is not begun again");
    }
}
