//! A server and short ways to ask it.

use std::sync::Arc;

use apiserver::{ApiServer, Config, User};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

pub struct Server {
    pub api: ApiServer,
}

pub async fn server() -> Server {
    server_with(Config::default()).await
}

pub async fn server_with(config: Config) -> Server {
    let api = ApiServer::start(config, Arc::new(store::memory::Memory::new())).await.unwrap();
    Server { api }
}

pub fn admin() -> User {
    User::new("admin", &["system:masters"])
}

impl Server {
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.api.service(admin()), "default")
    }

    pub async fn send(&self, user: User, method: &str, path: &str, kind: &str, body: Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .header("user-agent", "test")
            .body(Full::new(bytes::Bytes::from(bytes)))
            .unwrap();
        let response = self.api.service(user).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|e| e.to_string()).unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
    }

    /// Aggregated discovery of the named groups.
    pub async fn aggregated(&self) -> Value {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let (_, text) = self.asked("/apis", accept).await;
        serde_json::from_str(&text).unwrap()
    }

    /// Warnings and body of a GET.
    pub async fn raw(&self, path: &str) -> (Vec<String>, String) {
        self.asked(path, "application/json").await
    }

    async fn asked(&self, path: &str, accept: &str) -> (Vec<String>, String) {
        let request = http::Request::get(path).header("accept", accept);
        let request = request.body(Full::new(bytes::Bytes::new())).unwrap();
        let response = self.api.service(admin()).oneshot(request).await.unwrap();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|v| v.to_str().unwrap().to_owned()).collect();
        let bytes = response.into_body().collect().await.map_err(|e| e.to_string()).unwrap().to_bytes();
        (warnings, String::from_utf8_lossy(&bytes).into_owned())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(admin(), "GET", path, "application/json", Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(admin(), "POST", path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(admin(), "PUT", path, "application/json", body).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(admin(), "DELETE", path, "application/json", Value::Null).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(admin(), "PATCH", path, "application/merge-patch+json", body).await
    }

    pub async fn apply(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(admin(), "PATCH", path, "application/apply-patch+yaml", body).await
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}
