//! Who asks, and whether they may.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>.

use http::{Method, Request, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::{Api, PostParams};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// How long answers of the API server are believed.
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
const TOKEN_FOR: Duration = Duration::from_secs(120);
/// Entries of each cache; beyond that it begins anew.
const CACHE: usize = 1000;

/// A user as authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// The subject of a verified client certificate.
    pub fn of_certificates(chain: Option<&[CertificateDer<'_>]>) -> Option<Caller> {
        let identity = pki::identity(chain?.first()?).ok()?;
        if identity.common_name.is_empty() {
            return None;
        }
        let mut groups = identity.organizations;
        groups.push("system:authenticated".into());
        Some(Caller { name: identity.common_name, groups, ..Caller::default() })
    }
}

type Verdicts = HashMap<(Caller, &'static str, Vec<&'static str>), (bool, Instant)>;

/// The door.
pub struct Access {
    client: kube::Client,
    node: String,
    tokens: Mutex<HashMap<String, (Option<Caller>, Instant)>>,
    verdicts: Mutex<Verdicts>,
}

type Refused = (StatusCode, String);

fn within(path: &str, root: &str) -> bool {
    path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// The subresources of `nodes` any of which lets a request pass, the narrowest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let mut list = vec![];
    if within(path, "/pods") || within(path, "/runningpods") {
        list.push("pods");
    } else if within(path, "/healthz") {
        list.push("healthz");
    } else if within(path, "/configz") {
        list.push("configz");
    }
    list.push(if within(path, "/stats") {
        "stats"
    } else if within(path, "/metrics") {
        "metrics"
    } else if within(path, "/logs") {
        "log"
    } else if within(path, "/checkpoint") {
        "checkpoint"
    } else if within(path, "/statusz") {
        "statusz"
    } else if within(path, "/flagz") {
        "configz"
    } else {
        "proxy"
    });
    list
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

impl Access {
    pub fn new(client: kube::Client, node: String) -> Self {
        Access { client, node, tokens: Mutex::default(), verdicts: Mutex::default() }
    }

    /// Lets a request in or says why not.
    pub async fn admit<B>(&self, caller: Option<Caller>, request: &Request<B>) -> Result<(), Refused> {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let caller = match caller {
            Some(caller) => caller,
            None => self.by_token(request).await?.ok_or_else(unauthorized)?,
        };
        let (verb, names) = (verb(request.method()), subresources(request.uri().path()));
        if self.may(&caller, verb, &names).await? {
            return Ok(());
        }
        let attributes = names.iter().map(|n| format!("subresource={n}")).collect::<Vec<_>>().join(", ");
        let (user, node) = (&caller.name, &self.node);
        Err((
            StatusCode::FORBIDDEN,
            format!("Forbidden (user={user}, verb={verb}, resource=nodes, name={node}, {attributes})"),
        ))
    }

    async fn by_token<B>(&self, request: &Request<B>) -> Result<Option<Caller>, Refused> {
        let header = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some(token) =
            header.and_then(|h| h.strip_prefix("Bearer ")).map(str::trim).filter(|t| !t.is_empty())
        else {
            return Ok(None);
        };
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        if let Some((caller, until)) = known
            && Instant::now() < until
        {
            return Ok(caller);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..Default::default() },
            ..Default::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        let status = answer.status.unwrap_or_default();
        let caller = status.user.filter(|_| status.authenticated == Some(true)).map(|user| Caller {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= CACHE {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (caller.clone(), Instant::now() + TOKEN_FOR));
        Ok(caller)
    }

    async fn may(
        &self,
        caller: &Caller,
        verb: &'static str,
        names: &[&'static str],
    ) -> Result<bool, Refused> {
        let key = (caller.clone(), verb, names.to_vec());
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((allowed, until)) = known
            && Instant::now() < until
        {
            return Ok(allowed);
        }
        let mut allowed = false;
        for name in names {
            allowed = self.review(caller, verb, name).await?.allowed;
            if allowed {
                break;
            }
        }
        let until = Instant::now() + if allowed { ALLOWED_FOR } else { DENIED_FOR };
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= CACHE {
            verdicts.clear();
        }
        verdicts.insert(key, (allowed, until));
        Ok(allowed)
    }

    async fn review(
        &self,
        caller: &Caller,
        verb: &str,
        name: &str,
    ) -> Result<SubjectAccessReviewStatus, Refused> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.name.clone()),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: (!caller.extra.is_empty()).then(|| caller.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(name.to_owned()),
                    name: Some(self.node.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        Ok(answer.status.unwrap_or_default())
    }
}

fn unavailable(error: kube::Error) -> Refused {
    tracing::warn!(%error, "asking the API server about a caller failed");
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal Error".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowest_right_first() {
        for (path, expected) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/podsx", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/logs/", &["log"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }
}
