//! Service-account tokens: what is in them, and whether they still hold.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::{Get, Status, Value, json, meta};

use super::User;
use crate::server::Core;

/// Tokens of clients that ask for an hour live a year, so that old clients have time to learn to reload them.
const EXTENDED: i64 = 365 * 24 * 3600;

/// The user of a token that is signed by us, in time, for one of the audiences, and whose account (and what it is
/// bound to) is still there.
pub async fn authenticate(core: &Arc<Core>, token: &str, audiences: &[String]) -> Option<User> {
    match token.matches('.').count() {
        2 => review(core, token, audiences).await.map(|(user, _)| user),
        1 if core.config.bootstrap_tokens => super::bootstrap_token::authenticate(core, token),
        _ => None,
    }
}

/// The same, with the audiences that both the token and the asker know.
pub async fn review(core: &Arc<Core>, token: &str, audiences: &[String]) -> Option<(User, Vec<String>)> {
    let claims = core.authn.verifier.verify(token)?;
    if !core.config.issuers.iter().any(|i| i == claims.text("iss")) {
        return None;
    }
    let now = Timestamp::now().as_second();
    // a minute of grace for clocks that differ
    if claims.int("exp").is_none_or(|exp| now >= exp) || claims.int("nbf").is_some_and(|nbf| now + 60 < nbf) {
        return None;
    }
    let theirs: Vec<&str> = match claims.at("aud") {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let common: Vec<String> = audiences.iter().filter(|a| theirs.contains(&a.as_str())).cloned().collect();
    if common.is_empty() {
        return None;
    }
    core.fresh().await.ok()?;
    let user = bound_user(core, claims.at("kubernetes.io"), claims.text("jti"))?;
    (user.name == claims.text("sub")).then_some((user, common))
}

/// What a review says of a token that does not hold.
pub fn why_not(core: &Core, token: &str, audiences: &[String]) -> String {
    let plain = "invalid bearer token".to_owned();
    let Some(claims) = core.authn.verifier.verify(token) else { return plain };
    let theirs: Vec<String> = match claims.at("aud") {
        Value::String(one) => vec![one.clone()],
        other => {
            other.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    if audiences.iter().any(|a| theirs.contains(a)) {
        return format!("[{plain}, service account token has been invalidated]");
    }
    let list =
        |items: &[String]| items.iter().map(|i| machinery::field::go_quote(i)).collect::<Vec<_>>().join(" ");
    format!(
        "[{plain}, token audiences [{}] is invalid for the target audiences [{}]]",
        list(&theirs),
        list(audiences)
    )
}

fn find(core: &Core, resource: &str, key: &str) -> Option<Value> {
    let resource = core.kinds.now().find("", "v1", resource)?;
    Some(resource.home.as_ref()?.cache.get(key)?.parse())
}

fn bound_user(core: &Core, claims: &Value, id: &str) -> Option<User> {
    let namespace = claims.text("namespace");
    let account = claims.at("serviceaccount");
    let live = find(core, "serviceaccounts", &format!("{namespace}/{}", account.text("name")))?;
    // deletion takes effect after a minute, so that clients of a dying namespace can still say goodbye
    if meta::uid(&live) != account.text("uid") || gone(&live) {
        return None;
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if !id.is_empty() {
        let id = format!("JTI={id}");
        extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
    }
    for (claim, resource, namespaced) in
        [("pod", "pods", true), ("secret", "secrets", true), ("node", "nodes", false)]
    {
        let bound = claims.at(claim);
        if !bound.is_object() {
            continue;
        }
        let name = bound.text("name");
        if claim != "secret" {
            let key = |what: &str| format!("authentication.kubernetes.io/{claim}-{what}");
            extra.insert(key("name"), vec![name.to_owned()]);
            extra.insert(key("uid"), vec![bound.text("uid").to_owned()]);
        }
        // a node named beside a pod only informs
        if claim == "node" && claims.at("pod").is_object() {
            continue;
        }
        let key = if namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        let live = find(core, resource, &key)?;
        if meta::uid(&live) != bound.text("uid") || gone(&live) {
            return None;
        }
    }
    let user = User {
        name: format!("system:serviceaccount:{namespace}:{}", account.text("name")),
        uid: account.text("uid").to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..User::default()
    };
    Some(user.with_extra(extra))
}

fn gone(object: &Value) -> bool {
    let at = object.at("metadata").text("deletionTimestamp");
    !at.is_empty()
        && at.parse::<Timestamp>().is_ok_and(|at| Timestamp::now().as_second() > at.as_second() + 60)
}

/// What a token is asked for.
pub struct Wish<'a> {
    pub namespace: &'a str,
    pub account: &'a Value,
    /// (kind, object) that the token is bound to.
    pub bound: Option<(&'a str, Value)>,
    /// The node of the pod that it is bound to.
    pub node: Option<Value>,
    pub audiences: Vec<String>,
    pub seconds: i64,
}

/// A signed token and when its client is to renew it.
pub fn issue(core: &Core, wish: &Wish, now: Timestamp) -> Result<(String, Timestamp), Status> {
    let signer = core
        .authn
        .signer
        .as_ref()
        .ok_or_else(|| Status::internal("no key to sign service account tokens with"))?;
    let start = now.as_second();
    let reference = |object: &Value| json!({"name": meta::name(object), "uid": meta::uid(object)});
    let mut inner = json!({"namespace": wish.namespace, "serviceaccount": reference(wish.account)});
    let mut lives = wish.seconds;
    let mut renewed_after = None;
    match &wish.bound {
        Some(("Pod", pod)) => {
            inner["pod"] = reference(pod);
            if let Some(node) = &wish.node {
                inner["node"] = reference(node);
            }
            let plain = wish.audiences == core.config.api_audiences();
            if wish.seconds == 3607 && plain {
                renewed_after = Some(start + wish.seconds);
                inner["warnafter"] = (start + wish.seconds).into();
                lives = EXTENDED;
            }
        }
        Some(("Secret", secret)) => inner["secret"] = reference(secret),
        Some(("Node", node)) => inner["node"] = reference(node),
        _ => {}
    }
    let claims = json!({
        "iss": core.config.issuers.first().map_or("", String::as_str),
        "sub": format!("system:serviceaccount:{}:{}", wish.namespace, meta::name(wish.account)),
        "aud": wish.audiences,
        "iat": start,
        "nbf": start,
        "exp": start + lives,
        "jti": crate::registry::fields::new_uid(),
        "kubernetes.io": inner,
    });
    let token = signer.sign(&claims).map_err(Status::internal)?;
    let until = Timestamp::from_second(renewed_after.unwrap_or(start + lives)).unwrap_or(now);
    Ok((token, until))
}
