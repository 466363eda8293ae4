//! How webhooks are reached: an address, or a Service by its cluster IP, over TLS.

use std::time::Duration;

use base64::Engine;
use machinery::field::go_quote;
use machinery::{Get, Value};

use crate::server::Core;
use crate::subresource::connect::{Post, post_json};

/// `clientConfig` of a webhook, also of a conversion webhook, and how long it may take.
pub struct Client<'a> {
    pub config: &'a Value,
    pub timeout: Duration,
}

struct Place {
    host: String,
    port: u16,
    server_name: String,
    /// Path and query.
    path: String,
    /// As Go shows it.
    url: String,
}

/// Sends a document and reads the answer; errors in the words of Go's HTTP client.
pub async fn post(core: &Core, client: &Client<'_>, body: &Value) -> Result<Value, String> {
    let seconds = client.timeout.as_secs();
    let place = place(client.config, &format!("timeout={seconds}s"))?;
    let said = |why: String| format!("Post {}: {why}", go_quote(&place.url));
    let (host, port) = match client.config.at("service") {
        Value::Null => (place.host.clone(), place.port),
        service => resolve(core, service, place.port).map_err(said)?,
    };
    let standard = base64::engine::general_purpose::STANDARD;
    let ca = standard.decode(client.config.text("caBundle")).unwrap_or_default();
    let request =
        Post { host: &host, port, server_name: &place.server_name, ca_pem: &ca, path: &place.path, body };
    match tokio::time::timeout(client.timeout, post_json(request)).await {
        Err(_) => Err(said("context deadline exceeded".into())),
        Ok(Err(error)) if error.from_server => Err(error.text),
        Ok(Err(error)) => Err(said(error.text)),
        Ok(Ok(answer)) => Ok(answer),
    }
}

fn place(config: &Value, query: &str) -> Result<Place, String> {
    let service = config.at("service");
    if service.is_object() {
        let port = service.int("port").and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
        let host = format!("{}.{}.svc", service.text("name"), service.text("namespace"));
        let path = match service.text("path") {
            "" => "/",
            path => path,
        };
        let path = format!("{path}?{query}");
        let url = format!("https://{host}:{port}{path}");
        return Ok(Place { host: host.clone(), port, server_name: host, path, url });
    }
    let text = config.text("url");
    let uri: http::Uri = text.parse().map_err(|e| format!("Unable to parse webhook URL: {e}"))?;
    let host = uri.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
    let path = format!("{}?{query}", uri.path());
    let authority = uri.authority().map_or("", |a| a.as_str());
    let url = format!("https://{authority}{path}");
    Ok(Place { server_name: host.clone(), host, port: uri.port_u16().unwrap_or(443), path, url })
}

/// The address behind a Service.
fn resolve(core: &Core, service: &Value, port: u16) -> Result<(String, u16), String> {
    let (namespace, name) = (service.text("namespace"), service.text("name"));
    let missing = || format!("service {} not found", go_quote(name));
    let map = core.kinds.now();
    let home = map.find("", "v1", "services").and_then(|r| r.home.clone()).ok_or_else(missing)?;
    let live = home.cache.get(&format!("{namespace}/{name}")).ok_or_else(missing)?.parse();
    let spec = live.at("spec");
    let ports = || spec.list("ports").iter().find(|p| p.int("port") == Some(i64::from(port)));
    let no_port = || format!("no service port {port} found for service {}", go_quote(name));
    match (spec.text("type"), spec.text("clusterIP")) {
        ("ClusterIP", "None") => {
            let found = ports().ok_or_else(no_port)?;
            endpoint(core, namespace, name, found.text("name"))
        }
        ("ClusterIP" | "LoadBalancer" | "NodePort", ip) => {
            ports().ok_or_else(no_port)?;
            Ok((ip.to_owned(), port))
        }
        ("ExternalName", _) if port == 443 => Ok((spec.text("externalName").to_owned(), 443)),
        ("ExternalName", _) => Err(format!("service port {port} is not 443 for an ExternalName service")),
        (other, _) => Err(format!("unsupported service type {}", go_quote(other))),
    }
}

/// A ready endpoint of a Service without an address of its own.
fn endpoint(core: &Core, namespace: &str, service: &str, port: &str) -> Result<(String, u16), String> {
    let none = || format!("no endpoints available for service {}", go_quote(service));
    let map = core.kinds.now();
    let resource = map.preferred("discovery.k8s.io", "endpointslices").ok_or_else(none)?;
    let (snapshot, _) = resource.home.as_ref().ok_or_else(none)?.cache.snapshot();
    let prefix = format!("{namespace}/");
    let own = snapshot.iter().filter(|(key, entry)| {
        key.starts_with(&prefix) && entry.label("kubernetes.io/service-name") == Some(service)
    });
    for slice in own.map(|(_, entry)| entry.parse()) {
        let number = slice.list("ports").iter().find(|p| p.text("name") == port).and_then(|p| p.int("port"));
        let ready = |e: &&Value| e.at("conditions").flag("ready") != Some(false);
        let first = slice.list("endpoints").iter().find(ready).and_then(|e| e.list("addresses").first());
        let number = number.and_then(|n| u16::try_from(n).ok());
        if let (Some(number), Some(address)) = (number, first.and_then(Value::as_str)) {
            return Ok((address.to_owned(), number));
        }
    }
    Err(none())
}
