//! `kubectl logs`.

use futures_util::AsyncReadExt;
use http::Method;
use serde_json::Value;

use super::{Session, targets};
use crate::api;
use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct Arguments {
    /// POD or TYPE/NAME
    name: String,
    /// Container (the first one if there are several)
    #[arg(short, long)]
    container: Option<String>,
    /// Go on as the log grows
    #[arg(short, long)]
    follow: bool,
    /// The log of the container before its last restart
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,
    #[arg(long)]
    timestamps: bool,
    /// Only lines younger than this many seconds
    #[arg(long, value_name = "SECONDS")]
    since_seconds: Option<u64>,
}

pub async fn run(arguments: Arguments, session: &Session) -> Result<u8> {
    let pod = pod_of(session, &arguments.name).await?;
    let tail = if arguments.tail >= 0 { arguments.tail.to_string() } else { String::new() };
    let since = arguments.since_seconds.map(|s| s.to_string()).unwrap_or_default();
    let yes = |flag: bool| if flag { "true" } else { "" };
    let container = match arguments.container {
        Some(container) => container,
        None => default_container(session, &pod).await?,
    };
    let query = api::query(&[
        ("container", &container),
        ("follow", yes(arguments.follow)),
        ("previous", yes(arguments.previous)),
        ("timestamps", yes(arguments.timestamps)),
        ("tailLines", &tail),
        ("sinceSeconds", &since),
    ]);
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/log{query}", session.namespace);
    let request = api::request(Method::GET, &path, "*/*", "", Vec::new())?;
    let mut stream = Box::pin(session.client.request_stream(request).await?);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(0);
        }
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        if out.write_all(&buffer[..count]).and_then(|()| out.flush()).is_err() {
            return Ok(0);
        }
    }
}

/// `POD`, `pod/POD`, or the first pod of a workload.
pub async fn pod_of(session: &Session, name: &str) -> Result<String> {
    if !name.contains('/') {
        return Ok(name.to_owned());
    }
    let resources = session.resources().await?;
    let target = targets(&resources, &[name.to_owned()])?.remove(0);
    let wanted = target.name.unwrap_or_default();
    if target.resource.name == "pods" {
        return Ok(wanted);
    }
    let owner = api::get(
        &session.client,
        &api::path(&target.resource, &session.namespace, Some(&wanted)),
        "application/json",
    )
    .await?;
    let selector = &owner["spec"]["selector"];
    let labels = selector["matchLabels"].as_object().or_else(|| selector.as_object());
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let query = api::query(&[("labelSelector", &pairs.join(","))]);
    let path = format!("/api/v1/namespaces/{}/pods{query}", session.namespace);
    let pods = api::get(&session.client, &path, "application/json").await?;
    let first = pods["items"].as_array().and_then(|pods| pods.first());
    let pod = first.and_then(|pod| pod["metadata"]["name"].as_str());
    pod.map(str::to_owned).ok_or_else(|| Error::Usage(format!("{name} has no pods")))
}

/// The container that the annotation `kubectl.kubernetes.io/default-container` names, else the first.
pub async fn default_container(session: &Session, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}", session.namespace);
    let pod = api::get(&session.client, &path, "application/json").await?;
    let annotation = &pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = containers.first().map_or(&Value::Null, |c| &c["name"]);
    let name = annotation.as_str().or_else(|| first.as_str()).unwrap_or("").to_owned();
    if annotation.is_null() && containers.len() > 1 {
        let names: Vec<&str> = containers.iter().filter_map(|c| c["name"].as_str()).collect();
        eprintln!("Defaulted container \"{name}\" out of: {}", names.join(", "));
    }
    Ok(name)
}
