use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use super::decide::{Kind, counted, decide};

fn quota(spec: Value, status: Value) -> ResourceQuota {
    serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec, "status": status})).unwrap()
}

fn core(plural: &str) -> Kind {
    (String::new(), plural.to_owned())
}

fn pod(cpu: &str, phase: &str) -> Value {
    let resources = json!({"requests": {"cpu": cpu, "example.org/x": "1"}});
    json!({"spec": {"containers": [{"name": "c", "resources": resources}]}, "status": {"phase": phase}})
}

#[test]
fn names() {
    let cases = [
        ("pods", core("pods")),
        ("requests.cpu", core("pods")),
        ("limits.memory", core("pods")),
        ("requests.storage", core("persistentvolumeclaims")),
        ("fast.storageclass.storage.k8s.io/requests.storage", core("persistentvolumeclaims")),
        ("services.nodeports", core("services")),
        ("count/deployments.apps", ("apps".into(), "deployments".into())),
        ("count/secrets", core("secrets")),
    ];
    for (name, kind) in cases {
        assert_eq!(counted(name), Some(kind), "{name}");
    }
    assert_eq!(counted("nonsense"), None);
}

#[test]
fn finished_pods_count_as_objects_only() {
    let hard =
        json!({"pods": "10", "cpu": "4", "requests.example.org/x": "5", "count/pods": "10", "secrets": "3"});
    let objects = [
        (core("pods"), vec![pod("500m", "Running"), pod("1", "Pending"), pod("2", "Succeeded")]),
        (core("secrets"), vec![json!({}), json!({})]),
    ];
    let status = decide(&quota(json!({"hard": hard}), json!({})), &objects).unwrap();
    let used = serde_json::to_value(status.used).unwrap();
    let expected = json!({"pods": "2", "cpu": "1500m", "requests.example.org/x": "2", "count/pods": "3", "secrets": "2"});
    assert_eq!(used, expected);
    let settled = json!({"hard": hard, "used": used});
    assert_eq!(decide(&quota(json!({"hard": hard}), settled), &objects), None);
}

#[test]
fn scopes() {
    let hard = json!({"pods": "10"});
    let used = |spec: Value| {
        let objects =
            [(core("pods"), vec![pod("1", "Running"), json!({"spec": {"containers": [{"name": "c"}]}})])];
        let status = decide(&quota(spec, json!({})), &objects).unwrap();
        status.used.unwrap()["pods"].0.clone()
    };
    assert_eq!(used(json!({"hard": hard})), "2");
    assert_eq!(used(json!({"hard": hard, "scopes": ["BestEffort"]})), "1");
    assert_eq!(used(json!({"hard": hard, "scopes": ["Terminating"]})), "0");
}
