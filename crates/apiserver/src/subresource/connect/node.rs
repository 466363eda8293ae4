//! `pods/log`, `exec`, `attach` and `portforward`: the kubelet of the pod's node answers.

use http_body_util::BodyExt;
use machinery::field::{Error, Path};
use machinery::{Get, GroupKind, GroupResource, Status, Value, meta};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::{Outgoing, Target, forward};
use super::options::{self, STREAMS};
use crate::admission;
use crate::front::Incoming;
use crate::front::body::incoming;
use crate::front::respond::{Answer, bytes};
use crate::front::websocket;
use crate::registry::{Call, current};

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Host and port of a node's kubelet.
pub fn kubelet_of(call: &Call, node: &str) -> Result<(String, u16), Status> {
    let live = admission::cached(call, "", "nodes", node);
    // upstream says pods here, and clients have learnt to live with it
    let live = live.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), node))?;
    let status = live.at("status");
    let port = status.at("daemonEndpoints").at("kubeletEndpoint").int("Port").unwrap_or(10250);
    let address = ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|kind| {
        status
            .list("addresses")
            .iter()
            .find(|a| a.text("type") == *kind)
            .map(|a| a.text("address").to_owned())
    });
    let address = address
        .ok_or_else(|| Status::new(500, "", format!("no preferred addresses found; known addresses: []")))?;
    Ok((address, u16::try_from(port).unwrap_or(10250)))
}

fn scheduled_node<'a>(pod: &'a Value) -> Result<&'a str, Status> {
    match pod.at("spec").text("nodeName") {
        "" => Err(Status::bad_request(format!("pod {} does not have a host assigned", meta::name(pod)))),
        node => Ok(node),
    }
}

/// The container that the request names, or the only one.
fn container(asked: &str, pod: &Value) -> Result<String, Status> {
    let spec = pod.at("spec");
    let names =
        |list: &str| -> Vec<String> { spec.list(list).iter().map(|c| c.text("name").to_owned()).collect() };
    let (plain, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !asked.is_empty() {
        let known = [&plain, &init, &ephemeral].iter().any(|list| list.iter().any(|n| n == asked));
        if known {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {}",
            meta::name(pod)
        )));
    }
    match &plain[..] {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}",
            meta::name(pod)
        ))),
        many => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                meta::name(pod),
                many.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// `pods/log`.
pub async fn log(call: &mut Call) -> Result<Answer, Status> {
    check_log(call)?;
    let pod = current(call).await?.parse();
    let container = container(call.query.text("container"), &pod)?;
    let Ok(node) = scheduled_node(&pod) else {
        // nothing ran yet, so there is nothing to read
        return Ok(bytes(204, "text/plain", String::new()));
    };
    let (host, port) = kubelet_of(call, node)?;
    let mut query: Vec<String> = Vec::new();
    for key in ["follow", "previous", "timestamps"] {
        if call.query.flag(key) {
            query.push(format!("{key}=true"));
        }
    }
    for key in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = call.query.get(key) {
            query.push(format!("{key}={}", encode(value)));
        }
    }
    let path = format!("/containerLogs/{}/{}/{container}?{}", call.namespace, call.name(), query.join("&"));
    let target = Target { host, port, tls: true, kubelet: true, path };
    let out = Outgoing {
        method: http::Method::GET,
        headers: http::HeaderMap::new(),
        body: incoming(http_body_util::Empty::new()),
        upgrade: None,
    };
    let mut answer = forward(&call.core.config, &target, out).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer, call.name()).await);
    }
    if websocket::wanted(&call.headers) {
        let (protocol, framing) = websocket::stream_protocol(&call.headers)?;
        return websocket::answer(&call.headers, &mut call.extensions, protocol, framing, true, answer);
    }
    let text = http::HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
    Ok(answer)
}

/// Longer words of a kubelet are cut, as upstream does.
const LONGEST_REFUSAL: usize = 10_000;

/// What a kubelet says instead of logs, as a status (upstream: GenericHttpResponseChecker).
async fn refusal(answer: Answer, pod: &str) -> Status {
    let code = answer.status().as_u16();
    let body = http_body_util::Limited::new(answer.into_body(), LONGEST_REFUSAL).collect().await;
    let body = body.map(|whole| whole.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    match code {
        400 => Status::bad_request(text),
        // upstream's words, with the blank where its verb would be
        404 => Status::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource ( pods/log {pod})"),
        ),
        500 => Status::internal(text),
        _ => Status::new(code, "", text),
    }
}

fn check_log(call: &Call) -> Result<(), Status> {
    let mut errors = Vec::new();
    let query = &call.query;
    let least = |errors: &mut Vec<Error>, key: &str, least: i64| -> Result<(), Status> {
        if let Some(n) = query.int(key)?.filter(|n| *n < least) {
            let why =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.push(Error::invalid(&Path::new(key), n, why));
        }
        Ok(())
    };
    least(&mut errors, "tailLines", 0)?;
    least(&mut errors, "limitBytes", 1)?;
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        errors.push(Error::forbidden(
            &Path::root(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    } else {
        least(&mut errors, "sinceSeconds", 1)?;
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupKind { group: String::new(), kind: "PodLogOptions".to_owned() };
    Err(Status::invalid(&kind, call.name(), &errors))
}

/// `pods/exec`, `attach` and `portforward`.
pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let options = options::admitted(call).await?;
    let pod = current(call).await?.parse();
    let sub = call.info.subresource.clone();
    let (path, mut query) = if sub == "portforward" {
        let ports: Vec<String> = options.list("ports").iter().map(|port| format!("port={port}")).collect();
        (format!("/portForward/{}/{}", call.namespace, call.name()), ports)
    } else {
        let container = container(options.text("container"), &pod)?;
        (format!("/{sub}/{}/{}/{container}", call.namespace, call.name()), streams(&options))
    };
    let node = scheduled_node(&pod)?;
    let (host, port) = kubelet_of(call, node)?;
    if sub == "exec" {
        let command = options.list("command").iter().filter_map(Value::as_str);
        query.extend(command.map(|word| format!("command={}", encode(word))));
    }
    let target = Target { host, port, tls: true, kubelet: true, path: format!("{path}?{}", query.join("&")) };
    if !call.headers.contains_key(http::header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let out = Outgoing {
        method: call.method.clone(),
        headers: call.headers.clone(),
        body,
        upgrade: call.extensions.remove::<hyper::upgrade::OnUpgrade>(),
    };
    forward(&call.core.config, &target, out).await
}

/// The kubelet's names of the streams.
fn streams(options: &Value) -> Vec<String> {
    let wanted = STREAMS.iter().filter(|(ours, _)| options.flag(ours) == Some(true));
    wanted.map(|(_, theirs)| format!("{theirs}=1")).collect()
}
