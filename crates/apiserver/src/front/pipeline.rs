//! One request from its head to its answer: who, may they, do it; a panic in it stays in it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderValue, Request};
use machinery::Status;

use super::body::Incoming;
use super::connection::Lasts;
use super::respond::{self, Answer};
use super::{Body, Query, RequestInfo};
use crate::audit::{Audit, Head};
use crate::authn::{Peer, User, authenticate};
use crate::flow::{Digest, Entered, Rejected};
use crate::metrics::{Known, Lasting, Metrics, Seen};
use crate::server::Core;

/// Where a request comes from.
#[derive(Clone)]
pub enum Caller {
    /// In process: the identity is given.
    Trusted(Arc<User>),
    /// From a connection: it must prove who it is.
    Remote(Arc<Peer>),
}

impl Caller {
    fn address(&self) -> std::net::IpAddr {
        match self {
            Caller::Trusted(_) => [127, 0, 0, 1].into(),
            Caller::Remote(peer) => peer.address.ip(),
        }
    }
}

/// Answers a request. Never panics, and never takes longer than the request timeout unless it is a stream.
pub async fn answer(core: Arc<Core>, caller: Caller, request: Request<Incoming>) -> Answer {
    let what = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(process(core, caller, request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            let text = panic_text(&*panic);
            tracing::error!(request = %what, panic = %text, "a request panicked");
            respond::text(500, "This request caused apiserver to panic. Look in the logs for details.\n")
        }
    }
}

async fn process(core: Arc<Core>, caller: Caller, mut request: Request<Incoming>) -> Answer {
    let began = Instant::now();
    let received = jiff::Timestamp::now();
    let id = audit_id(request.headers());
    let query = Query::parse(request.uri().query().unwrap_or(""));
    if !super::query::is_encoded(request.uri().path()) {
        let mut answer = respond::text(400, "400 Bad Request");
        answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        return answer;
    }
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    let streams = is_long_running(&info);
    let watches = info.verb == "watch";
    let gzip = accepts_gzip(request.headers()) && !streams;
    let headers = request.headers().clone();
    let limit = match query.timeout() {
        _ if streams => core.config.request_timeout,
        Ok(given) => given
            .filter(|t| !t.is_zero())
            .map_or(core.config.request_timeout, |t| t.min(core.config.request_timeout)),
        Err(status) => {
            if let Some(auditor) = &core.auditor {
                let (uri, address) = (request.uri(), caller.address());
                let head = Head { id: &id, info: &info, uri, headers: &headers, address, received };
                Audit::refused(auditor, &head, &status).await;
            }
            return respond::status(&status, &headers, false);
        }
    };
    // outlives the work, which the timeout may drop
    let audited = parking_lot::Mutex::new(Audit::default());
    let work = async {
        let mut warnings = Vec::new();
        let result = identified(&core, &caller, &mut request, &info, &id, received, &audited, &mut warnings);
        let user = match result.await {
            Ok(user) => user,
            Err(status) => return respond::status(&status, &headers, false),
        };
        let audit = audited.lock().clone();
        let turn = match turn(&core, &info, &user, &query, limit).await {
            Ok(turn) => turn,
            Err(refused) => {
                core.metrics.requests.dropped(request.method().as_str(), &info, &query);
                return refused;
            }
        };
        if let Err(status) = crate::authz::permit(&core, &user, &info, &query, &audit).await {
            return turn.over(respond::status(&status, &headers, false), streams);
        }
        let mut told = Told::new(&core, &request, &info, &query);
        (told.began, told.waited) = (began, turn.waited());
        let lasting = if streams { told.lasting() } else { None };
        let routed = super::routes::route(&core, user, info, query, request, &audit, &mut warnings);
        let mut answer = match AssertUnwindSafe(routed).catch_unwind().await {
            Ok(result) => result.unwrap_or_else(|status| {
                // only what answers for resources speaks CBOR
                let cbor = core.cbor && !status.details.as_ref().is_some_and(|d| *d == Default::default());
                respond::status(&status, &headers, cbor)
            }),
            Err(panic) => {
                audit.panicked(panic_text(&*panic));
                *audited.lock() = Audit::default();
                std::panic::resume_unwind(panic)
            }
        };
        respond::warn(&mut answer, &warnings);
        told.code = answer.status().as_u16();
        let answer = turn.over(answer, streams);
        measured(answer, told, lasting)
    };
    let answer = if streams {
        work.await
    } else {
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => out_of_time(),
        }
    };
    let mut answer = audited.into_inner().respond(answer, streams).await;
    if streams {
        answer.extensions_mut().insert(if watches { Lasts::Watch } else { Lasts::Stream });
    }
    if let Ok(id) = id.parse() {
        answer.headers_mut().insert("audit-id", id);
    }
    if gzip { super::gzip::maybe(answer) } else { answer }
}

