//! What a request is about, as authorization and routing see it (upstream's `RequestInfo`).

use http::Method;
use percent_encoding::percent_decode_str;

use super::Query;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// The path without its query, percent-decoded.
    pub path: String,
    /// Lower case: `get`, `list`, `watch`, `create`, …; for other paths the HTTP method.
    pub verb: String,
    /// `api` or `apis`.
    pub prefix: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The path from the resource on.
    pub parts: Vec<String>,
}

/// Subresources of namespaces, which are not resources within a namespace.
const NAMESPACE_SUBRESOURCES: &[&str] = &["status", "finalize"];

impl RequestInfo {
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
        let mut info =
            Self { verb: method.as_str().to_ascii_lowercase(), path: decoded.clone(), ..Self::default() };
        let trimmed = decoded.trim_matches('/');
        let mut parts: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        if parts.len() < 3 || !matches!(parts[0], "api" | "apis") {
            return info;
        }
        info.prefix = parts.remove(0).to_owned();
        if info.prefix == "apis" {
            if parts.len() < 3 {
                return info;
            }
            info.group = parts.remove(0).to_owned();
        }
        info.is_resource = true;
        info.version = parts.remove(0).to_owned();
        if matches!(parts[0], "proxy" | "watch") {
            if parts.len() < 2 {
                info.verb = parts[0].to_owned();
                info.is_resource = true;
                return info;
            }
            info.verb = parts.remove(0).to_owned();
        } else {
            info.verb = match *method {
                Method::POST => "create",
                Method::GET | Method::HEAD => "get",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "",
            }
            .to_owned();
        }
        if parts[0] == "namespaces" {
            if parts.len() > 1 {
                info.namespace = parts[1].to_owned();
                if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2]) {
                    parts.drain(..2);
                }
            }
        }
        info.parts = parts.iter().map(|p| (*p).to_owned()).collect();
        info.resource = parts.first().copied().unwrap_or_default().to_owned();
        info.name = parts.get(1).copied().unwrap_or_default().to_owned();
        info.subresource = parts.get(2).copied().unwrap_or_default().to_owned();
        if info.name.is_empty() && info.verb == "get" {
            info.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Some(name) = selected_name(query)
        {
            info.name = name;
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".to_owned();
        }
        info
    }
}

/// The name that a field selector asks for, if it is one that a path could have.
fn selected_name(query: &Query) -> Option<String> {
    let selector = machinery::select::FieldSelector::parse(query.get("fieldSelector")?).ok()?;
    let name = selector.exact("metadata.name")?.to_owned();
    (!name.is_empty() && !name.contains('/') && !name.contains('%') && name != "." && name != "..")
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, want: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::new(&method.parse().unwrap(), path, &Query::parse(query));
        let got = [
            &info.verb,
            &info.group,
            &info.version,
            &info.namespace,
            &info.resource,
            &info.subresource,
            &info.name,
        ]
        .map(|s| if s.is_empty() { "-" } else { s })
        .join(" ");
        assert_eq!(got, want, "{uri}");
        assert_eq!(info.is_resource, info.version != "", "{uri}");
    }

    #[test]
    fn reads_paths_as_upstream() {
        check("GET", "/api/v1/namespaces", "list - v1 - namespaces - -");
        check("GET", "/api/v1/namespaces/x", "get - v1 x namespaces - x");
        check("PUT", "/api/v1/namespaces/x/finalize", "update - v1 x namespaces finalize x");
        check("GET", "/api/v1/namespaces/x/pods", "list - v1 x pods - -");
        check("GET", "/api/v1/namespaces/x/pods?watch=1", "watch - v1 x pods - -");
        check("GET", "/api/v1/namespaces/x/pods/y/log", "get - v1 x pods log y");
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/x/deployments",
            "deletecollection apps v1 x deployments - -",
        );
        check("GET", "/api/v1/watch/namespaces/x/pods/y", "watch - v1 x pods - y");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da", "list - v1 - pods - a");
        check("POST", "/apis", "post - - - - - -");
    }
}
