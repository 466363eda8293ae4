//! The audit log and the audit webhook of a running server.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::config::{Access, AuditMode, AuditSettings, Delivery, Truncate};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::https::Https;
use crate::support::{MAPS, Server, config_map, server_with};
use crate::wire::until;

/// A receiver of events, which may refuse them.
struct Receiver {
    server: Https,
    lists: Arc<Mutex<Vec<Value>>>,
    refuses: Arc<Mutex<u16>>,
}

impl Receiver {
    async fn start() -> Self {
        let lists: Arc<Mutex<Vec<Value>>> = Arc::default();
        let refuses: Arc<Mutex<u16>> = Arc::default();
        let (theirs, no) = (lists.clone(), refuses.clone());
        let server = Https::start(move |request| {
            let mut answer = http::Response::new(String::new());
            match *no.lock() {
                0 => theirs.lock().push(serde_json::from_slice(request.body()).unwrap()),
                code => *answer.status_mut() = http::StatusCode::from_u16(code).unwrap(),
            }
            answer
        });
        Self { server: server.await, lists, refuses }
    }

    fn events(&self) -> Vec<Value> {
        let lists = self.lists.lock();
        lists.iter().flat_map(|list| list["items"].as_array().unwrap().clone()).collect()
    }

    /// Events of writes to that ConfigMap.
    fn of(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|e| e["objectRef"]["name"] == name).collect()
    }

    async fn wait_for(&self, name: &str, count: usize) -> Vec<Value> {
        until("events are delivered", || async {
            let found = self.of(name);
            if found.len() >= count { Ok(found) } else { Err(format!("{} of {count}", found.len())) }
        })
        .await
    }
}

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
    - {level: RequestResponse, resources: [{group: '', resources: [configmaps]}]}\n";

fn settings(dir: &TempDir, policy: &str) -> AuditSettings {
    let path = dir.path().join("policy.yaml");
    std::fs::write(&path, policy).unwrap();
    AuditSettings { policy_file: Some(path), ..AuditSettings::default() }
}

async fn with_webhook(receiver: &Receiver, dir: &TempDir, delivery: Delivery) -> Server {
    let file = dir.path().join("webhook.yaml");
    std::fs::write(&file, receiver.server.kubeconfig("/audit")).unwrap();
    start(AuditSettings {
        webhook_config_file: Some(file),
        webhook_delivery: delivery,
        webhook_initial_backoff: Duration::from_millis(50),
        ..settings(dir, POLICY)
    })
    .await
}

async fn start(audit: AuditSettings) -> Server {
    server_with(Config { access: Access { audit, ..Access::default() }, ..Config::default() }).await
}

fn batches(batch: usize, wait: Duration) -> Delivery {
    Delivery { batch, wait, ..AuditSettings::default().webhook_delivery }
}

#[tokio::test]
async fn events_go_in_batches() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let s = with_webhook(&receiver, &dir, batches(3, Duration::from_secs(600))).await;
    s.post(MAPS, config_map("a")).await;
    s.post(MAPS, config_map("a")).await;
    assert!(receiver.events().is_empty(), "a batch is full or old before it is sent");
    s.get(&format!("{MAPS}/a")).await;
    let found = receiver.wait_for("a", 3).await;
    assert_eq!(receiver.lists.lock()[0]["kind"], "EventList");
    assert_eq!(receiver.lists.lock()[0]["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(found[0]["verb"], "create");
    assert_eq!(found[0]["requestObject"]["data"], json!({"a": "1"}));
    assert_eq!(found[0]["responseObject"]["kind"], "ConfigMap");
    assert_eq!(found[1]["responseStatus"]["reason"], "AlreadyExists");
    assert_eq!(found[2]["verb"], "get");
}

#[tokio::test]
async fn a_batch_waits_only_so_long() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let s = with_webhook(&receiver, &dir, batches(400, Duration::from_millis(20))).await;
    s.post(MAPS, config_map("a")).await;
    receiver.wait_for("a", 1).await;
}

