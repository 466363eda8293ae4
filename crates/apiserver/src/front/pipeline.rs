//! One request from its head to its answer: who, may they, do it; a panic in it stays in it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::Request;
use machinery::Status;

use super::body::Incoming;
use super::respond::{self, Answer};
use super::{Query, RequestInfo};
use crate::authn::{Peer, User};
use crate::server::Core;

/// Where a request comes from.
#[derive(Clone)]
pub enum Caller {
    /// In process: the identity is given.
    Trusted(Arc<User>),
    /// From a connection: it must prove who it is.
    Remote(Arc<Peer>),
}

/// Answers a request. Never panics, and never takes longer than the request timeout unless it is a stream.
pub async fn answer(core: Arc<Core>, caller: Caller, request: Request<Incoming>) -> Answer {
    let what = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(process(core, caller, request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("?");
            tracing::error!(request = %what, panic = %text, "a request panicked");
            respond::text(500, "This request caused apiserver to panic. Look in the logs for details.\n")
        }
    }
}

async fn process(core: Arc<Core>, caller: Caller, mut request: Request<Incoming>) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    let streams = is_long_running(&info);
    let gzip = accepts_gzip(request.headers()) && !streams;
    let headers = request.headers().clone();
    let limit = match query.timeout() {
        Ok(given) if !streams => given
            .filter(|t| !t.is_zero())
            .map_or(core.config.request_timeout, |t| t.min(core.config.request_timeout)),
        Ok(_) => core.config.request_timeout,
        Err(status) => return respond::status(&status, &headers),
    };
    let work = async {
        // whatever was acknowledged before counts for all that follows: roles, namespaces, quotas, the object itself
        if let Err(status) = core.fresh().await {
            return respond::status(&status, &headers);
        }
        let user = match identify(&core, &caller, &mut request).await {
            Ok(user) => user,
            Err(status) => return respond::status(&status, &headers),
        };
        let user = match crate::authn::impersonate(&core, user, request.headers()).await {
            Ok(user) => user,
            Err(status) => return respond::status(&status, &headers),
        };
        if let Err(status) = crate::authz::permit(&core, &user, &info) {
            return respond::status(&status, &headers);
        }
        let mut warnings = Vec::new();
        let result = super::routes::route(&core, user, info, query, request, &mut warnings).await;
        let mut answer = result.unwrap_or_else(|status| respond::status(&status, &headers));
        respond::warn(&mut answer, &warnings);
        answer
    };
    let answer = if streams {
        work.await
    } else {
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = "Timeout: request did not complete within the allotted timeout".to_owned();
                respond::status(&Status::new(504, "Timeout", message), &headers)
            }
        }
    };
    if gzip { super::gzip::maybe(answer) } else { answer }
}

async fn identify(
    core: &Arc<Core>,
    caller: &Caller,
    request: &mut Request<Incoming>,
) -> Result<Arc<User>, Status> {
    match caller {
        Caller::Trusted(user) => Ok(user.clone()),
        Caller::Remote(peer) => {
            let user = crate::authn::authenticate(core, peer, request.headers_mut()).await?;
            Ok(Arc::new(user))
        }
    }
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