/// The handler is not waited for, and upstream's timeout writes the bare inner form of the Status.
fn out_of_time() -> Answer {
    let body = r#"{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout","reason":"Timeout","details":{},"code":504}"#;
    respond::bytes(504, "text/plain; charset=utf-8", format!("{body}\n"))
}

/// What metrics will be told of a request when its answer has been sent.
struct Told {
    metrics: Arc<Metrics>,
    /// None where no route took the request: there is nothing to name it by.
    known: Option<Arc<Known>>,
    began: Instant,
    waited: Duration,
    code: u16,
    size: usize,
}

impl Told {
    fn new(core: &Core, request: &Request<Incoming>, info: &RequestInfo, query: &Query) -> Self {
        let named = if info.is_resource {
            core.kinds.now().find(&info.group, &info.version, &info.resource).is_some()
        } else {
            matches!(info.path.as_str(), "/healthz" | "/livez" | "/readyz" | "/flagz" | "/statusz")
        };
        let content = request.headers().get(http::header::CONTENT_TYPE);
        let applies = content.is_some_and(|c| c.as_bytes().starts_with(b"application/apply-patch"));
        let requests = &core.metrics.requests;
        Self {
            metrics: core.metrics.clone(),
            known: named.then(|| requests.known(request.method().as_str(), applies, info, query)),
            began: Instant::now(),
            waited: Duration::ZERO,
            code: 0,
            size: 0,
        }
    }

    fn lasting(&self) -> Option<Lasting> {
        Some(self.metrics.requests.lasting(self.known.as_ref()?))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let (Some(known), 1..) = (&self.known, self.code) {
            let seen =
                Seen { code: self.code, took: self.began.elapsed(), waited: self.waited, size: self.size };
            self.metrics.requests.seen(known, seen);
        }
    }
}

/// Counts what is sent, and tells it when that is all.
fn measured(answer: Answer, mut told: Told, lasting: Option<Lasting>) -> Answer {
    let (head, body) = answer.into_parts();
    let body = match body {
        Body::Stream(stream) => {
            let counted = futures_util::StreamExt::inspect(stream, move |block| {
                // the whole of both is kept until the stream is dropped
                let (_, told) = (&lasting, &mut told);
                told.size += block.as_ref().map_or(0, bytes::Bytes::len);
            });
            Body::stream(counted)
        }
        Body::Full(bytes) => {
            told.size = bytes.as_ref().map_or(0, bytes::Bytes::len);
            Body::Full(bytes)
        }
    };
    Answer::from_parts(head, body)
}

/// A request whose turn it is (or that needs none: a stream other than a watch).
struct Turn(Option<Entered>);

