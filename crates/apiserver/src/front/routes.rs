//! From a request to the code that answers it.

use std::sync::Arc;

use http::{Method, Request};
use machinery::Status;

use super::body::Incoming;
use super::respond::{self, Answer, generic};
use super::{Query, RequestInfo, health, zpages};
use crate::authn::User;
use crate::discovery;
use crate::registry::{self, Call};
use crate::server::Core;

/// Routes and answers. Warnings are gathered also when it fails.
pub async fn route(
    core: &Arc<Core>,
    user: Arc<User>,
    info: RequestInfo,
    query: Query,
    request: Request<Incoming>,
    audit: &crate::audit::Audit,
    warnings: &mut Vec<String>,
) -> Result<Answer, Status> {
    let request = match crate::aggregation::intercept(core, &user, request).await {
        Ok(answer) => return answer,
        Err(request) => request,
    };
    if let Some(removed) = crate::removed::wanted(core, &info) {
        return crate::removed::answer(core, user, removed, &info, request, audit, warnings).await;
    }
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with("//") {
        return Ok(respond::not_found_text());
    }
    if !info.is_resource {
        return other(core, &info, &query, &head, body, &user).await;
    }
    let map = core.kinds.now();
    let Some(resource) = map.find(&info.group, &info.version, &info.resource) else {
        if let Some(answer) = crate::crd::not_yet(core, &info) {
            return answer;
        }
        let builtin = |g: &&crate::kinds::GroupOrder| g.name == info.group && !g.custom;
        let known = info.prefix == "api" || map.groups.iter().any(|g| builtin(&g));
        return if known { Err(generic(404)) } else { Ok(respond::not_found_text()) };
    };
    let resource_is_namespace = info.resource == "namespaces" && info.group.is_empty();
    let namespace = if resource_is_namespace { "" } else { info.namespace.as_str() };
    if !resource.namespaced && !namespace.is_empty() {
        return Err(generic(404));
    }
    if info.parts.len() > 3 && info.subresource != "proxy" {
        return Err(generic(404));
    }
    let verb = action(&head.method, &info);
    if !info.subresource.is_empty() {
        let Some(sub) = resource.subresource(&info.subresource) else {
            let Some(custom) = &resource.custom else { return Err(generic(404)) };
            warnings.extend(custom.deprecation.clone());
            return Err(Status::not_found(&resource.group_resource(), &info.name));
        };
        if resource.namespaced && namespace.is_empty() {
            return Err(generic(404));
        }
        let proxies = info.subresource == "proxy";
        if !proxies && !verb.is_some_and(|verb| sub.verbs.iter().any(|v| v == verb)) {
            return Err(generic(405));
        }
    } else {
        let nowhere = resource.namespaced && namespace.is_empty();
        if nowhere && info.parts.len() > 1 && verb != Some("watch") {
            return if resource.custom.is_some() { Ok(respond::not_found_text()) } else { Err(generic(404)) };
        }
        if !verb.is_some_and(|verb| resource.allows(verb) && (!nowhere || matches!(verb, "list" | "watch"))) {
            return Err(generic(405));
        }
    }
    let verb = verb.unwrap_or("");
    let mut call = Call {
        core: core.clone(),
        namespace: namespace.to_owned(),
        resource,
        query,
        headers: head.headers,
        method: head.method,
        uri: head.uri,
        extensions: head.extensions,
        user,
        audit: audit.clone(),
        warnings: Vec::new(),
        now: jiff::Timestamp::now(),
        info,
    };
    if let Some(text) = deprecation(&call) {
        let removed = text.rsplit_once("unavailable in v").map_or("", |(_, release)| release);
        core.metrics.requests.deprecated(&call.info, removed.trim_end_matches('+'));
        call.warnings.push(text);
    }
    let result = if call.info.subresource.is_empty() {
        registry::run(&mut call, verb, body).await
    } else {
        crate::subresource::run(&mut call, verb, body).await
    };
    warnings.append(&mut call.warnings);
    result
}

