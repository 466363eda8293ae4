//! Tokens that lie in Secrets for ever: made by the token controller for a Secret of type
//! `kubernetes.io/service-account-token`, and good as long as that Secret holds them.

use std::sync::Arc;

use base64::Engine;
use machinery::{Get, Value, json, meta};

use super::Proof;
use super::token::{common_audiences, find, service_account};
use crate::server::Core;

const ISSUER: &str = "kubernetes/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

pub async fn authenticate(
    core: &Arc<Core>,
    token: &str,
    audiences: &[String],
    warnings: &mut Vec<String>,
) -> Result<Option<Proof>, String> {
    let ours = pki::token::unverified_claims(token).is_some_and(|claims| claims.text("iss") == ISSUER);
    if !ours {
        return Ok(None);
    }
    let Some(claims) = core.authn.verifier.verify(token) else {
        return Err("invalid signature, no keys found".to_owned());
    };
    let common = common_audiences(core, &claims, audiences)?;
    core.fresh().await.map_err(|status| status.message)?;
    let names = Names::of(&claims)?;
    let secret = find(core, "secrets", &format!("{}/{}", names.namespace, names.secret));
    let account = find(core, "serviceaccounts", &format!("{}/{}", names.namespace, names.account));
    let (secret, warning) = judge(&names, token, secret, account.as_ref())?;
    warnings.extend(warning);
    mark_used(core, &names, &secret).await;
    let invalid = meta::labels(&secret).and_then(|l| l.get(INVALID_SINCE)).and_then(Value::as_str);
    if invalid.is_some_and(|since| !since.is_empty()) {
        let Names { namespace, secret, account, .. } = names;
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    let user = service_account(names.namespace, names.account, names.uid);
    Ok(Some(Proof { user, audiences: common }))
}

struct Names<'a> {
    namespace: &'a str,
    secret: &'a str,
    account: &'a str,
    uid: &'a str,
}

impl<'a> Names<'a> {
    fn of(claims: &'a Value) -> Result<Self, String> {
        let claim = |key: &str| claims.text(&format!("kubernetes.io/serviceaccount/{key}"));
        let names = Self {
            namespace: claim("namespace"),
            secret: claim("secret.name"),
            account: claim("service-account.name"),
            uid: claim("service-account.uid"),
        };
        for (value, name) in [
            (claims.text("sub"), "sub"),
            (names.namespace, "namespace"),
            (names.secret, "secretName"),
            (names.account, "serviceAccountName"),
            (names.uid, "serviceAccountUID"),
        ] {
            if value.is_empty() {
                return Err(format!("{name} claim is missing"));
            }
        }
        if claims.text("sub") != format!("system:serviceaccount:{}:{}", names.namespace, names.account) {
            return Err("sub claim is invalid".to_owned());
        }
        Ok(names)
    }
}

/// The live Secret, and a warning if it is one that nobody should use any more.
fn judge(
    names: &Names,
    token: &str,
    secret: Option<Value>,
    account: Option<&Value>,
) -> Result<(Value, Option<String>), String> {
    let invalidated = || "Token has been invalidated".to_owned();
    let secret = secret.filter(|s| !meta::is_deleting(s)).ok_or_else(invalidated)?;
    let held = base64::engine::general_purpose::STANDARD.decode(secret.at("data").text("token"));
    if held.unwrap_or_default() != token.as_bytes() {
        return Err("Token does not match server's copy".to_owned());
    }
    let account = account
        .ok_or_else(|| format!("serviceaccounts {} not found", machinery::field::go_quote(names.account)))?;
    if meta::is_deleting(account) {
        return Err(format!("ServiceAccount {}/{} has been deleted", names.namespace, names.account));
    }
    if meta::uid(account) != names.uid {
        let live = meta::uid(account);
        return Err(format!("ServiceAccount UID ({live}) does not match claim ({})", names.uid));
    }
    let generated = account.list("secrets").iter().any(|s| s.text("name") == names.secret);
    let warning = generated.then(|| {
        "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.".to_owned()
    });
    Ok((secret, warning))
}

/// Notes the day in a label, once a day.
async fn mark_used(core: &Arc<Core>, names: &Names<'_>, secret: &Value) {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let today = now.strftime("%Y-%m-%d").to_string();
    let noted = meta::labels(secret).and_then(|l| l.get(LAST_USED)).and_then(Value::as_str);
    if noted.is_some_and(|day| day >= today.as_str()) {
        return;
    }
    let Some(resource) = core.kinds.now().preferred("", "secrets") else { return };
    let mut call = core.internal_call(resource, "patch", names.namespace, names.secret);
    let options = crate::bootstrap::options();
    let uid = meta::uid(secret).to_owned();
    let request = crate::registry::UpdateRequest {
        options: &options,
        uid: None,
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let mut new = old.clone();
            if meta::uid(old) == uid {
                let metadata = new.child("metadata");
                if !metadata.at("labels").is_object() {
                    metadata.set("labels", json!({}));
                }
                metadata.child("labels").set(LAST_USED, today.as_str());
            }
            Ok(new)
        },
    };
    if let Err(status) = crate::registry::update_object(&mut call, request).await {
        tracing::warn!(secret = names.secret, error = %status.message, "can't note the use of a token");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_secret_holds_counts() {
        let claims = json!({"sub": "system:serviceaccount:n:a",
            "kubernetes.io/serviceaccount/namespace": "n",
            "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "a",
            "kubernetes.io/serviceaccount/service-account.uid": "u"});
        let names = Names::of(&claims).unwrap();
        let secret = || Some(json!({"metadata": {}, "data": {"token": "dA=="}}));
        let account = json!({"metadata": {"uid": "u"}, "secrets": [{"name": "s"}]});
        assert!(judge(&names, "t", secret(), Some(&account)).unwrap().1.is_some());
        let wrong =
            |token: &str, secret, account: Option<&Value>| judge(&names, token, secret, account).unwrap_err();
        assert_eq!(wrong("x", secret(), Some(&account)), "Token does not match server's copy");
        assert_eq!(wrong("t", None, Some(&account)), "Token has been invalidated");
        let other = json!({"metadata": {"uid": "v"}});
        assert!(wrong("t", secret(), Some(&other)).contains("does not match claim (u)"));
        assert!(Names::of(&json!({"sub": "x"})).is_err());
    }
}
