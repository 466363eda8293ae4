//! ID tokens of OpenID Connect providers, by the `--oidc-*` flags or by an `AuthenticationConfiguration` file.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration>

mod config;
mod distributed;
mod mapping;
mod provider;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use machinery::field::go_quote;
use machinery::{Get, Value};
use parking_lot::{Mutex, RwLock};

pub use config::Configuration;

use self::mapping::{Mapping, text_or_texts};
use self::provider::Provider;
use super::User;

/// Clocks differ; go-oidc allows so much of it for `nbf`.
const NOT_BEFORE_GRACE: i64 = 60;

/// One provider, and what its tokens mean here.
pub struct Issuer {
    pub url: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    mapping: Mapping,
    provider: Arc<Provider>,
    sources: distributed::Sources,
}

/// The issuers of now.
#[derive(Default)]
pub struct Issuers {
    now: RwLock<Arc<[Arc<Issuer>]>>,
    /// Those that take over when all their providers were found.
    next: Mutex<Option<tokio::task::AbortHandle>>,
}

impl Issuers {
    /// Needs a runtime.
    pub fn new(issuers: &[Arc<Issuer>]) -> Arc<Self> {
        issuers.iter().for_each(|issuer| issuer.provider.start());
        Arc::new(Self { now: RwLock::new(issuers.into()), next: Mutex::default() })
    }

    pub fn now(&self) -> Arc<[Arc<Issuer>]> {
        self.now.read().clone()
    }

    /// Replaces the issuers as soon as all of the new ones can be used; what was to replace them before, will not.
    pub fn replace(self: &Arc<Self>, issuers: Vec<Arc<Issuer>>) {
        issuers.iter().for_each(|issuer| issuer.provider.start());
        let all = self.clone();
        let task = tokio::spawn(async move {
            for issuer in &issuers {
                while tokio::time::timeout(Duration::from_secs(60), issuer.provider.found()).await.is_err() {
                    let error = issuer.provider.sick();
                    tracing::error!(?error, "failed to update authentication config");
                }
            }
            *all.now.write() = issuers.into();
            tracing::info!("reloaded authentication config");
        });
        if let Some(old) = self.next.lock().replace(task.abort_handle()) {
            old.abort();
        }
    }
}

impl Drop for Issuers {
    fn drop(&mut self) {
        if let Some(task) = self.next.lock().take() {
            task.abort();
        }
    }
}

impl Issuer {
    /// The user; none if the token is not from this provider; or what is wrong with the token.
    pub async fn authenticate(&self, token: &str) -> Result<Option<User>, String> {
        if issuer_of(token).as_deref() != Some(&self.url) {
            return Ok(None);
        }
        let verified = check(&self.provider, &self.url, token, &self.algorithms, &self.audiences).await?;
        let mut claims = verified.map_err(|why| format!("oidc: verify token: {why}"))?;
        if let Some(claim) = self.mapping.groups_claim() {
            let expanded = self.expand(claim, &mut claims).await;
            expanded.map_err(|e| format!("oidc: could not expand distributed claims: {e}"))?;
        }
        self.mapping.user(&claims).map(Some)
    }
}

/// Who a token says it is from.
fn issuer_of(token: &str) -> Option<String> {
    let claims = pki::token::unverified_claims(token)?;
    let named = match claims.at("iss") {
        Value::String(name) => name.as_str(),
        Value::Null => "",
        _ => return None,
    };
    // an old name of the same provider
    Some(if named == "accounts.google.com" { "https://accounts.google.com" } else { named }.to_owned())
}

/// The claims of a token that is good here and now; what is wrong with it.
///
/// # Errors
/// The outer one if the provider was not found yet.
async fn check(
    provider: &Provider,
    issuer: &str,
    token: &str,
    algorithms: &[String],
    audiences: &[String],
) -> Result<Result<Value, String>, String> {
    let Some(algorithm) = pki::token::algorithm(token) else {
        return Ok(Err("oidc: malformed jwt".to_owned()));
    };
    if !algorithms.contains(&algorithm) {
        return Ok(Err(format!(
            "oidc: id token signed with unsupported algorithm, expected {} got {}",
            quoted(algorithms),
            go_quote(&algorithm)
        )));
    }
    let claims = match provider.verify(token).await? {
        Ok(claims) => claims,
        Err(why) => return Ok(Err(why)),
    };
    Ok(check_claims(&claims, issuer, audiences, Timestamp::now()).map(|()| claims))
}

fn quoted(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|i| go_quote(i)).collect::<Vec<_>>().join(" "))
}

