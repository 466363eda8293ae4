//! Objects and clocks for tests.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        uid: Some(format!("uid-{name}")),
        creation_timestamp: Some(Time(at(0))),
        generation: Some(1),
        ..Default::default()
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// A running pod, ready since `ready` if given.
pub fn pod(name: &str, owner: Option<OwnerReference>, ready: Option<i64>) -> Pod {
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready.is_some() { "True" } else { "False" }.into(),
        last_transition_time: Some(Time(at(ready.unwrap_or(0)))),
        ..Default::default()
    };
    Pod {
        metadata: ObjectMeta {
            labels: Some(labels(&[("app", "a")])),
            owner_references: owner.map(|owner| vec![owner]),
            ..meta(name)
        },
        spec: Some(PodSpec { node_name: Some("n1".into()), ..Default::default() }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            conditions: Some(vec![condition]),
            ..Default::default()
        }),
    }
}