/// Waits for the request's turn; the error is the answer that sends it away.
async fn turn(
    core: &Core,
    info: &RequestInfo,
    user: &User,
    query: &Query,
    limit: Duration,
) -> Result<Turn, Answer> {
    if is_long_running(info) && info.verb != "watch" {
        return Ok(Turn(None));
    }
    let home = || {
        let map = core.kinds.now();
        let resource = map.find(&info.group, &info.version, &info.resource)?;
        resource.home.clone()
    };
    let stored = || home().map(|home| home.cache.stored());
    let watches = || home().map_or(0, |home| home.cache.watching(&info.namespace, &info.name));
    // a quarter of its time may be spent waiting
    let patience = (limit / 4).min(Duration::from_secs(60));
    match core.flow.enter(Digest { info, user, query }, patience, stored, watches).await {
        Ok(entered) => Ok(Turn(Some(entered))),
        Err(Rejected { matched, retry_after }) => {
            let mut answer = respond::text(429, "Too many requests, please try again later.\n");
            answer.headers_mut().insert(http::header::RETRY_AFTER, retry_after.into());
            show(&mut answer, matched.as_ref());
            Err(answer)
        }
    }
}

impl Turn {
    fn waited(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |entered| entered.waited)
    }

    /// The answer is there. A stream of the request's own result takes its seats until it ends, a watch does not.
    fn over(self, mut answer: Answer, streams: bool) -> Answer {
        let Some(entered) = self.0 else { return answer };
        show(&mut answer, entered.matched.as_ref());
        if streams || !matches!(answer.body(), Body::Stream(_)) {
            return answer;
        }
        let (head, body) = answer.into_parts();
        Answer::from_parts(head, body.holding(entered))
    }
}

/// Names the schema and the level by their uids, which tell a client nothing that it should not know.
fn show(answer: &mut Answer, matched: Option<&(HeaderValue, HeaderValue)>) {
    let Some((schema, level)) = matched else { return };
    let headers = answer.headers_mut();
    headers.insert("x-kubernetes-pf-flowschema-uid", schema.clone());
    headers.insert("x-kubernetes-pf-prioritylevel-uid", level.clone());
}

/// Authenticates and lets act as somebody else: who the request is from.
async fn identified(
    core: &Arc<Core>,
    caller: &Caller,
    request: &mut Request<Incoming>,
    info: &RequestInfo,
    id: &str,
    received: jiff::Timestamp,
    audited: &parking_lot::Mutex<Audit>,
    warnings: &mut Vec<String>,
) -> Result<Arc<User>, Status> {
    // whatever was acknowledged before counts for all that follows: roles, namespaces, quotas, the object itself
    core.fresh().await?;
    let began = Instant::now();
    let identified = match caller {
        Caller::Trusted(user) => Ok(user.clone()),
        Caller::Remote(peer) => {
            let found = authenticate(core, peer, request.headers_mut(), &info.path, warnings).await;
            found.map(Arc::new)
        }
    };
    core.metrics.access.authenticated(identified.as_deref().ok(), began.elapsed());
    let mut audit = Audit::default();
    if let Some(auditor) = &core.auditor {
        let (uri, headers) = (request.uri(), request.headers());
        let head = Head { id, info, uri, headers, address: caller.address(), received };
        match &identified {
            Ok(user) => audit = Audit::begin(auditor, &head, user).await?,
            Err(why) => Audit::refused(auditor, &head, why).await,
        }
    }
    *audited.lock() = audit.clone();
    let user = identified?;
    crate::authn::impersonate(core, user, request.headers_mut(), info, &audit).await
}

/// The id that the client gave the request, or a new one.
fn audit_id(headers: &http::HeaderMap) -> String {
    const LONGEST: usize = 64;
    let given = headers.get("audit-id").and_then(|v| v.to_str().ok()).unwrap_or("");
    match given {
        "" => crate::registry::fields::new_uid(),
        id => id.chars().take(LONGEST).collect(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("?")
}

/// Watches and streams are not subject to the request timeout.
pub fn is_long_running(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "watch" | "proxy")
        || matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

pub fn accepts_gzip(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|c| c.trim().split(';').next().is_some_and(|name| name == "gzip")))
}
