use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::decide::{Decision, View, decide};
use crate::common::test::{at, pod};

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    serde_json::from_value(
        json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status}),
    )
    .unwrap()
}

fn pods(ready: usize, not_ready: usize) -> Vec<Arc<Pod>> {
    let owner = OwnerReference { uid: "set".into(), controller: Some(true), ..Default::default() };
    let of = |n: usize, ready| Arc::new(pod(&format!("p{n}"), Some(owner.clone()), ready));
    (0..ready).map(|n| of(n, Some(0))).chain((0..not_ready).map(|n| of(ready + n, None))).collect()
}

fn run(spec: Value, status: Value, pods: &[Arc<Pod>], scale: Result<i32, String>) -> Decision {
    let scales = HashMap::from([("set".to_owned(), scale)]);
    decide(&View { budget: &budget(spec, status), pods, scales: &scales }, at(100))
}

/// Allowed, healthy, desired, expected.
fn counts(decision: &Decision) -> [i32; 4] {
    let s = &decision.status;
    [s.disruptions_allowed, s.current_healthy, s.desired_healthy, s.expected_pods].map(Option::unwrap)
}

#[test]
fn numbers_and_shares() {
    let cases = [
        (json!({"minAvailable": 2}), [1, 3, 2, 4]),
        (json!({"minAvailable": "50%"}), [0, 3, 3, 5]),
        (json!({"maxUnavailable": 1}), [0, 3, 4, 5]),
        (json!({"maxUnavailable": "30%"}), [0, 3, 3, 5]),
        (json!({"maxUnavailable": "100%"}), [3, 3, 0, 5]),
        (json!({"maxUnavailable": 9}), [3, 3, 0, 5]),
    ];
    for (spec, expected) in cases {
        let decision = run(spec.clone(), json!({}), &pods(3, 1), Ok(5));
        assert_eq!(counts(&decision), expected, "{spec}");
        let condition = &decision.status.conditions.as_ref().unwrap()[0];
        let sufficient = expected[0] > 0;
        assert_eq!(condition.status == "True", sufficient);
        assert_eq!(condition.reason, if sufficient { "SufficientPods" } else { "InsufficientPods" });
    }
}

#[test]
fn evictions_under_way_count_until_they_are_too_old() {
    let status = |second: i64| {
        let time = at(second).to_string();
        json!({"disruptedPods": {"p0": time, "gone": time},
               "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
    };
    let fresh = run(json!({"minAvailable": 1}), status(70), &pods(3, 0), Ok(3));
    assert_eq!(counts(&fresh), [1, 2, 1, 3]);
    assert_eq!(fresh.status.disrupted_pods.unwrap().keys().collect::<Vec<_>>(), ["p0"]);
    assert_eq!(fresh.again.unwrap().as_secs(), 90);
    let old = run(json!({"minAvailable": 1}), status(-30), &pods(3, 0), Ok(3));
    assert_eq!((counts(&old), old.again), ([2, 3, 1, 3], None));
}

#[test]
fn what_cannot_be_counted_is_not_disrupted() {
    let failed = run(json!({"maxUnavailable": 1}), json!({}), &pods(3, 0), Err("no scale".into()));
    assert_eq!(failed.status.disruptions_allowed, Some(0));
    assert_eq!(failed.status.conditions.unwrap()[0].reason, "SyncFailed");
    let lone = [Arc::new(pod("p", None, Some(0)))];
    let unmanaged = run(json!({"maxUnavailable": 1}), json!({}), &lone, Ok(0));
    assert!(unmanaged.unmanaged && unmanaged.status.disruptions_allowed == Some(0));
    assert!(!run(json!({"minAvailable": 0}), json!({}), &lone, Ok(0)).unmanaged);
}
