//! The pods of the load: about 6.3 KB each as the server gives them.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::connection::{Call, Server};

pub const COLLECTION: &str = "/api/v1/namespaces/bench/pods";

pub fn name(i: usize) -> String {
    format!("load-{i:06}")
}

pub fn path(i: usize) -> String {
    format!("{COLLECTION}/{}", name(i))
}

/// A fresh namespace with its service account (there may be no controller that makes it).
pub async fn prepare(server: &Server) -> Result<()> {
    let mut connection = server.connect().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    for (path, object) in
        [("/api/v1/namespaces", &namespace), ("/api/v1/namespaces/bench/serviceaccounts", &account)]
    {
        let call = Call::with_body(Method::POST, path, "application/json", object);
        match connection.call(&call).await {
            Err(error) if error.to_string().contains("AlreadyExists") => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// How many there are.
pub async fn count(server: &Server) -> Result<usize> {
    let body = server.connect().await?.call(&Call::get(COLLECTION)).await?;
    let list: Value = serde_json::from_slice(&body)?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

/// A pod with two containers, environment, probes, volumes, labels and annotations.
pub fn pod(i: usize) -> Value {
    let environment: Vec<Value> = (0..2)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}-of-the-application")}))
        .collect();
    let probe = |port: u16| json!({"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 10, "timeoutSeconds": 2});
    let container = |name: &str, port: u16| {
        json!({
            "name": name,
            "image": format!("registry.example/{name}:1.2.3"),
            "args": ["--listen", format!(":{port}"), "--log-level=info"],
            "ports": [{"name": "http", "containerPort": port}],
            "env": environment,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "livenessProbe": probe(port),
            "readinessProbe": probe(port),
            "volumeMounts": [{"name": "config", "mountPath": "/etc/config", "readOnly": true}, {"name": "scratch", "mountPath": "/scratch"}],
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(i),
            "labels": {"app": "load", "shard": (i % 50).to_string(), "tier": "backend", "release": "r-2026-11"},
            "annotations": {"example.org/owner": "team-load", "example.org/notes": "x".repeat(120)},
        },
        "spec": {
            "nodeName": format!("node-{}", i % 100),
            "containers": [container("web", 8080), container("sidecar", 9090)],
            "volumes": [{"name": "config", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 30,
        },
    })
}