#[tokio::test]
async fn events_wait_for_a_receiver() {
    let (mut receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    receiver.server.stop();
    let s = with_webhook(&receiver, &dir, batches(1, Duration::from_secs(600))).await;
    s.post(MAPS, config_map("a")).await;
    receiver.server.go().await;
    receiver.wait_for("a", 1).await;
    // whatever it says, it is asked again
    *receiver.refuses.lock() = 403;
    s.post(MAPS, config_map("b")).await;
    *receiver.refuses.lock() = 0;
    receiver.wait_for("b", 1).await;
}

#[tokio::test]
async fn requests_wait_for_their_events() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let usual = AuditSettings::default().webhook_delivery;
    let s = with_webhook(&receiver, &dir, Delivery { mode: AuditMode::Blocking, ..usual }).await;
    assert_eq!(s.post(MAPS, config_map("a")).await.0, 201);
    assert_eq!(receiver.of("a").len(), 1, "the event was there before the answer");
    *receiver.refuses.lock() = 500;
    assert_eq!(s.post(MAPS, config_map("b")).await.0, 201, "it is lost, the request is not");
}

#[tokio::test]
async fn no_request_without_its_event() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let usual = AuditSettings::default();
    let file = dir.path().join("webhook.yaml");
    std::fs::write(&file, receiver.server.kubeconfig("/audit")).unwrap();
    *receiver.refuses.lock() = 500;
    let s = start(AuditSettings {
        webhook_config_file: Some(file),
        webhook_delivery: Delivery { mode: AuditMode::BlockingStrict, ..usual.webhook_delivery },
        webhook_initial_backoff: Duration::from_millis(5),
        ..settings(&dir, &POLICY.replace("omitStages: [RequestReceived]\n", ""))
    })
    .await;
    let (code, answer) = s.post(MAPS, config_map("a")).await;
    assert_eq!(code, 500, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("failed to store audit event"), "{answer}");
    *receiver.refuses.lock() = 0;
    assert_eq!(s.post(MAPS, config_map("a")).await.0, 201);
    let stages: Vec<Value> = receiver.of("a").iter().map(|e| e["stage"].clone()).collect();
    assert_eq!(stages, ["ResponseComplete"], "nothing of the refused one, and no name before it is read");
}

#[tokio::test]
async fn events_that_are_too_large_lose_their_objects() {
    let (receiver, dir) = (Receiver::start().await, tempfile::tempdir().unwrap());
    let truncate = Some(Truncate { event: 4096 });
    let s =
        with_webhook(&receiver, &dir, Delivery { truncate, ..batches(1, Duration::from_secs(600)) }).await;
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(5000).into();
    s.post(MAPS, large).await;
    let found = receiver.wait_for("large", 1).await;
    assert_eq!(found[0]["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(found[0].get("requestObject").is_none() && found[0].get("responseObject").is_none());
    // still too large: not sent at all
    s.get(&format!("{MAPS}/far?x={}", "y".repeat(5000))).await;
    s.get(&format!("{MAPS}/near")).await;
    receiver.wait_for("near", 1).await;
    assert!(receiver.of("far").is_empty());
}

#[tokio::test]
async fn the_log_holds_what_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("deeper/audit.log");
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n\
        - {level: None, resources: [{group: '', resources: [secrets]}]}\n\
        - {level: Request, omitStages: [RequestReceived], resources: [{group: '', resources: [configmaps]}]}\n";
    let s = start(AuditSettings { log_path: Some(log.clone()), ..settings(&dir, policy) }).await;
    s.post(MAPS, config_map("a")).await;
    s.get("/api/v1/namespaces/default/secrets").await;
    let text = std::fs::read_to_string(&log).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ours: Vec<&Value> = events.iter().filter(|e| e["objectRef"]["name"] == "a").collect();
    assert_eq!(ours.len(), 1, "{text}");
    assert_eq!((&ours[0]["level"], &ours[0]["stage"]), (&json!("Request"), &json!("ResponseComplete")));
    assert_eq!(ours[0]["requestObject"]["metadata"]["name"], "a");
    assert!(ours[0].get("responseObject").is_none());
    assert!(!text.contains("secrets"));

    let log = dir.path().join("legacy.log");
    let audit = AuditSettings { log_path: Some(log.clone()), log_legacy: true, ..settings(&dir, policy) };
    let s = start(audit).await;
    s.get(&format!("{MAPS}/a")).await;
    let text = std::fs::read_to_string(&log).unwrap();
    let line = text.lines().last().unwrap();
    assert!(line.contains(" AUDIT: id=\"") && line.ends_with(
        "ip=\"127.0.0.1\" method=\"get\" user=\"admin\" groups=\"\\\"system:masters\\\",\\\"system:authenticated\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"test\" namespace=\"default\" uri=\"/api/v1/namespaces/default/configmaps/a\" response=\"404\""
    ), "{line}");
}
