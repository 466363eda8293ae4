//! Requests for remote group-versions, handed on.

use std::sync::Arc;

use http::Request;
use machinery::Status;

use super::Remote;
use super::backend::identify;
use crate::authn::User;
use crate::front::Incoming;
use crate::front::respond::{self, Answer};
use crate::server::Core;
use crate::subresource::connect::client::{Outgoing, exchange};

/// Answers the request if it is for a remote group-version, else gives it back.
pub async fn intercept(
    core: &Arc<Core>,
    user: &User,
    request: Request<Incoming>,
) -> Result<Result<Answer, Status>, Request<Incoming>> {
    let routes = core.aggregator.now();
    if routes.remotes.is_empty() {
        return Err(request);
    }
    let path = request.uri().path();
    let mut parts = path.trim_start_matches('/').split('/');
    let remote = match (parts.next(), parts.next(), parts.next()) {
        (Some("apis"), Some(group), Some(version)) => routes.find(group, version).cloned(),
        (Some("api"), Some(version), _) => routes.find("", version).cloned(),
        _ => None,
    };
    let Some(remote) = remote else { return Err(request) };
    Ok(Ok(forward(core, &remote, user, request).await))
}

/// The remote's own OpenAPI v3 document of a group-version.
pub async fn fetch_openapi(
    core: &Arc<Core>,
    path: &str,
    user: &User,
    head: &http::request::Parts,
) -> Option<Answer> {
    let ["apis", group, version] = path.split('/').collect::<Vec<_>>()[..] else { return None };
    let remote = core.aggregator.now().find(group, version)?.clone();
    remote.known.openapi.as_ref()?;
    let mut request = Request::new(crate::front::body::incoming(http_body_util::Empty::new()));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    Some(forward(core, &remote, user, request).await)
}

async fn forward(core: &Arc<Core>, remote: &Remote, user: &User, request: Request<Incoming>) -> Answer {
    let unavailable = || respond::text(503, "service unavailable\n");
    if !remote.available {
        return unavailable();
    }
    let backend = &remote.backend;
    let (host, port) = match backend.resolve(core) {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(api = %backend.name, %error, "can't find the service of an APIService");
            return unavailable();
        }
    };
    let stream = match backend.connect(core, &host, port).await {
        Ok(stream) => stream,
        Err(error) => return respond::text(503, format!("{error}\n")),
    };
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    for name in ["authorization", "impersonate-user", "impersonate-group", "impersonate-uid"] {
        head.headers.remove(name);
    }
    identify(&mut head.headers, user);
    let out = Outgoing {
        method: head.method,
        headers: head.headers,
        body,
        upgrade: head.extensions.remove::<hyper::upgrade::OnUpgrade>(),
    };
    let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match exchange(stream, &host, &path, out).await {
        Ok(answer) => answer,
        Err(status) => respond::text(503, format!("{}\n", status.message)),
    }
}
