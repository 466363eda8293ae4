//! exec, attach and port-forward: the runtime says where, and the connection is passed on to there.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use runtime::cri::v1;
use std::sync::Arc;
use tokio::net::TcpStream;

use super::query::Query;
use super::route::{find_container, find_pod};
use super::{Answer, full, text};
use crate::agent::Agent;
use crate::pod::PodExt;

/// `NAMESPACE/POD[/UID]/CONTAINER`.
async fn container(agent: &Agent, parts: &[&str]) -> Result<String, Answer> {
    let (namespace, name, uid, container) = match parts {
        [namespace, name, container] => (*namespace, *name, None, *container),
        [namespace, name, uid, container] => (*namespace, *name, Some(*uid), *container),
        _ => return Err(text(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    let pod = pod(agent, namespace, name, uid)?;
    find_container(agent, &pod, container).await
}

fn pod(agent: &Agent, namespace: &str, name: &str, uid: Option<&str>) -> Result<Pod, Answer> {
    find_pod(agent, namespace, name, uid).ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist"))
}

struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Which streams a request wants, by the kubelet's names or the API's.
fn streams(query: &Query) -> Result<Streams, Answer> {
    let either = |a: &str, b: &str| query.flag(a) || query.flag(b);
    let tty = query.flag("tty");
    let stderr = either("error", "stderr") && !tty;
    let streams =
        Streams { stdin: either("input", "stdin"), stdout: either("output", "stdout"), stderr, tty };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

pub(super) async fn exec(
    agent: Arc<Agent>,
    parts: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let url = async {
        let wanted = streams(query)?;
        let id = container(&agent, parts).await?;
        let ask = v1::ExecRequest {
            container_id: id,
            cmd: query.all("command"),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        agent.runtime.exec(ask).await.map(|a| a.url).map_err(failed)
    };
    match url.await {
        Ok(url) => tunnel(&url, request).await,
        Err(answer) => answer,
    }
}

pub(super) async fn attach(
    agent: Arc<Agent>,
    parts: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let url = async {
        let wanted = streams(query)?;
        let id = container(&agent, parts).await?;
        let ask = v1::AttachRequest {
            container_id: id,
            stdin: wanted.stdin,
            tty: wanted.tty,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        agent.runtime.attach(ask).await.map(|a| a.url).map_err(failed)
    };
    match url.await {
        Ok(url) => tunnel(&url, request).await,
        Err(answer) => answer,
    }
}

pub(super) async fn port_forward(
    agent: Arc<Agent>,
    parts: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let url = async {
        let (namespace, name, uid) = match parts {
            [namespace, name] => (*namespace, *name, None),
            [namespace, name, uid] => (*namespace, *name, Some(*uid)),
            _ => return Err(text(StatusCode::NOT_FOUND, "404 page not found\n")),
        };
        let pod = pod(&agent, namespace, name, uid)?;
        let asked = query.all("port");
        let ports =
            asked.iter().flat_map(|p| p.split(',')).map(str::parse::<u16>).collect::<Result<Vec<_>, _>>();
        let ports = ports.map_err(|_| text(StatusCode::BAD_REQUEST, format!("invalid port {asked:?}")))?;
        let seen = agent.observe(pod.uid()).await.map_err(failed)?;
        let sandbox = seen.sandboxes.first().map(|s| s.id.clone());
        let sandbox = sandbox.ok_or_else(|| {
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed to find sandboxID for pod {}", pod.describe()),
            )
        })?;
        let ask = v1::PortForwardRequest {
            pod_sandbox_id: sandbox,
            port: ports.into_iter().map(i32::from).collect(),
        };
        agent.runtime.port_forward(ask).await.map(|a| a.url).map_err(failed)
    };
    match url.await {
        Ok(url) => tunnel(&url, request).await,
        Err(answer) => answer,
    }
}

/// Runs a command to its end and gives its output.
pub(super) async fn run(agent: &Agent, parts: &[&str], query: &Query) -> Answer {
    let id = match container(agent, parts).await {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let cmd: Vec<String> = query.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    match agent.runtime.exec_sync(v1::ExecSyncRequest { container_id: id, cmd, timeout: 0 }).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            let mut response = Response::new(full(output));
            if answer.exit_code != 0 {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
        Err(e) => failed(e),
    }
}

fn failed(error: runtime::cri::Error) -> Answer {
    let code = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    text(code, error.to_string())
}

/// Repeats the request towards `url` and, where that answers by switching protocols, joins the two connections.
async fn tunnel(url: &str, request: Request<Incoming>) -> Answer {
    match connect(url, request).await {
        Ok(answer) => answer,
        Err(message) => text(StatusCode::BAD_GATEWAY, message),
    }
}

async fn connect(url: &str, mut request: Request<Incoming>) -> Result<Answer, String> {
    let uri: Uri =
        url.parse().map_err(|e| format!("the runtime's streaming address {url:?} is not a URL: {e}"))?;
    let authority =
        uri.authority().ok_or_else(|| format!("the runtime's streaming address {url:?} has no host"))?;
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("error dialing backend: {e}"))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());

    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = Request::builder().method(request.method()).uri(path);
    if let Some(headers) = onward.headers_mut() {
        copy_headers(request.headers(), headers);
        let host = http::HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?;
        headers.insert(header::HOST, host);
    }
    let onward = onward.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let mut response =
        sender.send_request(onward).await.map_err(|e| format!("error dialing backend: {e}"))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = response.into_parts();
        let body = body.map_err(Into::into).boxed_unsync();
        return Ok(Response::from_parts(parts, body));
    }
    let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
    tokio::spawn(async move {
        if let (Ok(near), Ok(far)) = tokio::join!(near, far) {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
        }
    });
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_headers(response.headers(), answer.headers_mut());
    Ok(answer)
}

/// All but what was for this end only.
fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if *name != header::AUTHORIZATION && *name != header::CONTENT_LENGTH && *name != header::HOST {
            to.append(name, value.clone());
        }
    }
}
