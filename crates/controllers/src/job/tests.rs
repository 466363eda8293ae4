use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::decide::decide;
use super::view::{FAILURES, FINALIZER, View, annotation, tracked};
use crate::common::test::at;

/// A Job and its pods; what is decided is carried out at once.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    second: i64,
    made: usize,
    events: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut whole =
            json!({"template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let meta = json!({"name": "j", "namespace": "ns", "uid": "j"});
        let job = serde_json::from_value(json!({"metadata": meta, "spec": whole})).unwrap();
        Self { job, pods: Vec::new(), second: 0, made: 0, events: Vec::new() }
    }

    /// Decides until nothing changes; pods that are deleted go at once.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..20 {
            let plan = decide(&View { job: &self.job, pods: &self.pods, now: at(self.second) });
            let idle = plan.delete.is_empty() && plan.create.is_empty() && plan.release.is_empty();
            if idle && plan.status.is_none() {
                return self;
            }
            for pod in plan.create {
                let mut pod = pod;
                self.made += 1;
                pod.metadata.name = Some(format!("p{}", self.made));
                pod.metadata.uid = pod.metadata.name.clone();
                pod.status = serde_json::from_value(json!({"phase": "Running"})).unwrap();
                self.pods.push(Arc::new(pod));
            }
            if let Some(status) = plan.status {
                self.job.status = Some(status);
            }
            self.events.extend(plan.notes.into_iter().map(|(_, reason, _)| reason));
            for pod in &mut self.pods {
                if plan.release.iter().any(|other| other.metadata.uid == pod.metadata.uid) {
                    Arc::make_mut(pod).metadata.finalizers.as_mut().unwrap().retain(|f| f != FINALIZER);
                }
                if plan.delete.iter().any(|other| other.metadata.uid == pod.metadata.uid) {
                    Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(at(self.second)));
                }
            }
            self.pods.retain(|pod| tracked(pod) || pod.metadata.deletion_timestamp.is_none());
        }
        panic!("no end: {:?}", self.job.status);
    }

    fn set(&mut self, name: &str, status: Value) -> &mut Self {
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some(name)).unwrap();
        Arc::make_mut(pod).status = serde_json::from_value(status).unwrap();
        self
    }

    /// Ends a pod now, with that exit code.
    fn end(&mut self, name: &str, code: i32) -> &mut Self {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let ended = json!({"exitCode": code, "finishedAt": at(self.second).to_string()});
        let container = json!({"name": "c", "state": {"terminated": ended}, "image": "", "imageID": "", "ready": false, "restartCount": 0});
        self.set(name, json!({"phase": phase, "containerStatuses": [container]})).settle()
    }

    fn after(&mut self, seconds: i64) -> &mut Self {
        self.second += seconds;
        self.settle()
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    /// Active, succeeded, failed.
    fn counts(&self) -> [i32; 3] {
        let status = self.status();
        [status.active, status.succeeded, status.failed].map(|count| count.unwrap_or(0))
    }

    /// The true conditions, with their reasons.
    fn conditions(&self) -> Vec<String> {
        let all = self.status().conditions.unwrap_or_default();
        all.iter()
            .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.clone().unwrap_or_default()))
            .collect()
    }
}

#[test]
fn runs_to_completion() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 2}));
    assert_eq!(world.settle().counts(), [2, 0, 0]);
    assert!(world.pods.iter().all(|pod| tracked(pod)));
    assert_eq!(world.end("p1", 0).counts(), [2, 1, 0]);
    assert_eq!(world.end("p2", 0).counts(), [1, 2, 0]);
    assert_eq!(world.end("p3", 0).counts(), [0, 3, 0]);
    let done = ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"];
    assert_eq!(world.conditions(), done);
    assert_eq!(world.events, ["Completed"]);
    assert!(world.status().completion_time.is_some() && world.made == 3);
    assert!(world.pods.iter().all(|pod| !tracked(pod)));
}

