//! APIServices: those that the server makes of what it serves itself, and a second server behind this one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use apiserver::{Config, User};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pki::{Authority, Request, Usage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, server, server_with};

const APIS: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Asks until the answer is as wanted.
async fn until(server: &Server, path: &str, what: &str, good: impl Fn(u16, &Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (code, answer) = server.get(path).await;
        if good(code, &answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: {code} {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn condition(api: &Value) -> &Value {
    &api["status"]["conditions"][0]
}

fn definition(group: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("flunders.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "flunders", "kind": "Flunder"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer"}}}}}}}]}})
}

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[tokio::test]
async fn what_is_served_here_has_local_api_services() {
    let s = server().await;
    let (_, apps) = s.get(&format!("{APIS}/v1.apps")).await;
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(
        (&apps["spec"]["groupPriorityMinimum"], &apps["spec"]["versionPriority"]),
        (&json!(17800), &json!(15))
    );
    assert_eq!(condition(&apps)["reason"], "Local");
    assert_eq!(s.get(&format!("{APIS}/v1.")).await.0, 200);
    assert_eq!(s.post(CRDS, definition("example.com")).await.0, 201);
    let path = format!("{APIS}/v1.example.com");
    let made = until(&s, &path, "an APIService of the custom group", |code, _| code == 200).await;
    assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    // it is kept while the group is served, and goes with it
    assert_eq!(s.delete(&path).await.0, 200);
    until(&s, &path, "again", |code, again| {
        code == 200 && again["metadata"]["uid"] != made["metadata"]["uid"]
    })
    .await;
    assert_eq!(s.delete(&format!("{CRDS}/flunders.example.com")).await.0, 200);
    until(&s, &path, "gone", |code, _| code == 404).await;
}

#[tokio::test]
async fn a_remote_server_without_a_service_is_not_available() {
    let s = server().await;
    let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.nowhere.example.com"},
        "spec": {"group": "nowhere.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"name": "s", "namespace": "d"}}});
    assert_eq!(s.post(APIS, api).await.0, 201);
    let path = format!("{APIS}/v1.nowhere.example.com");
    let api = until(&s, &path, "told", |_, api| condition(api)["reason"] == "ServiceNotFound").await;
    assert_eq!(condition(&api)["message"], "service/s in \"d\" is not present");
    let (code, text) = s.get("/apis/nowhere.example.com/v1/things").await;
    assert_eq!((code, text.as_str()), (503, Some("service unavailable\n")));
    let (_, groups) = s.get("/apis").await;
    let last = groups["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(last["name"], "nowhere.example.com");
    assert_eq!(s.delete(&path).await.0, 200);
    until(&s, "/apis/nowhere.example.com/v1/things", "gone", |code, _| code == 404).await;
}

/// A second server with its own kinds behind the first one.
struct Pair {
    front: Server,
    back: Server,
    _dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn pair() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), "ca", "test").unwrap();
    let issue = |name: &str, dns_names: &[String], usage: Usage| {
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let life = Duration::from_secs(3600);
        let request =
            Request { common_name: name, organization: None, dns_names, addresses: &addresses, usage, life };
        authority.issue(&request).unwrap()
    };
    let serving = issue("back", &["back.default.svc".to_owned()], Usage::Server);
    let proxy = issue("front-proxy", &[], Usage::Client);
    let ca = authority.certificate_pem().to_owned();
    let back = server_with(Config {
        serving_cert_pem: Some(serving.certificate_pem),
        serving_key_pem: Some(serving.key_pem),
        client_ca_pem: Some(ca.clone()),
        front_proxy_ca_pem: Some(ca.clone()),
        front_proxy_names: vec!["front-proxy".to_owned()],
        ..Config::default()
    })
    .await;
    assert_eq!(back.post(CRDS, definition("remote.example.com")).await.0, 201);
    until(&back, "/apis/remote.example.com/v1", "served", |code, _| code == 200).await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let (api, shutdown) = (back.api.clone(), stop.clone());
    tokio::spawn(async move { api.serve(listener, shutdown).await });
    let front = server_with(Config {
        proxy_client_cert_pem: Some(proxy.certificate_pem),
        proxy_client_key_pem: Some(proxy.key_pem),
        ..Config::default()
    })
    .await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "back"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert_eq!(front.post("/api/v1/namespaces/default/services", service).await.0, 201);
    let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.remote.example.com"},
        "spec": {"group": "remote.example.com", "version": "v1", "groupPriorityMinimum": 17760, "versionPriority": 15,
            "caBundle": BASE64_STANDARD.encode(&ca),
            "service": {"name": "back", "namespace": "default", "port": port}}});
    let (code, made) = front.post(APIS, api).await;
    assert_eq!(code, 201, "{made}");
    until(&front, &format!("{APIS}/v1.remote.example.com"), "available", |_, api| {
        condition(api)["reason"] == "Passed"
    })
    .await;
    Pair { front, back, _dir: dir, stop }
}