/// What the route for this method does; none where the path has other methods only.
fn action(method: &Method, info: &RequestInfo) -> Option<&'static str> {
    let named = info.parts.len() > 1;
    Some(match *method {
        Method::GET if info.subresource.is_empty() && info.verb == "watch" => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST if !named || !info.subresource.is_empty() => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return None,
    })
}

/// (group, version, kind or "" for all, deprecated in, gone in) of what is deprecated at this version.
const DEPRECATED: &[(&str, &str, &str, u8, u8)] = &[
    ("admissionregistration.k8s.io", "v1alpha1", "", 35, 38),
    ("certificates.k8s.io", "v1alpha1", "", 34, 37),
    ("coordination.k8s.io", "v1alpha2", "", 35, 38),
    ("coordination.k8s.io", "v1beta1", "", 36, 39),
    ("networking.k8s.io", "v1beta1", "", 34, 37),
    ("resource.k8s.io", "v1alpha3", "DeviceTaintRule", 36, 39),
    ("resource.k8s.io", "v1beta1", "", 35, 38),
    ("resource.k8s.io", "v1beta2", "DeviceClass", 36, 39),
    ("resource.k8s.io", "v1beta2", "ResourceClaim", 36, 39),
    ("resource.k8s.io", "v1beta2", "ResourceClaimTemplate", 36, 39),
    ("resource.k8s.io", "v1beta2", "ResourceSlice", 36, 39),
    ("storage.k8s.io", "v1beta1", "", 34, 37),
];

fn deprecation(call: &Call) -> Option<String> {
    let resource = &call.resource;
    let (group, version, kind) = (resource.group.as_str(), resource.version.as_str(), resource.kind.as_str());
    if let Some(custom) = &resource.custom {
        return custom.deprecation.clone();
    }
    match (group, kind) {
        ("", "ComponentStatus") => return Some("v1 ComponentStatus is deprecated in v1.19+".to_owned()),
        ("", "Endpoints") => {
            return Some(
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned(),
            );
        }
        _ => {}
    }
    let (.., since, until) = DEPRECATED
        .iter()
        .find(|(g, v, k, ..)| *g == group && *v == version && (k.is_empty() || *k == kind))?;
    Some(format!("{group}/{version} {kind} is deprecated in v1.{since}+, unavailable in v1.{until}+"))
}

fn metrics_page(text: String) -> Answer {
    respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", text)
}

async fn other(
    core: &Arc<Core>,
    info: &RequestInfo,
    query: &Query,
    head: &http::request::Parts,
    body: Incoming,
    user: &User,
) -> Result<Answer, Status> {
    let path = info.path.as_str();
    let _ = body;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if let Some(page) = zpages::Page::at(core, path) {
        return Ok(zpages::answer(core, page, query.get("pretty"), &head.headers));
    }
    match parts[..] {
        [""] => Ok(discovery::root(core)),
        ["version"] => match head.method {
            Method::GET => Ok(respond::bytes(200, "application/json", core.version_json())),
            _ => Err(generic(405)),
        },
        ["healthz" | "livez" | "readyz", ..] => Ok(health::answer(core, &parts, query)),
        ["openapi", "v2"] if path.ends_with('/') => Ok(respond::not_found_text()),
        ["api"] | [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"]
            if head.method != Method::GET =>
        {
            Err(generic(405))
        }
        ["api"] => discovery::api(core, head),
        ["apis"] => discovery::apis(core, head),
        ["api", version] => discovery::version(core, "", version, head),
        ["apis", group] => discovery::group(core, group, head),
        ["apis", group, version] => discovery::version(core, group, version, head),
        ["api", ..] => Err(generic(404)),
        ["openapi", ..] => discovery::openapi::answer(core, &parts, query, head, user).await,
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => {
            crate::authn::oidc::answer(core, parts[0] == "openid", head)
        }
        ["debug", "api_priority_and_fairness", page] => {
            Ok(crate::flow::dump(&core.flow, page, query).unwrap_or_else(respond::not_found_text))
        }
        ["metrics"] => Ok(metrics_page(crate::metrics::page(core).await)),
        ["metrics", "slis"] => Ok(metrics_page(crate::metrics::slis(core))),
        _ => Ok(respond::not_found_text()),
    }
}
