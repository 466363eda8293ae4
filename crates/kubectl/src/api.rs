//! Requests as paths and JSON: kubectl works on whatever the server serves, so nothing here is typed.

use http::{Method, Request};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::discovery::Resource;
use crate::error::{Error, Result};

/// The server's tables, with objects' metadata.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A connection as the kubeconfig says.
pub async fn connect(kubeconfig: Option<&str>, context: Option<&str>) -> Result<(Client, String)> {
    let wrong = |e: &dyn std::fmt::Display| Error::Kubeconfig(e.to_string());
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| wrong(&e))?;
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| wrong(&e))?
        }
        None => kube::Config::from_kubeconfig(&options).await.map_err(|e| wrong(&e))?,
    };
    let mut config = config;
    // Watches and logs -f may be silent for long.
    config.read_timeout = None;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|e| wrong(&e))?;
    Ok((client, namespace))
}

/// A query string from pairs; empty values are left out.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
                other => out.push_str(&format!("%{other:02X}")),
            }
        }
        out
    };
    let pairs: Vec<String> =
        pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", encode(v))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// The path of a collection, or of one object in it.
pub fn path(resource: &Resource, namespace: &str, name: Option<&str>) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if resource.namespaced && !namespace.is_empty() {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}", resource.name));
    if let Some(name) = name {
        path.push_str(&format!("/{name}"));
    }
    path
}

pub async fn get(client: &Client, path: &str, accept: &str) -> Result<Value> {
    send(client, Method::GET, path, accept, "", Vec::new()).await
}

pub async fn send_json(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value> {
    send(client, method, path, "application/json", "application/json", body.to_string().into_bytes()).await
}

pub async fn patch(client: &Client, path: &str, kind: &str, body: &Value) -> Result<Value> {
    let content = format!("application/{kind}");
    send(client, Method::PATCH, path, "application/json", &content, body.to_string().into_bytes()).await
}

pub fn request(
    method: Method,
    path: &str,
    accept: &str,
    content: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>> {
    let mut request = Request::builder().method(method).uri(path).header("Accept", accept);
    if !content.is_empty() {
        request = request.header("Content-Type", content);
    }
    request.body(body).map_err(|e| Error::Usage(e.to_string()))
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    accept: &str,
    content: &str,
    body: Vec<u8>,
) -> Result<Value> {
    let text = client.request_text(request(method, path, accept, content, body)?).await?;
    serde_json::from_str(&text).map_err(|e| Error::Unreachable(format!("the answer is not JSON: {e}")))
}
