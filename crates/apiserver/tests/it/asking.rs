//! Servers that this one asks: whose a token is, and who may do what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::config::{Access, AuthorizationWebhook, TokenWebhook};
use apiserver::{Config, User};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::https::Https;
use crate::support::{MAPS, Server, server_with};
use crate::wire::{Wire, until};

/// A server that is asked, and what it was asked.
struct Asked {
    server: Https,
    reviews: Arc<Mutex<Vec<Value>>>,
}

impl Asked {
    async fn start(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let reviews: Arc<Mutex<Vec<Value>>> = Arc::default();
        let theirs = reviews.clone();
        let server = Https::start(move |request| {
            let mut review: Value = serde_json::from_slice(request.body()).unwrap();
            theirs.lock().push(review.clone());
            review["status"] = answer(&review["spec"]);
            http::Response::new(review.to_string())
        });
        Self { server: server.await, reviews }
    }

    fn file(&self, dir: &TempDir, name: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, self.server.kubeconfig("/review")).unwrap();
        path
    }

    fn count(&self) -> usize {
        self.reviews.lock().len()
    }
}

async fn who(wire: &Wire, token: &str) -> (u16, Value) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = wire.send(token, "POST", path, review).await;
    (code, answer["status"]["userInfo"].clone())
}

#[tokio::test]
async fn tokens_are_asked_about() {
    let mut asked = Asked::start(|spec| match spec["token"].as_str().unwrap() {
        "jane" => json!({"authenticated": true, "user": {"username": "jane", "uid": "7", "groups": ["g"],
            "extra": {"example.org/x": ["1", "2"]}}}),
        "elsewhere" => json!({"authenticated": true, "audiences": ["other"], "user": {"username": "joe"}}),
        "expired" => json!({"authenticated": false, "error": "it has expired"}),
        _ => json!({"authenticated": false}),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    for version in ["v1", "v1beta1"] {
        let token_webhook = TokenWebhook {
            config_file: Some(asked.file(&dir, "tokens.yaml")),
            version: version.to_owned(),
            ..Access::default().token_webhook
        };
        let wire = Wire::start(Config {
            access: Access { token_webhook, ..Access::default() },
            ..Config::default()
        })
        .await;
        asked.reviews.lock().clear();
        let (code, user) = who(&wire, "jane").await;
        assert_eq!(
            (code, user),
            (
                201,
                json!({"username": "jane", "uid": "7", "groups": ["g", "system:authenticated"],
                    "extra": {"example.org/x": ["1", "2"]}})
            )
        );
        let issuer = "https://kubernetes.default.svc.cluster.local";
        assert_eq!(
            asked.reviews.lock()[0],
            json!({"kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{version}"), "metadata": {},
                "spec": {"token": "jane", "audiences": [issuer]}, "status": {"user": {}}})
        );
        assert_eq!(who(&wire, "jane").await.0, 201);
        for token in ["elsewhere", "expired", "nobody"] {
            assert_eq!(who(&wire, token).await.0, 401, "{token}");
        }
        let many = asked.count();
        assert_eq!(many, 4, "answers are remembered");
        who(&wire, "nobody").await;
        assert_eq!(asked.count(), many, "also of tokens that nobody knows");
        asked.server.stop();
        assert_eq!(who(&wire, "another").await.0, 401);
        assert_eq!(who(&wire, "jane").await.0, 201);
        asked.server.go().await;
    }
}

/// Says yes to one verb, no to another, and nothing of the rest.
async fn judge() -> Asked {
    Asked::start(|spec| match spec["resourceAttributes"]["verb"].as_str() {
        Some("list") => json!({"allowed": true, "reason": "lists are free"}),
        Some("create") => json!({"allowed": false, "denied": true, "reason": "nothing new"}),
        _ => json!({"allowed": false}),
    })
    .await
}

async fn ask(s: &Server, method: &str, path: &str) -> (u16, String) {
    let user = User::new("jane", &["dev"]);
    let body = if method == "POST" { json!({"kind": "ConfigMap", "apiVersion": "v1"}) } else { Value::Null };
    let (code, answer) = s.send(user, method, path, "application/json", body).await;
    (code, answer["message"].as_str().unwrap_or("").to_owned())
}

#[tokio::test]
async fn a_webhook_may_decide() {
    let (asked, dir) = (judge().await, tempfile::tempdir().unwrap());
    let s = server_with(Config {
        access: Access {
            authorization_modes: vec!["Webhook".to_owned()],
            authorization_webhook: AuthorizationWebhook {
                config_file: Some(asked.file(&dir, "authz.yaml")),
                version: "v1".to_owned(),
                authorized_ttl: Duration::from_secs(300),
                unauthorized_ttl: Duration::ZERO,
            },
            ..Access::default()
        },
        ..Config::default()
    })
    .await;
    assert_eq!(
        ask(&s, "GET", &format!("{MAPS}?fieldSelector=metadata.name%3Da&labelSelector=x")).await.0,
        200
    );
    assert_eq!(
        asked.reviews.lock()[0],
        json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
            "spec": {"user": "jane", "groups": ["dev", "system:authenticated"],
                "resourceAttributes": {"verb": "list", "version": "v1", "resource": "configmaps", "namespace": "default",
                    "name": "a",
                    "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]},
                    "labelSelector": {"requirements": [{"key": "x", "operator": "Exists"}]}}},
            "status": {"allowed": false}})
    );
    ask(&s, "GET", &format!("{MAPS}?fieldSelector=metadata.name%3Da&labelSelector=x")).await;
    assert_eq!(asked.count(), 1, "a yes is remembered");
    let (code, why) = ask(&s, "POST", MAPS).await;
    assert_eq!(code, 403);
    assert!(why.ends_with(": nothing new"), "{why}");
    ask(&s, "POST", MAPS).await;
    assert_eq!(asked.count(), 3, "a no is asked again where it is not kept");
}

