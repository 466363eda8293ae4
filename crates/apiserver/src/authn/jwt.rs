//! ID tokens of OpenID Connect providers, by the `--oidc-*` flags or by an `AuthenticationConfiguration` file.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration>

mod config;
mod keys;

use std::collections::BTreeMap;

use jiff::Timestamp;
use machinery::field::go_quote;
use machinery::{Get, Value, json};

pub use config::Configuration;

use self::keys::Keys;
use super::User;
use crate::expression::Expression;

/// Clocks differ; providers say so of `nbf`.
const NOT_BEFORE_GRACE: i64 = 300;

/// One provider, and what its tokens mean here.
pub struct Issuer {
    pub url: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    mapping: Mapping,
    keys: Keys,
}

/// From claims to a user.
#[derive(Clone, Debug, Default)]
struct Mapping {
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Expression)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<(Expression, String)>,
    user_rules: Vec<(Expression, String)>,
}

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Nothing,
    Claim {
        name: String,
        prefix: String,
    },
    Expression(Expression),
}

impl Issuer {
    /// The user; none if the token is not from this provider; or what is wrong with the token.
    pub async fn authenticate(&self, token: &str) -> Result<Option<User>, String> {
        let Some(claimed) = pki::token::unverified_claims(token) else { return Ok(None) };
        let issuer = match claimed.text("iss") {
            // an old name of the same provider
            "accounts.google.com" => "https://accounts.google.com",
            other => other,
        };
        if issuer != self.url {
            return Ok(None);
        }
        let wrong = |why: String| format!("oidc: verify token: {why}");
        check_claims(&claimed, &self.audiences, Timestamp::now()).map_err(wrong)?;
        let claims = self.keys.verify(token, &self.algorithms).await?;
        self.mapping.user(&claims).map(Some)
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))
}

fn check_claims(claims: &Value, audiences: &[String], now: Timestamp) -> Result<(), String> {
    let theirs = strings(claims.at("aud")).unwrap_or_default();
    if !audiences.iter().any(|a| theirs.contains(a)) {
        let quoted = |items: &[String]| items.iter().map(|i| go_quote(i)).collect::<Vec<_>>().join(" ");
        let want = match audiences {
            [one] => go_quote(one),
            many => format!("[{}]", quoted(many)),
        };
        return Err(format!(
            "oidc: expected audience {} got [{}]",
            if audiences.len() == 1 { want.clone() } else { format!("in {want}") },
            quoted(&theirs)
        ));
    }
    let until = seconds(claims.at("exp")).unwrap_or(0);
    if until < now.as_second() {
        let until = Timestamp::from_second(until).unwrap_or_default();
        return Err(format!(
            "oidc: token is expired (Token Expiry: {})",
            until.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
        ));
    }
    if let Some(from) = seconds(claims.at("nbf"))
        && now.as_second() + NOT_BEFORE_GRACE < from
    {
        let from = Timestamp::from_second(from).unwrap_or_default();
        return Err(format!("oidc: current time {now} before the nbf (not before) time: {from}"));
    }
    Ok(())
}

impl Mapping {
    fn user(&self, claims: &Value) -> Result<User, String> {
        let mut user = User { name: self.username(claims)?, ..User::default() };
        user.groups = self.groups(claims)?;
        user.uid = match &self.uid {
            Source::Nothing => String::new(),
            Source::Claim { name, .. } => text_claim(claims, name)
                .map_err(|e| format!("oidc: parse uid claim {}: {e}", go_quote(name)))?,
            Source::Expression(expression) => match expression.eval(claims) {
                Ok(Value::String(uid)) => uid,
                Ok(_) => return Err(
                    "oidc: error evaluating uid claim expression: uid claim expression must return a string"
                        .to_owned(),
                ),
                Err(e) => return Err(format!("oidc: error evaluating uid claim expression: {e}")),
            },
        };
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if !claims.text("jti").is_empty() {
            let id = format!("JTI={}", claims.text("jti"));
            extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
        }
        for (key, expression) in &self.extra {
            let value = expression.eval(claims);
            let values = value.and_then(|v| list(&v)).map_err(|e| {
                format!("oidc: error evaluating extra claim expression: {}: {e}", expression.text())
            })?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        user = user.with_extra(extra);
        for (claim, want) in &self.required {
            if !claims.has(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let got = text_claim(claims, claim).map_err(|e| format!("oidc: parse claim {claim}: {e}"))?;
            if got != *want {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {got}, want = {want}"
                ));
            }
        }
        holds(&self.claim_rules, claims)
            .map_err(|e| format!("oidc: error evaluating claim validation expression: {e}"))?;
        if !self.user_rules.is_empty() {
            let info = json!({"username": user.name, "uid": user.uid, "groups": user.groups,
                "extra": user.extra_value().cloned().unwrap_or_else(|| json!({}))});
            holds(&self.user_rules, &info)
                .map_err(|e| format!("oidc: error evaluating user info validation rule: {e}"))?;
        }
        Ok(user)
    }