#[tokio::test]
async fn requests_reach_the_remote_server_as_the_user() {
    let pair = pair().await;
    let front = &pair.front;
    let path = "/apis/remote.example.com/v1/namespaces/default/flunders";
    let object = json!({"apiVersion": "remote.example.com/v1", "kind": "Flunder", "metadata": {"name": "a"}, "spec": {"a": 1}});
    until(front, path, "routed", |code, _| code == 200).await;
    let (code, made) = front.post(path, object).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(pair.back.get(&format!("{path}/a")).await.1["metadata"]["uid"], made["metadata"]["uid"]);
    // the front lets masters do all, the back knows jane only by what the front says, and forbids
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    assert_eq!(front.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", role).await.0, 201);
    let (code, refused) =
        front.send(User::new("jane", &[]), "GET", path, "application/json", Value::Null).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().contains("User \"jane\" cannot list"), "{refused}");
}

#[tokio::test]
async fn discovery_and_openapi_show_what_the_remote_server_serves() {
    let pair = pair().await;
    let front = &pair.front;
    let (_, groups) = front.get("/apis").await;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
    let at = names.iter().position(|n| *n == "remote.example.com").unwrap();
    assert_eq!((names[at - 1], names[at + 1]), ("apps", "events.k8s.io"), "{names:?}");
    let (_, list) = front.get("/apis/remote.example.com/v1").await;
    assert_eq!(list["resources"][0]["name"], "flunders");
    let aggregated = until_aggregated(front, "Current").await;
    assert_eq!(aggregated["resources"][0]["responseKind"]["kind"], "Flunder");
    let (_, index) = front.get("/openapi/v3").await;
    let url = index["paths"]["apis/remote.example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let (code, document) = front.get(&url).await;
    assert_eq!(code, 200);
    assert!(document["components"]["schemas"]["com.example.remote.v1.Flunder"].is_object());
    let (_, document) = front.get("/openapi/v2").await;
    assert!(document["definitions"]["com.example.remote.v1.Flunder"].is_object());
    assert!(document["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
}

async fn until_aggregated(front: &Server, freshness: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let list = front.aggregated().await;
        let item =
            list["items"].as_array().unwrap().iter().find(|i| i["metadata"]["name"] == "remote.example.com");
        if let Some(version) = item.map(|i| &i["versions"][0])
            && version["freshness"] == freshness
        {
            return version.clone();
        }
        assert!(Instant::now() < end, "{list}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_remote_server_that_goes_away_is_told_of() {
    let pair = pair().await;
    let front = &pair.front;
    until_aggregated(front, "Current").await;
    pair.stop.cancel();
    // a change of the Service makes the server ask at once
    let path = "/api/v1/namespaces/default/services/back";
    assert_eq!(front.delete(path).await.0, 200);
    until(front, &format!("{APIS}/v1.remote.example.com"), "told", |_, api| {
        condition(api)["reason"] == "ServiceNotFound"
    })
    .await;
    let version = until_aggregated(front, "Stale").await;
    assert_eq!(version["resources"][0]["resource"], "flunders");
    let (code, _) = front.get("/apis/remote.example.com/v1/namespaces/default/flunders").await;
    assert_eq!(code, 503);
}
