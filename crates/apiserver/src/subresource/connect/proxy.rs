//! `pods/proxy`, `services/proxy` and `nodes/proxy`: any HTTP request, handed on.

use bytes::Bytes;
use http::Method;
use machinery::{Get, Status, Value};

use super::client::{Outgoing, Target, forward};
use super::node::kubelet_of;
use super::options;
use crate::admission;
use crate::front::Incoming;
use crate::front::respond::{self, Answer};
use crate::registry::Call;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    options::admitted(call).await?;
    call.core.fresh().await?;
    let (tls, host, port, kubelet) = match call.resource.name.as_str() {
        "nodes" => node(call)?,
        "services" => service(call)?,
        _ => pod(call)?,
    };
    // the part of the path behind `/proxy`, as it came
    let raw = call.uri.path();
    let marker = format!("/{}/proxy", call.name());
    let rest = raw.find(&marker).map_or("", |at| &raw[at + marker.len()..]);
    let query = call.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    if rest.is_empty() && matches!(call.method, Method::GET | Method::HEAD) && !is_upgrade(&call.headers) {
        return Ok(moved(&format!("{raw}/{query}")));
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = Target { host, port, tls, kubelet, path: format!("{rest}{query}") };
    let mut headers = call.headers.clone();
    for name in ["authorization", "impersonate-user", "impersonate-group", "impersonate-uid"] {
        headers.remove(name);
    }
    let out = Outgoing {
        method: call.method.clone(),
        headers,
        body,
        upgrade: call.extensions.remove::<hyper::upgrade::OnUpgrade>(),
    };
    forward(&call.core.config, &target, out).await.map_err(|status| {
        let message = status.message.replace("error dialing backend", "error trying to reach service");
        Status::new(503, "ServiceUnavailable", message)
    })
}

/// Links that are relative to the proxied page are right only below a slash.
fn moved(to: &str) -> Answer {
    let mut answer = respond::bytes(301, "text/plain; charset=utf-8", Bytes::new());
    answer.headers_mut().remove(http::header::CONTENT_TYPE);
    if let Ok(to) = to.parse() {
        answer.headers_mut().insert(http::header::LOCATION, to);
    }
    answer
}

fn is_upgrade(headers: &http::HeaderMap) -> bool {
    let values = headers.get_all(http::header::CONNECTION).into_iter();
    values.filter_map(|v| v.to_str().ok()).any(|v| v.to_ascii_lowercase().contains("upgrade"))
}

/// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn split(id: &str) -> Result<(bool, &str, &str), Status> {
    let bad = || Status::bad_request(format!("invalid request {}", machinery::field::go_quote(id)));
    match id.split(':').collect::<Vec<_>>()[..] {
        [name] => Ok((false, name, "")),
        [name, port] => Ok((false, name, port)),
        [scheme @ ("http" | "https" | ""), name, port] => Ok((scheme == "https", name, port)),
        _ => Err(bad()),
    }
}

type Place = (bool, String, u16, bool);

fn pod(call: &Call) -> Result<Place, Status> {
    let (tls, name, port) = split(call.name())?;
    let missing = || Status::not_found(&call.gr(), name);
    let pod =
        admission::cached(call, "", "pods", &format!("{}/{name}", call.namespace)).ok_or_else(missing)?;
    let ip = pod.at("status").text("podIP").to_owned();
    if ip.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    let first = pod
        .at("spec")
        .list("containers")
        .iter()
        .flat_map(|c| c.list("ports"))
        .find_map(|p| p.int("containerPort"));
    let port = match port {
        "" => first.unwrap_or(if tls { 443 } else { 80 }),
        text => text.parse().map_err(|_| Status::bad_request(format!("invalid port {text:?}")))?,
    };
    Ok((tls, ip, u16::try_from(port).unwrap_or(80), false))
}

fn node(call: &Call) -> Result<Place, Status> {
    let (tls, name, port) = split(call.name())?;
    let missing = |_| Status::not_found(&call.gr(), name);
    let (host, kubelet) = kubelet_of(call, name).map_err(missing)?;
    match port.parse::<u16>() {
        Ok(port) if port != kubelet => Ok((tls, host, port, false)),
        _ => Ok((true, host, kubelet, true)),
    }
}

/// A ready endpoint of the Service at random.
fn service(call: &Call) -> Result<Place, Status> {
    let (tls, name, port) = split(call.name())?;
    let key = format!("{}/{name}", call.namespace);
    let missing = || Status::not_found(&call.gr(), name);
    let service = admission::cached(call, "", "services", &key).ok_or_else(missing)?;
    let unavailable = |why: String| Status::new(503, "ServiceUnavailable", why);
    let quoted = machinery::field::go_quote(name);
    let mut port_name = port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let found = service.at("spec").list("ports").iter().find(|p| p.int("port") == Some(number));
        let found = found
            .ok_or_else(|| unavailable(format!("no service port {number} found for service {quoted}")))?;
        port_name = found.text("name").to_owned();
    }
    let any_port = port.is_empty();
    let mut places: Vec<(String, u16)> = Vec::new();
    for slice in slices(call, name) {
        let ports = slice.list("ports").iter().filter(|p| any_port || p.text("name") == port_name);
        let Some(number) = ports.filter_map(|p| p.int("port")).next().and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        for endpoint in
            slice.list("endpoints").iter().filter(|e| e.at("conditions").flag("ready") != Some(false))
        {
            let first = endpoint.list("addresses").first().and_then(Value::as_str);
            places.extend(first.map(|ip| (ip.to_owned(), number)));
        }
    }
    if places.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {quoted}")));
    }
    let at = (crate::registry::fields::random_u64() % places.len() as u64) as usize;
    let (ip, number) = places.swap_remove(at);
    Ok((tls, ip, number, false))
}

fn slices(call: &Call, service: &str) -> Vec<Value> {
    let resource = call.core.kinds.now().preferred("discovery.k8s.io", "endpointslices");
    let Some(home) = resource.and_then(|r| r.home.clone()) else { return Vec::new() };
    let (snapshot, _) = home.cache.snapshot();
    let prefix = format!("{}/", call.namespace);
    snapshot
        .iter()
        .filter(|(key, entry)| {
            key.starts_with(&prefix) && entry.label("kubernetes.io/service-name") == Some(service)
        })
        .map(|(_, entry)| entry.parse())
        .collect()
}