    fn username(&self, claims: &Value) -> Result<String, String> {
        let (claim, prefix) = match &self.username {
            Source::Nothing => return Err("oidc: no username claim".to_owned()),
            Source::Claim { name, prefix } => (name, prefix),
            Source::Expression(expression) => {
                let failed =
                    |why: &str| Err(format!("oidc: error evaluating username claim expression: {why}"));
                return match expression.eval(claims) {
                    Ok(Value::String(name)) if name.is_empty() => {
                        Err("oidc: empty username via CEL expression is not allowed".to_owned())
                    }
                    Ok(Value::String(name)) => Ok(name),
                    Ok(_) => failed("username claim expression must return a string"),
                    Err(e) => failed(&e),
                };
            }
        };
        let name = text_claim(claims, claim)
            .map_err(|e| format!("oidc: parse username claims {}: {e}", go_quote(claim)))?;
        if claim == "email" && claims.has("email_verified") && claims.flag("email_verified") != Some(true) {
            return Err("oidc: email not verified".to_owned());
        }
        Ok(format!("{prefix}{name}"))
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Source::Claim { name, prefix } if claims.has(name) => {
                let found = strings(claims.at(name)).ok_or_else(|| {
                    format!(
                        "oidc: parse groups claim {}: neither a string nor a list of strings",
                        go_quote(name)
                    )
                })?;
                Ok(found.into_iter().map(|g| format!("{prefix}{g}")).collect())
            }
            Source::Nothing | Source::Claim { .. } => Ok(Vec::new()),
            Source::Expression(expression) => expression
                .eval(claims)
                .and_then(|v| list(&v))
                .map_err(|e| format!("oidc: error evaluating group claim expression: {e}")),
        }
    }
}

fn text_claim(claims: &Value, name: &str) -> Result<String, String> {
    match claims.at(name) {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err("claim not present".to_owned()),
        _ => Err("json: cannot unmarshal it into a string".to_owned()),
    }
}

/// A string, a list of strings, or nothing; empty strings count for nothing.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let found = match value {
        Value::Null => Some(Vec::new()),
        other => strings(other),
    };
    let found = found.ok_or("expression must return a string or a list of strings")?;
    Ok(found.into_iter().filter(|s| !s.is_empty()).collect())
}

fn holds(rules: &[(Expression, String)], input: &Value) -> Result<(), String> {
    for (expression, message) in rules {
        match expression.eval(input)? {
            Value::Bool(true) => {}
            Value::Bool(false) if !message.is_empty() => {
                return Err(format!("validation expression '{}' failed: {message}", expression.text()));
            }
            Value::Bool(false) => {
                return Err(format!("validation expression '{}' failed", expression.text()));
            }
            _ => return Err("validation expression must return a bool".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_users() {
        let claim = |name: &str, prefix: &str| Source::Claim { name: name.into(), prefix: prefix.into() };
        let mapping = Mapping {
            username: claim("email", "p:"),
            groups: claim("roles", "g:"),
            uid: claim("sub", ""),
            required: vec![("hd".into(), "x".into())],
            ..Mapping::default()
        };
        let claims = json!({"email": "a@b", "roles": ["r"], "sub": "7", "hd": "x", "jti": "j"});
        let user = mapping.user(&claims).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("p:a@b", "7"));
        assert_eq!(user.groups, ["g:r"]);
        assert_eq!(user.extra_value().unwrap()["authentication.kubernetes.io/credential-id"][0], "JTI=j");
        let with = |key: &str, value: Value| {
            let mut claims = claims.clone();
            claims[key] = value;
            mapping.user(&claims).unwrap_err()
        };
        assert!(with("hd", json!("y")).contains("Got = y, want = x"));
        assert_eq!(with("email_verified", json!(false)), "oidc: email not verified");
        assert!(with("email", json!(1)).contains("parse username claims \"email\""));
        assert!(with("roles", json!([1])).contains("parse groups claim"));
    }

    #[test]
    fn audiences_and_times_are_checked() {
        let now = Timestamp::from_second(1000).unwrap();
        let check = |claims: Value| check_claims(&claims, &["a".to_owned()], now);
        assert_eq!(check(json!({"aud": ["a", "b"], "exp": 1001})), Ok(()));
        assert!(
            check(json!({"aud": "b", "exp": 1001}))
                .unwrap_err()
                .contains("expected audience \"a\" got [\"b\"]")
        );
        assert!(check(json!({"aud": "a", "exp": 999})).unwrap_err().contains("token is expired"));
        assert!(check(json!({"aud": "a", "exp": 2000, "nbf": 1400})).unwrap_err().contains("nbf"));
    }
}
