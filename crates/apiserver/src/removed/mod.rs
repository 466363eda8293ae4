//! `--serve-removed-apis`: requests for API versions that upstream removed, answered by today's.
//!
//! A façade and nothing more: a body is brought into today's shape ([`resources::removed`]), the request goes the usual
//! way under today's path, and what comes back is shown in the old shape. Stored objects are the same ones. Access is
//! decided by the path as the client sent it. JSON and YAML only: clients that would rather have protobuf get JSON.

mod discovery;
mod stream;
mod write;

pub use discovery::{extend, resources as discovered};

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request};
use http_body_util::BodyExt;
use machinery::{Get, Status, Value};
use resources::removed::{Removed, find, scale_to_now, scale_to_old};

use crate::authn::User;
use crate::front::body::{self, Incoming, collect};
use crate::front::respond::{self, Answer};
use crate::front::routes::route;
use crate::front::{Body, Query, RequestInfo};
use crate::server::Core;

/// The removed resource that a request is for.
pub fn wanted(core: &Core, info: &RequestInfo) -> Option<&'static Removed> {
    if !core.config.serve_removed_apis || !info.is_resource || info.resource.is_empty() {
        return None;
    }
    let removed = find(&info.group, &info.version, &info.resource)?;
    core.kinds.now().find(removed.now.0, removed.now.1, removed.resource).map(|_| removed)
}

/// A request on its way to today's API.
struct Passage {
    core: Arc<Core>,
    user: Arc<User>,
    audit: crate::audit::Audit,
    removed: &'static Removed,
    subresource: String,
    head: Parts,
}

/// Answers a request for a removed resource.
pub async fn answer(
    core: &Arc<Core>,
    user: Arc<User>,
    removed: &'static Removed,
    info: &RequestInfo,
    request: Request<Incoming>,
    audit: &crate::audit::Audit,
    warnings: &mut Vec<String>,
) -> Result<Answer, Status> {
    warnings.push(removed.warning());
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("", |p| p.as_str());
    let old = format!("/apis/{}/{}/", removed.group, removed.version);
    let path = path.replacen(&old, &format!("/apis/{}/{}/", removed.now.0, removed.now.1), 1);
    head.uri = path.parse().map_err(|e| Status::bad_request(format!("{e}")))?;
    prefer_json(&mut head.headers);
    let subresource = info.subresource.clone();
    let passage = Passage { core: core.clone(), user, audit: audit.clone(), removed, subresource, head };
    let answer = match passage.head.method {
        Method::POST | Method::PUT => passage.write(body, warnings).await?,
        Method::PATCH => passage.patch(body, warnings).await?,
        _ => passage.send(body, warnings).await?,
    };
    passage.show(answer).await
}

/// The router once more; boxed, as it is its own caller.
fn again<'a>(
    core: &'a Arc<Core>,
    user: Arc<User>,
    info: RequestInfo,
    query: Query,
    request: Request<Incoming>,
    audit: &'a crate::audit::Audit,
    warnings: &'a mut Vec<String>,
) -> BoxFuture<'a, Result<Answer, Status>> {
    Box::pin(route(core, user, info, query, request, audit, warnings))
}

/// Leaves of the accepted types what this façade can make.
fn prefer_json(headers: &mut HeaderMap) {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let kept: Vec<String> = accept
        .join(",")
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.contains("protobuf") && !clause.contains("cbor") && !clause.contains("yaml"))
        .map(str::to_owned)
        .collect();
    let kept = if kept.iter().all(String::is_empty) { "application/json".to_owned() } else { kept.join(",") };
    if let Ok(value) = HeaderValue::from_str(&kept) {
        headers.insert(ACCEPT, value);
    }
    headers.remove(CONTENT_LENGTH);
}

impl Passage {
    /// Sends the request on, with this body.
    async fn send(&self, body: Incoming, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        self.route(request, warnings).await
    }

    async fn route(&self, request: Request<Incoming>, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let info = RequestInfo::new(request.method(), request.uri().path(), &query);
        again(&self.core, self.user.clone(), info, query, request, &self.audit, warnings).await
    }

    fn to_now(&self, object: &mut Value) {
        match self.subresource.as_str() {
            "" | "status" | "approval" | "finalize" if object.text("kind") == self.removed.kind => {
                self.removed.to_now(object);
            }
            "scale" => scale_to_now(object),
            _ => {}
        }
    }

    fn to_old(&self, object: &mut Value) {
        match (self.subresource.as_str(), object.text("kind")) {
            ("scale", "Scale") if self.removed.group != "autoscaling" => {
                scale_to_old(object, &self.removed.api_version());
            }
            (_, kind) if kind == self.removed.kind => self.removed.to_old(object),
            (_, kind) if kind.strip_suffix("List") == Some(self.removed.kind) => {
                object.set("apiVersion", self.removed.api_version());
                for item in object.list_mut("items") {
                    self.removed.to_old(item);
                    // items do not repeat what the list says
                    item.unset("apiVersion");
                }
            }
            _ => {}
        }
    }

    /// The answer in the old shape.
    async fn show(&self, answer: Answer) -> Result<Answer, Status> {
        let json = answer.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes() == b"application/json");
        if !json {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let body = match body {
            Body::Full(content) => {
                let content = content.unwrap_or_default();
                match serde_json::from_slice::<Value>(&content) {
                    Ok(mut object) => {
                        self.to_old(&mut object);
                        Body::from(respond::json(&object, false))
                    }
                    Err(_) => Body::from(content),
                }
            }
            stream if is_watch(&self.head) => {
                let (removed, subresource) = (self.removed, self.subresource.clone());
                stream::events(stream, move |object| {
                    if subresource.is_empty() && object.text("kind") == removed.kind {
                        removed.to_old(object);
                    }
                })
            }
            stream => {
                let content = stream.collect().await.map_err(|e| Status::internal(e.to_string()))?.to_bytes();
                let mut object: Value =
                    serde_json::from_slice(&content).map_err(|e| Status::internal(e.to_string()))?;
                self.to_old(&mut object);
                Body::from(respond::json(&object, false))
            }
        };
        let mut answer = Answer::from_parts(parts, body);
        answer.headers_mut().remove(CONTENT_LENGTH);
        Ok(answer)
    }

    /// A body as a value.
    async fn read(&self, body: Incoming) -> Result<Value, Status> {
        let bytes = collect(body, self.core.config.max_body).await?;
        let kind = self.head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        let bad = |error: String| {
            Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                self.removed.kind, self.removed.version, self.removed.kind
            ))
        };
        match kind {
            "" | "application/json" => serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string())),
            kind if kind.ends_with("yaml") => {
                let json = machinery::codec::yaml::to_json(&bytes).map_err(|e| bad(e.to_string()))?;
                serde_json::from_slice(&json.text).map_err(|e| bad(e.to_string()))
            }
            _ => Err(Status::new(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            )),
        }
    }
}

fn is_watch(head: &Parts) -> bool {
    let query = Query::parse(head.uri.query().unwrap_or(""));
    RequestInfo::new(&head.method, head.uri.path(), &query).verb == "watch"
}

fn from_json(object: &Value) -> Incoming {
    body::incoming(http_body_util::Full::new(respond::json(object, false)))
}
