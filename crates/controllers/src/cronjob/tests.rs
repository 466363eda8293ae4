use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::decide::{Plan, View, decide};

fn cron(spec: Value, status: Value) -> CronJob {
    let mut whole = json!({"schedule": "0 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let meta =
        json!({"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-01-01T00:30:00Z"});
    serde_json::from_value(json!({"metadata": meta, "spec": whole, "status": status})).unwrap()
}

/// A Job that started at that hour; `end` is the type of its condition.
fn job(name: &str, hour: i64, end: &str) -> Arc<Job> {
    let time = format!("2026-01-01T{hour:02}:00:00Z");
    let conditions = if end.is_empty() { json!([]) } else { json!([{"type": end, "status": "True"}]) };
    let status = json!({"startTime": time, "completionTime": time, "conditions": conditions});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": status})).unwrap(),
    )
}

fn run(cron: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
    let now: Timestamp = now.parse().unwrap();
    decide(&View { cron, jobs, local: &TimeZone::UTC, now })
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.notes.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn a_job_when_its_time_comes() {
    let cron = cron(json!({"timeZone": "Europe/Berlin"}), json!({}));
    let early = run(&cron, &[], "2026-01-01T00:59:00Z");
    assert_eq!((early.create.is_none(), early.again.unwrap().as_secs()), (true, 60));
    let due = run(&cron, &[], "2026-01-01T01:00:01Z");
    let made = due.create.unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("c-29453820"));
    let annotations = made.metadata.annotations.unwrap();
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-01T02:00:00+01:00");
    assert_eq!(made.metadata.labels.unwrap()["a"], "b");
    assert_eq!(due.status.unwrap().last_schedule_time.unwrap().0.to_string(), "2026-01-01T01:00:00Z");
    // Of several that were missed only the latest is made up for.
    let late = run(&cron, &[], "2026-01-01T05:10:00Z").create.unwrap();
    assert_eq!(late.metadata.name.as_deref(), Some("c-29454060"));
}

#[test]
fn too_late_too_many_suspended_or_unreadable() {
    let now = "2026-01-01T05:10:00Z";
    assert!(run(&cron(json!({"startingDeadlineSeconds": 300}), json!({})), &[], now).create.is_none());
    assert!(run(&cron(json!({"startingDeadlineSeconds": 900}), json!({})), &[], now).create.is_some());
    assert!(run(&cron(json!({"suspend": true}), json!({})), &[], now).create.is_none());
    let many = run(&cron(json!({"schedule": "* * * * *"}), json!({})), &[], now);
    assert_eq!(
        (reasons(&many), many.create.as_ref().unwrap().metadata.name.clone().unwrap()),
        (vec!["TooManyMissedTimes"], "c-29454070".into())
    );
    assert_eq!(reasons(&run(&cron(json!({"schedule": "x"}), json!({})), &[], now)), ["UnparseableSchedule"]);
    assert_eq!(reasons(&run(&cron(json!({"timeZone": "Mars"}), json!({})), &[], now)), ["UnknownTimeZone"]);
}

#[test]
fn while_one_is_running() {
    let status =
        json!({"active": [{"name": "one", "uid": "one"}], "lastScheduleTime": "2026-01-01T01:00:00Z"});
    let with = |policy: &str| {
        run(
            &cron(json!({"concurrencyPolicy": policy}), status.clone()),
            &[job("one", 1, "")],
            "2026-01-01T02:00:00Z",
        )
    };
    let forbidden = with("Forbid");
    assert_eq!((forbidden.create.is_none(), reasons(&forbidden)), (true, vec!["JobAlreadyActive"]));
    let replaced = with("Replace");
    assert_eq!((replaced.create.is_some(), replaced.delete.len()), (true, 1));
    let both = with("Allow");
    assert_eq!(
        (both.create.is_some(), both.delete.len(), both.status.unwrap().active.unwrap().len()),
        (true, 0, 1)
    );
}

#[test]
fn history() {
    let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true});
    let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "x", "uid": "x"}]});
    let jobs = [job("b", 2, "Complete"), job("a", 1, "Complete"), job("f", 3, "Failed"), job("r", 4, "")];
    let plan = run(&cron(spec, status), &jobs, "2026-01-01T09:00:00Z");
    let gone: Vec<_> = plan.delete.iter().map(|job| job.metadata.name.clone().unwrap()).collect();
    assert_eq!(gone, ["a", "f"]);
    assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    let status = plan.status.unwrap();
    assert_eq!(status.active, None);
    assert_eq!(status.last_successful_time.unwrap().0.to_string(), "2026-01-01T02:00:00Z");
}