/// A number, or one written as text.
fn seconds(value: &Value) -> Result<Option<i64>, String> {
    let wrong = || format!("oidc: failed to unmarshal claims: {value} is not a time");
    match value {
        Value::Null => Ok(None),
        Value::Number(n) => n.as_i64().or(n.as_f64().map(|f| f as i64)).map(Some).ok_or_else(wrong),
        Value::String(text) => match text.parse::<i64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => text.parse::<f64>().map(|f| Some(f as i64)).map_err(|_| wrong()),
        },
        _ => Err(wrong()),
    }
}

fn check_claims(claims: &Value, issuer: &str, audiences: &[String], now: Timestamp) -> Result<(), String> {
    let unread = |why: String| format!("oidc: failed to unmarshal claims: {why}");
    for key in ["iss", "sub", "nonce", "at_hash"] {
        if !matches!(claims.at(key), Value::String(_) | Value::Null) {
            return Err(unread(format!("{key} is not a string")));
        }
    }
    let theirs = text_or_texts(claims.at("aud")).map_err(unread)?;
    let (until, from) = (seconds(claims.at("exp"))?, seconds(claims.at("nbf"))?);
    seconds(claims.at("iat"))?;
    for (claim, source) in claims.map("_claim_names").into_iter().flatten() {
        match source.as_str() {
            None => return Err(unread(format!("the source of {claim} is not a string"))),
            Some("") => return Err("oidc: failed to obtain source from claim name".to_owned()),
            Some(source) if !claims.at("_claim_sources").has(source) => {
                return Err("oidc: source does not exist".to_owned());
            }
            Some(_) => {}
        }
    }
    let says = claims.text("iss");
    let google = issuer == "https://accounts.google.com" && says == "accounts.google.com";
    if says != issuer && !google {
        return Err(format!(
            "oidc: id token issued by a different provider, expected {} got {}",
            go_quote(issuer),
            go_quote(says)
        ));
    }
    if !audiences.iter().any(|a| theirs.contains(a)) {
        let want = match audiences {
            [one] => go_quote(one),
            many => format!("in {}", quoted(many)),
        };
        return Err(format!("oidc: expected audience {want} got {}", quoted(&theirs)));
    }
    let shown = |at: i64| {
        let at = Timestamp::from_second(at).unwrap_or_default();
        at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
    };
    // a time of a second ends with it
    if until.is_none_or(|until| {
        until < now.as_second() || (until == now.as_second() && now.subsec_nanosecond() > 0)
    }) {
        let until = until.map_or_else(|| "0001-01-01 00:00:00 +0000 UTC".to_owned(), shown);
        return Err(format!("oidc: token is expired (Token Expiry: {until})"));
    }
    if let Some(from) = from
        && now.as_second() + NOT_BEFORE_GRACE < from
    {
        return Err(format!("oidc: current time {now} before the nbf (not before) time: {}", shown(from)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use machinery::json;

    use super::*;

    #[test]
    fn audiences_and_times_are_checked() {
        let now = Timestamp::from_second(1000).unwrap();
        let check = |claims: Value| {
            let mut claims = claims;
            claims["iss"] = "i".into();
            check_claims(&claims, "i", &["a".to_owned()], now)
        };
        assert_eq!(check(json!({"aud": ["a", "b"], "exp": 1001, "nbf": 1060})), Ok(()));
        assert_eq!(check(json!({"aud": "a", "exp": "1001.5"})), Ok(()));
        assert_eq!(
            check(json!({"aud": "b", "exp": 1001})).unwrap_err(),
            "oidc: expected audience \"a\" got [\"b\"]"
        );
        let expired = |claims: Value| check(claims).unwrap_err().contains("token is expired");
        assert!(expired(json!({"aud": "a", "exp": 999})));
        assert!(expired(json!({"aud": "a"})));
        assert!(check(json!({"aud": "a", "exp": 2000, "nbf": 1061})).unwrap_err().contains("nbf"));
        for (key, value) in [("sub", json!(1)), ("exp", json!("x")), ("iat", json!([])), ("aud", json!(1))] {
            let mut claims = json!({"aud": "a", "exp": 1001});
            claims[key] = value;
            assert!(check(claims).unwrap_err().contains("failed to unmarshal claims"), "{key}");
        }
        let elsewhere = json!({"aud": "a", "exp": 1001, "_claim_names": {"g": "s"}, "_claim_sources": {}});
        assert_eq!(check(elsewhere).unwrap_err(), "oidc: source does not exist");
    }
}
