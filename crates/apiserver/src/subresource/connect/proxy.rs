//! `pods/proxy`, `services/proxy` and `nodes/proxy`: any HTTP request, handed on.

use std::io::{Read, Write};
use std::net::IpAddr;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use machinery::{Get, Status, Value};

use super::client::{Outgoing, Target, forward};
use super::node::kubelet_of;
use super::options;
use super::rewrite::Rewriter;
use crate::admission;
use crate::front::respond::{self, Answer};
use crate::front::{ClientAddress, Incoming};
use crate::registry::Call;

const FORWARDED_FOR: &str = "x-forwarded-for";

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
    let trailing = rest.len();
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
    let host = call.uri.authority().map(ToString::to_string);
    let host = host.or_else(|| Some(headers.get(HOST)?.to_str().ok()?.to_owned())).unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(&host)
        && !host.is_empty()
    {
        headers.insert(HOST, host);
    }
    let prefix = raw[..raw.len() - trailing].to_owned();
    let rewriter = Rewriter { prefix, backend: target.address(), host };
    forwarded(&mut headers, &rewriter, rest, call.extensions.get());
    let out = Outgoing {
        method: call.method.clone(),
        headers,
        body,
        upgrade: call.extensions.remove::<hyper::upgrade::OnUpgrade>(),
    };
    let answer = forward(&call.core.config, &target, out).await.map_err(|status| {
        let message = status.message.replace("error dialing backend", "error trying to reach service");
        Status::new(503, "ServiceUnavailable", message)
    })?;
    rewritten(answer, &rewriter).await
}

/// What the server behind may want to know of the client.
fn forwarded(headers: &mut HeaderMap, rewriter: &Rewriter, path: &str, client: Option<&ClientAddress>) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-forwarded-uri", &rewriter.forwarded_uri(path));
    if let Some(ClientAddress(client)) = client {
        let before: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = before.into_iter().map(str::to_owned).chain([client.to_string()]).collect::<Vec<_>>();
        if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
            headers.insert(FORWARDED_FOR, value);
        }
    }
}

/// Leads what points at the server behind back to us. Who may read it from which origin is ours to say.
async fn rewritten(mut answer: Answer, rewriter: &Rewriter) -> Result<Answer, Status> {
    for name in ["credentials", "headers", "methods", "origin"] {
        answer.headers_mut().remove(format!("access-control-allow-{name}"));
    }
    if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let location = header(&answer, LOCATION);
    if !location.is_empty() {
        if let Some(url) = rewriter.url(&location).and_then(|url| url.parse().ok()) {
            answer.headers_mut().insert(LOCATION, url);
        }
        return Ok(answer);
    }
    let encoding = header(&answer, CONTENT_ENCODING);
    let is_html =
        header(&answer, CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    if !is_html || !["", "gzip", "deflate"].contains(&encoding.as_str()) {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let broken =
        |e: String| Status::new(503, "ServiceUnavailable", format!("error trying to reach service: {e}"));
    let page = body.collect().await.map_err(|e| broken(e.to_string()))?.to_bytes();
    let page = recoded(&page, &encoding, rewriter).map_err(|e| broken(e.to_string()))?;
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Answer::from_parts(parts, page.into()))
}

fn header(answer: &Answer, name: HeaderName) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

fn recoded(page: &[u8], encoding: &str, rewriter: &Rewriter) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match encoding {
        // The answer to a HEAD, and to what has no content.
        _ if page.is_empty() => return Ok(plain),
        "gzip" => {
            flate2::read::MultiGzDecoder::new(page).read_to_end(&mut plain)?;
            let mut out = GzEncoder::new(Vec::new(), Compression::default());
            out.write_all(&rewriter.html(&plain))?;
            out.finish()
        }
        "deflate" => {
            flate2::read::DeflateDecoder::new(page).read_to_end(&mut plain)?;
            let mut out = DeflateEncoder::new(Vec::new(), Compression::best());
            out.write_all(&rewriter.html(&plain))?;
            out.finish()
        }
        _ => Ok(rewriter.html(page)),
    }
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
    if !ip.parse().is_ok_and(is_global_unicast) {
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

/// True for what may be an address of one host that others can reach.
fn is_global_unicast(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

/// A ready endpoint of the Service at random. Only those that are pods of the namespace count: whoever may write
/// Endpoints must not reach through us what only we can reach.
fn service(call: &Call) -> Result<Place, Status> {
    let invalid = |_| {
        Status::bad_request(format!("invalid service request {}", machinery::field::go_quote(call.name())))
    };
    let (tls, name, port) = split(call.name()).map_err(invalid)?;
    let key = format!("{}/{name}", call.namespace);
    let unavailable = |why: String| Status::new(503, "ServiceUnavailable", why);
    let quoted = machinery::field::go_quote(name);
    let mut port_name = port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let service = admission::cached(call, "", "services", &key);
        let service = service.ok_or_else(|| Status::not_found(&call.gr(), name))?;
        let found = service.at("spec").list("ports").iter().find(|p| p.int("port") == Some(number));
        let found = found
            .ok_or_else(|| unavailable(format!("no service port {number} found for service {quoted}")))?;
        port_name = found.text("name").to_owned();
    }
    // upstream names the request's resource here, too
    let endpoints = admission::cached(call, "", "endpoints", &key);
    let endpoints = endpoints.ok_or_else(|| Status::not_found(&call.gr(), name))?;
    let subsets = endpoints.list("subsets");
    if subsets.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {quoted}")));
    }
    let mut places: Vec<(String, u16)> = Vec::new();
    for subset in subsets {
        let Some(port) = subset.list("ports").iter().find(|p| p.text("name") == port_name) else { continue };
        let Some(number) = port.int("port").and_then(|p| u16::try_from(p).ok()) else { continue };
        let pods = subset.list("addresses").iter().filter(|address| is_pod(call, address));
        places.extend(pods.map(|address| (address.text("ip").to_owned(), number)));
    }
    if places.is_empty() {
        let quoted = machinery::field::go_quote(call.name());
        return Err(unavailable(format!("no endpoints available for service {quoted}")));
    }
    let at = (crate::registry::fields::random_u64() % places.len() as u64) as usize;
    let (ip, number) = places.swap_remove(at);
    Ok((tls, ip, number, false))
}

fn is_pod(call: &Call, address: &Value) -> bool {
    let target = address.at("targetRef");
    if target.text("namespace") != call.namespace {
        return false;
    }
    let key = format!("{}/{}", call.namespace, target.text("name"));
    let pod = admission::cached(call, "", "pods", &key);
    pod.is_some_and(|pod| {
        pod.at("status").list("podIPs").iter().any(|own| own.text("ip") == address.text("ip"))
    })
}