#[test]
fn failures_wait_longer_and_longer_and_end_it() {
    let mut world = World::new(json!({"completions": 1, "parallelism": 1, "backoffLimit": 2}));
    world.settle().end("p1", 1);
    assert_eq!((world.counts(), world.made), ([0, 0, 1], 1));
    assert_eq!(world.after(9).made, 1);
    assert_eq!(world.after(1).made, 2);
    assert_eq!(world.end("p2", 1).after(19).made, 2);
    assert_eq!(world.after(1).made, 3);
    assert_eq!(world.end("p3", 1).counts(), [0, 0, 3]);
    let failed = ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"];
    assert_eq!(world.conditions(), failed);
    assert_eq!((world.after(1000).made, world.events.clone()), (3, vec!["BackoffLimitExceeded".to_owned()]));
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2, "activeDeadlineSeconds": 10}));
    assert_eq!(world.settle().after(9).counts(), [2, 0, 0]);
    assert_eq!(world.after(1).counts(), [0, 0, 2]);
    assert_eq!(world.conditions(), ["FailureTarget=True DeadlineExceeded", "Failed=True DeadlineExceeded"]);
    assert!(world.pods.is_empty());
}

#[test]
fn suspended_and_resumed() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2}));
    world.settle();
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    assert_eq!((world.settle().counts()[0], world.pods.len()), (0, 0));
    assert_eq!(world.conditions(), ["Suspended=True JobSuspended"]);
    assert!(world.status().start_time.is_none());
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.after(60);
    assert_eq!(world.counts()[0], 2);
    assert_eq!(world.conditions(), ["Suspended=False JobResumed"]);
    assert_eq!(world.events, ["Suspended", "Resumed"]);
}

#[test]
fn each_index_once() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}));
    world.settle();
    let pod = &world.pods[1];
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-1-"));
    assert_eq!(pod.spec.as_ref().unwrap().hostname.as_deref(), Some("j-1"));
    world.end("p2", 0);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1"));
    world.end("p1", 1).after(10);
    world.end("p3", 0).end("p4", 0);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("0-2"));
    assert_eq!(world.counts(), [0, 3, 1]);
    assert_eq!(world.conditions()[1], "Complete=True CompletionsReached");
}

#[test]
fn indexes_fail_on_their_own() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
                      "backoffLimit": i32::MAX});
    let mut world = World::new(spec);
    world.settle().end("p1", 1);
    assert_eq!(world.made, 2, "the index waits, the other runs on");
    world.after(10);
    assert_eq!((world.made, annotation(&world.pods[2], FAILURES)), (3, Some("1")));
    world.end("p3", 1).end("p2", 0);
    let status = world.status();
    assert_eq!(
        (status.failed_indexes.as_deref(), status.completed_indexes.as_deref()),
        (Some("0"), Some("1"))
    );
    assert_eq!(world.conditions(), ["FailureTarget=True FailedIndexes", "Failed=True FailedIndexes"]);
}

#[test]
fn policies() {
    let rule = |action: &str| {
        json!({"completions": 2, "parallelism": 2, "podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]}})
    };
    let mut fails = World::new(rule("FailJob"));
    fails.settle().end("p1", 42);
    assert_eq!(fails.conditions(), ["FailureTarget=True PodFailurePolicy", "Failed=True PodFailurePolicy"]);
    let message = fails.status().conditions.unwrap()[0].message.clone().unwrap();
    assert_eq!(
        message,
        "Container c for pod ns/p1 failed with exit code 42 matching FailJob rule at index 0"
    );
    let mut ignores = World::new(rule("Ignore"));
    assert_eq!(ignores.settle().end("p1", 42).counts(), [1, 0, 0]);

    let enough = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
                        "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]}});
    let mut world = World::new(enough);
    world.settle().end("p2", 0);
    assert_eq!(world.conditions(), ["SuccessCriteriaMet=True SuccessPolicy", "Complete=True SuccessPolicy"]);
    assert_eq!(world.counts(), [0, 1, 0]);
}

#[test]
fn a_queue_of_work_is_done_when_one_is_and_all_have_ended() {
    let mut world = World::new(json!({"parallelism": 2}));
    assert_eq!(world.settle().end("p1", 0).counts(), [1, 1, 0]);
    assert!(world.conditions().is_empty());
    assert_eq!(world.end("p2", 0).counts(), [0, 2, 0]);
    assert_eq!(world.conditions()[1], "Complete=True CompletionsReached");
}
