//! Servers that the API server asks, played by a small HTTP server on the loopback: token and authorization webhooks, an
//! OpenID provider's keys; and what is written down and stored meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::{Config, User};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{MAPS, config_map, server_with};

/// A directory that goes away with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("r8s-it-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// Answers every request by a function of path and JSON body; says its URL and counts.
async fn serve(answer: Arc<Answer>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, count) = (answer.clone(), counted.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (answer, count) = (answer.clone(), count.clone());
                async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    let text = answer(&path, &body).to_string();
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from(
                        text,
                    ))))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    (url, count)
}

fn kubeconfig(url: &str) -> String {
    format!(
        "clusters: [{{name: c, cluster: {{server: '{url}/review'}}}}]\ncontexts: [{{name: x, context: {{cluster: c}}}}]\ncurrent-context: x\n"
    )
}

#[tokio::test]
async fn an_authorization_webhook_has_its_say() {
    let dir = Scratch::new("authz");
    let (url, asked) = serve(Arc::new(|_: &str, review: &Value| {
        let spec = &review["spec"];
        let status = match spec["user"].as_str() {
            Some("jane") => json!({"allowed": true}),
            Some("eve") => json!({"allowed": false, "denied": true, "reason": "never"}),
            _ => json!({"allowed": false, "reason": "don't know"}),
        };
        json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": status})
    }))
    .await;
    let mut config = Config::default();
    config.access.authorization_modes = vec!["RBAC".into(), "Webhook".into()];
    config.access.authorization_webhook.config_file = Some(dir.file("k", &kubeconfig(&url)));
    config.access.authorization_webhook.version = "v1".into();
    let s = server_with(config).await;
    let get = |name: &'static str| s.send(User::new(name, &[]), "GET", MAPS, "application/json", Value::Null);
    assert_eq!(get("jane").await.0, 200);
    assert_eq!(get("jane").await.0, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "an answer is remembered");
    let (code, refused) = get("eve").await;
    assert!(code == 403 && refused["message"].as_str().unwrap().ends_with(": never"), "{refused}");
    let (_, refused) = get("bob").await;
    assert!(refused["message"].as_str().unwrap().ends_with(": don't know"), "{refused}");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, rules) = s.send(User::new("bob", &[]), "POST", path, "application/json", review).await;
    assert_eq!(rules["status"]["incomplete"], true);
    assert_eq!(
        rules["status"]["evaluationError"],
        "webhook authorizer does not support user rule resolution"
    );
}

#[tokio::test]
async fn tokens_of_files_and_webhooks_are_reviewed() {
    let dir = Scratch::new("tokens");
    let (url, _) = serve(Arc::new(|_: &str, review: &Value| {
        let status = if review["spec"]["token"] == "good" {
            json!({"authenticated": true, "user": {"username": "w", "groups": ["g"]}})
        } else {
            json!({"authenticated": false, "error": "not one of ours"})
        };
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
    }))
    .await;
    let mut config = Config::default();
    config.access.token_auth_file = Some(dir.file("tokens", "abc,jane,u1,\"dev,ops\"\n"));
    config.access.token_webhook.config_file = Some(dir.file("k", &kubeconfig(&url)));
    config.access.token_webhook.version = "v1".into();
    let s = server_with(config).await;
    let review = async |token: &str| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        s.post("/apis/authentication.k8s.io/v1/tokenreviews", body).await.1["status"].clone()
    };
    let jane = review("abc").await;
    assert_eq!(jane["user"]["username"], "jane");
    assert_eq!(jane["user"]["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!(review("good").await["user"]["username"], "w");
    assert_eq!(review("bad").await["error"], "[invalid bearer token, not one of ours]");
}

#[tokio::test]
async fn requests_are_written_down() {
    let dir = Scratch::new("audit");
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], verbs: [create]}\n- {level: Metadata, resources: [{group: '', resources: [configmaps]}], users: [jane]}\n";
    let mut config = Config::default();
    config.access.audit.policy_file = Some(dir.file("policy.yaml", policy));
    config.access.audit.log_path = Some(dir.path("audit.log"));
    let s = server_with(config).await;
    assert_eq!(s.post(MAPS, config_map("a")).await.0, 201);
    assert_eq!(s.send(User::new("jane", &["g"]), "GET", MAPS, "application/json", Value::Null).await.0, 403);
    let text = std::fs::read_to_string(dir.path("audit.log")).unwrap();
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.len(), 2, "{text}");
    assert_eq!(events[0]["requestObject"]["data"], json!({"a": "1"}));
    assert_eq!(events[0]["responseObject"]["metadata"]["name"], "a");
    assert_eq!(events[0]["objectRef"]["name"], "a");
    assert_eq!(events[0]["responseStatus"]["code"], 201);
    assert_eq!(events[1]["user"]["username"], "jane");
    assert_eq!(events[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[1]["responseStatus"]["reason"], "Forbidden");
    assert!(events[1].get("responseObject").is_none());
}

fn encryption(providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [configmaps]\n  providers: [{providers}]\n"
    )
}

fn key(name: &str) -> String {
    use base64::Engine;
    let secret = base64::engine::general_purpose::STANDARD.encode([name.as_bytes()[0]; 32]);
    format!("{{aescbc: {{keys: [{{name: {name}, secret: {secret}}}]}}}}")
}

#[tokio::test]
async fn objects_are_stored_enciphered_and_keys_rotate() {
    let dir = Scratch::new("encryption");
    let store = Arc::new(store::memory::Memory::new());
    let start = async |providers: String| {
        let mut config = Config::default();
        config.access.encryption_config = Some(dir.file("e.yaml", &encryption(&providers)));
        apiserver::ApiServer::start(config, store.clone()).await.map(|api| crate::support::Server { api })
    };
    let stored = async || {
        use store::Store;
        let key = store::KeyRange::key("/registry/configmaps/default/a");
        store.range(store::RangeRequest::new(key)).await.unwrap().kvs[0].value.to_vec()
    };
    let path = format!("{MAPS}/a");
    let first = start(key("k1")).await.unwrap();
    assert_eq!(first.post(MAPS, config_map("a")).await.0, 201);
    assert!(stored().await.starts_with(b"k8s:enc:aescbc:v1:k1:"));
    assert_eq!(first.get(&path).await.1["data"]["a"], "1");
    drop(first);
    let rotated = start(format!("{}, {}", key("n2"), key("k1"))).await.unwrap();
    let (_, object) = rotated.get(&path).await;
    assert_eq!(object["data"]["a"], "1");
    assert_eq!(rotated.put(&path, object).await.0, 200);
    assert!(
        stored().await.starts_with(b"k8s:enc:aescbc:v1:n2:"),
        "a write of nothing new renews what is stored"
    );
    drop(rotated);
    let lost = start(key("x")).await.unwrap();
    let (code, status) = lost.get(&path).await;
    assert_eq!(code, 500);
    assert!(status["message"].as_str().unwrap().contains("no matching key was found"), "{status}");
    assert_eq!(lost.get(MAPS).await.0, 500);
    assert_eq!(lost.get("/api/v1/namespaces/default/secrets").await.0, 200);
    let bad =
        start("{aescbc: {keys: [{name: a, secret: AAAA}]}}".to_owned()).await.err().unwrap().to_string();
    assert!(bad.contains("resources[0].providers[0].aescbc.keys[0].secret"), "{bad}");
}