fn webhook(name: &str, file: &Path, more: Value) -> Value {
    let mut webhook = json!({"timeout": "3s", "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
        "unauthorizedTTL": "1ms", "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": file}});
    for (key, value) in more.as_object().unwrap() {
        webhook[key] = value.clone();
    }
    json!({"type": "Webhook", "name": name, "webhook": webhook})
}

fn write(dir: &TempDir, authorizers: &[Value]) -> PathBuf {
    let (new, path) = (dir.path().join("new"), dir.path().join("authorization.yaml"));
    let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": authorizers});
    std::fs::write(&new, text.to_string()).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

#[tokio::test]
async fn webhooks_are_asked_in_order_and_by_condition() {
    let (mut first, second) = (judge().await, judge().await);
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (first.file(&dir, "one.yaml"), second.file(&dir, "two.yaml"));
    let rbac = json!({"type": "RBAC", "name": "rbac"});
    let conditions = json!({"failurePolicy": "Deny", "matchConditions": [
        {"expression": "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'"},
        {"expression": "!('system:masters' in request.groups)"},
    ]});
    let file = write(
        &dir,
        &[webhook("one", &one, conditions.clone()), rbac.clone(), webhook("two", &two, json!({}))],
    );
    let access = Access { authorization_config: Some(file), ..Access::default() };
    let s = server_with(Config { access, ..Config::default() }).await;
    let there = "/api/v1/namespaces/kube-system/configmaps";
    assert_eq!(ask(&s, "GET", there).await.0, 200);
    assert_eq!((first.count(), second.count()), (1, 0), "the first one that decides is the last one asked");
    assert_eq!(ask(&s, "GET", MAPS).await.0, 200);
    assert_eq!((first.count(), second.count()), (1, 1), "conditions keep the first one out");
    assert_eq!(ask(&s, "DELETE", &format!("{there}/a")).await.0, 403);
    assert_eq!((first.count(), second.count()), (2, 2), "no opinion is passed on");
    first.server.stop();
    let (code, why) = ask(&s, "DELETE", &format!("{there}/b")).await;
    assert_eq!(code, 403, "{why}");
    assert_eq!(second.count(), 2, "what fails with this policy denies");
    first.server.go().await;

    // what is wrong is not taken; what is right is, without the webhook that was first
    write(&dir, &[webhook("one", &one, json!({"timeout": "31s"}))]);
    write(&dir, &[json!({"type": "Node", "name": "node"}), rbac.clone()]);
    assert_eq!(ask(&s, "GET", MAPS).await.0, 200);
    write(&dir, &[rbac]);
    until("the file is taken", || async {
        let (code, why) = ask(&s, "GET", MAPS).await;
        if code == 403 { Ok(()) } else { Err(format!("{code} {why}")) }
    })
    .await;
}
