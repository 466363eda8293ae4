//! Service-account tokens: what is in them, and whether they still hold.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::{Get, Status, Value, json, meta};

use super::{Proof, User};
use crate::server::Core;

/// Tokens of clients that ask for an hour live a year, so that old clients have time to learn to reload them.
const EXTENDED: i64 = 365 * 24 * 3600;
/// The seconds that the projected volumes of pods ask for.
const WARN_ONLY: i64 = 3607;

/// A minute of grace for clocks that differ, and for clients of things that are being deleted.
const LEEWAY: i64 = 60;

/// Whose token it is, if it is signed by us, in time, for one of the audiences, and its account (and what it is bound to)
/// is still there. None if it is no token of ours; else what is wrong with it.
pub async fn authenticate(
    core: &Arc<Core>,
    token: &str,
    audiences: &[String],
) -> Result<Option<Proof>, String> {
    let ours = pki::token::unverified_claims(token)
        .is_some_and(|claims| core.config.issuers.iter().any(|i| i == claims.text("iss")));
    if !ours {
        return Ok(None);
    }
    let Some(claims) = core.authn.verifier.verify(token) else {
        return Err("invalid signature, no keys found".to_owned());
    };
    let common = common_audiences(core, &claims, audiences)?;
    in_time(&claims, Timestamp::now().as_second())?;
    core.fresh().await.map_err(|status| status.message)?;
    let user = bound_user(core, claims.at("kubernetes.io"), claims.text("jti"))?;
    Ok(Some(Proof { user, audiences: common }))
}

/// The audiences that both the token and the asker know.
pub fn common_audiences(core: &Core, claims: &Value, asked: &[String]) -> Result<Vec<String>, String> {
    let mut theirs: Vec<String> = match claims.at("aud") {
        Value::String(one) => vec![one.clone()],
        other => {
            other.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    if theirs.is_empty() {
        theirs = core.config.api_audiences().to_vec();
    }
    let common: Vec<String> = asked.iter().filter(|a| theirs.contains(a)).cloned().collect();
    if !common.is_empty() {
        return Ok(common);
    }
    let list =
        |items: &[String]| items.iter().map(|i| machinery::field::go_quote(i)).collect::<Vec<_>>().join(" ");
    Err(format!("token audiences [{}] is invalid for the target audiences [{}]", list(&theirs), list(asked)))
}

fn in_time(claims: &Value, now: i64) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("service account token {why}"));
    if claims.int("nbf").is_some_and(|nbf| now + LEEWAY < nbf) {
        return wrong("is not valid yet");
    }
    if claims.int("exp").is_some_and(|exp| now - LEEWAY > exp) {
        return wrong("has expired");
    }
    if claims.int("iat").is_some_and(|iat| now + LEEWAY < iat) {
        return wrong("is issued in the future");
    }
    Ok(())
}

pub fn find(core: &Core, resource: &str, key: &str) -> Option<Value> {
    let resource = core.kinds.now().find("", "v1", resource)?;
    Some(resource.home.as_ref()?.cache.get(key)?.parse())
}

fn bound_user(core: &Core, claims: &Value, id: &str) -> Result<User, String> {
    let namespace = claims.text("namespace");
    let account = claims.at("serviceaccount");
    let name = account.text("name");
    let live = find(core, "serviceaccounts", &format!("{namespace}/{name}"))
        .ok_or_else(|| format!("serviceaccounts {} not found", machinery::field::go_quote(name)))?;
    if meta::uid(&live) != account.text("uid") {
        let (live, claim) = (meta::uid(&live), account.text("uid"));
        return Err(format!("service account UID ({live}) does not match claim ({claim})"));
    }
    if gone(&live) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if !id.is_empty() {
        let id = format!("JTI={id}");
        extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
    }
    for (claim, resource, namespaced) in
        [("secret", "secrets", true), ("pod", "pods", true), ("node", "nodes", false)]
    {
        let bound = claims.at(claim);
        if !bound.is_object() {
            continue;
        }
        let (name, uid) = (bound.text("name"), bound.text("uid"));
        if claim != "secret" {
            let key = |what: &str| format!("authentication.kubernetes.io/{claim}-{what}");
            extra.insert(key("name"), vec![name.to_owned()]);
            if !uid.is_empty() {
                extra.insert(key("uid"), vec![uid.to_owned()]);
            }
        }
        // a node named beside a pod only informs
        if claim == "node" && claims.at("pod").is_object() {
            continue;
        }
        let key = if namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        let invalidated = || "service account token has been invalidated".to_owned();
        let live = find(core, resource, &key).ok_or_else(invalidated)?;
        if meta::uid(&live) != uid {
            let live = meta::uid(&live);
            return Err(format!(
                "{claim} UID ({live}) does not match service account {claim} ref claim ({uid})"
            ));
        }
        if gone(&live) {
            return Err(invalidated());
        }
    }
    Ok(service_account(namespace, name, account.text("uid")).with_extra(extra))
}

/// The user that a service account is.
pub fn service_account(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..User::default()
    }
}

fn gone(object: &Value) -> bool {
    let at = object.at("metadata").text("deletionTimestamp");
    !at.is_empty()
        && at.parse::<Timestamp>().is_ok_and(|at| Timestamp::now().as_second() > at.as_second() + LEEWAY)
}

/// A token that was made.
pub struct Issued {
    pub token: String,
    pub until: Timestamp,
    pub credential_id: String,
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

/// A signed token, when its client is to renew it, and the id that it goes by in logs.
pub fn issue(core: &Core, wish: &Wish, now: Timestamp) -> Result<Issued, Status> {
    let signer = core
        .authn
        .signer
        .as_ref()
        .ok_or_else(|| Status::internal("no key to sign service account tokens with"))?;
    let start = now.as_second();
    let reference = |object: &Value| match meta::uid(object) {
        // a node that is not there
        "" => json!({"name": meta::name(object)}),
        uid => json!({"name": meta::name(object), "uid": uid}),
    };
    let mut inner = json!({"namespace": wish.namespace, "serviceaccount": reference(wish.account)});
    let mut lives = wish.seconds;
    match &wish.bound {
        Some(("Pod", pod)) => {
            inner["pod"] = reference(pod);
            if let Some(node) = &wish.node {
                inner["node"] = reference(node);
            }
            let audiences = core.config.api_audiences();
            let plain = wish.audiences.iter().all(|a| audiences.contains(a));
            if core.config.access.extend_token_expiration && wish.seconds == WARN_ONLY && plain {
                inner["warnafter"] = (start + wish.seconds).into();
                lives = EXTENDED;
            }
        }
        Some(("Secret", secret)) => inner["secret"] = reference(secret),
        Some(("Node", node)) => inner["node"] = reference(node),
        _ => {}
    }
    let id = crate::registry::fields::new_uid();
    let claims = json!({
        "iss": core.config.issuers.first().map_or("", String::as_str),
        "sub": format!("system:serviceaccount:{}:{}", wish.namespace, meta::name(wish.account)),
        "aud": wish.audiences,
        "iat": start,
        "nbf": start,
        "exp": start + lives,
        "jti": id,
        "kubernetes.io": inner,
    });
    let token = signer.sign(&claims).map_err(Status::internal)?;
    let until = Timestamp::from_second(start + wish.seconds).unwrap_or(now);
    Ok(Issued { token, until, credential_id: format!("JTI={id}") })
}
