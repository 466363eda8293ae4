//! Metrics and the pages about the server itself.

use serde_json::json;

use crate::hook::Hook;
use crate::support::{MAPS, Server, config_map, server};

async fn made(server: &Server, resource: &str, body: serde_json::Value) {
    let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}");
    let (status, answer) = server.post(&path, body).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test]
async fn admission_and_access_are_counted() {
    let server = server().await;
    let hook = Hook::start(|_, review| {
        let uid = review["request"]["uid"].clone();
        let response = json!({"uid": uid, "allowed": false, "status": {"code": 403, "message": "no"}});
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    })
    .await;
    let rules =
        json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}]);
    let condition = json!([{"name": "n", "expression": "object.metadata.name == 'hooked'"}]);
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "c"}, "webhooks": [{"name": "w.x.y",
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": hook.client("/"),
            "rules": rules, "matchConditions": condition}]});
    made(&server, "validatingwebhookconfigurations", webhook).await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "object.metadata.name != 'denied'"}]}});
    made(&server, "validatingadmissionpolicies", policy).await;
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny", "Audit"]}});
    made(&server, "validatingadmissionpolicybindings", binding).await;
    for (name, wanted) in [("fine", 201), ("hooked", 403), ("denied", 422)] {
        let (status, answer) = server.post(MAPS, config_map(name)).await;
        assert_eq!(status, wanted, "{answer}");
    }
    let (_, page) = server.raw("/metrics").await;
    let create = "operation=\"CREATE\"";
    let webhook = format!("name=\"w.x.y\",{create}");
    let policy = "error_type=\"invalid_error\",policy=\"p\",policy_binding=\"b\"";
    for line in [
        format!(
            "apiserver_admission_webhook_request_total{{code=\"403\",{webhook},rejected=\"true\",type=\"validating\"}} 1"
        ),
        format!(
            "apiserver_admission_webhook_rejection_count{{error_type=\"no_error\",{webhook},rejection_code=\"403\",type=\"validating\"}} 1"
        ),
        format!(
            "apiserver_admission_webhook_admission_duration_seconds_count{{{webhook},rejected=\"true\",type=\"validating\"}} 1"
        ),
        format!(
            "apiserver_admission_match_condition_evaluation_seconds_count{{kind=\"webhook\",{webhook},type=\"validating\"}} 2"
        ),
        format!(
            "apiserver_admission_match_condition_exclusions_total{{kind=\"webhook\",{webhook},type=\"validate\"}} 1"
        ),
        format!(
            "apiserver_admission_controller_admission_duration_seconds_count{{name=\"ValidatingAdmissionPolicy\",{create},rejected=\"true\",type=\"validate\"}} 1"
        ),
        format!(
            "apiserver_admission_step_admission_duration_seconds_count{{{create},rejected=\"true\",type=\"validate\"}} 2"
        ),
        format!(
            "apiserver_validating_admission_policy_check_total{{enforcement_action=\"deny\",{policy}}} 1"
        ),
        format!(
            "apiserver_validating_admission_policy_check_total{{enforcement_action=\"audit\",{policy}}} 1"
        ),
        "watch_cache_capacity{group=\"\",resource=\"configmaps\"} 4096".to_owned(),
        "aggregator_unavailable_apiservice{name=\"v1.\"} 0".to_owned(),
        "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"10.96.0.0/16\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|own| own == line), "{line}");
    }
    for start in [
        "authentication_attempts{result=\"success\"} ",
        "authenticated_user_requests{username=\"admin\"} ",
        "authorization_attempts_total{result=\"allowed\"} ",
        "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} ",
        "apiserver_storage_events_received_total{group=\"\",resource=\"configmaps\"} ",
        "version_info{binary=\"1.36.1\",component=\"kube\",emulation=\"1.36\",min_compat=\"1.35\"} 1",
    ] {
        assert!(page.lines().any(|own| own.starts_with(start)), "{start}");
    }
}

#[tokio::test]
async fn pages_tell_how_the_server_is() {
    let server = server().await;
    let (status, page) = server.get("/flagz").await;
    assert_eq!(status, 200);
    assert!(page.as_str().unwrap().starts_with("\napiserver flagz\nWarning: "), "{page}");
    let (_, page) = server.get("/statusz").await;
    let last = page.as_str().unwrap().lines().last().unwrap().to_owned();
    assert!(last.ends_with(" /flagz /healthz /livez /metrics /readyz /statusz /version"), "{last}");
    let (_, refused) = server.raw("/statusz").await;
    assert!(refused.contains("only the following media types are accepted"), "{refused}");
}
