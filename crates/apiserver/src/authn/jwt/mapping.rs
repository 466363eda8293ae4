//! From the claims of a token to a user, and what both must be like.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cel::Type;
use machinery::field::{Error, Path, go_quote};
use machinery::names;
use machinery::{Get, Value, json};
use regex::Regex;

use crate::authn::User;
use crate::expression::{About, Expression};

#[derive(Clone, Debug, Default)]
pub struct Mapping {
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

/// Of an issuer of an `AuthenticationConfiguration`; it is of use only if there were no errors.
pub fn mapping(item: &Value, at: &Path, errors: &mut Vec<Error>) -> Mapping {
    let mut out = Mapping::default();
    let mut verified = false;
    claim_rules(item, &at.child("claimValidationRules"), &mut out, &mut verified, errors);
    let (mappings, here) = (item.at("claimMappings"), at.child("claimMappings"));
    let username = here.child("username");
    out.username = source(mappings.at("username"), &username, errors);
    if mappings.at("username").text("claim").is_empty()
        && mappings.at("username").text("expression").is_empty()
    {
        errors.push(Error::required(&username, "claim or expression is required"));
    }
    out.groups = source(mappings.at("groups"), &here.child("groups"), errors);
    out.uid = uid(mappings.at("uid"), &here.child("uid"), errors);
    extra(mappings, &here.child("extra"), &mut out, &mut verified, errors);
    if let Source::Expression(expression) = &out.username
        && uses(expression, "email")
        && !verified
        && !uses(expression, "email_verified")
    {
        let detail = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
        errors.push(Error::invalid(&username.child("expression"), expression.text(), detail));
    }
    user_rules(item, &at.child("userValidationRules"), &mut out, errors);
    out
}

fn compile(
    text: &str,
    about: About,
    results: &[Type],
    at: &Path,
    errors: &mut Vec<Error>,
) -> Option<Expression> {
    match Expression::compile(text, about, results) {
        Ok(expression) => Some(expression),
        Err(why) => {
            errors.push(Error::invalid(at, text, why));
            None
        }
    }
}

/// Does it select that claim, as `claims.NAME` or `claims.?NAME`? Judged by its text without literals.
fn uses(expression: &Expression, claim: &str) -> bool {
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?s)"""(.*?)"""|'''(.*?)'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|//[^\n]*"#)
            .expect("a constant that compiles")
    });
    static SELECT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bclaims\s*\.\s*\??\s*(\w+)").expect("a constant that compiles"));
    let bare = LITERAL.replace_all(expression.text(), "''");
    SELECT.captures_iter(&bare).any(|found| {
        let whole = found.get(0).expect("group 0 is the match");
        &found[1] == claim && !bare[..whole.start()].trim_end().ends_with('.')
    })
}

fn source(object: &Value, at: &Path, errors: &mut Vec<Error>) -> Source {
    match (object.text("claim"), object.text("expression")) {
        ("", "") => Source::Nothing,
        ("", text) => {
            if let Value::String(prefix) = object.at("prefix") {
                let detail = "may not be specified when expression is set";
                errors.push(Error::invalid(&at.child("prefix"), prefix.as_str(), detail));
            }
            compile(text, About::Claims, &[], &at.child("expression"), errors)
                .map_or(Source::Nothing, Source::Expression)
        }
        (claim, "") => match object.at("prefix") {
            Value::String(prefix) => Source::Claim { name: claim.to_owned(), prefix: prefix.clone() },
            _ => {
                let detail = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(Error::required(&at.child("prefix"), detail));
                Source::Nothing
            }
        },
        _ => {
            errors.push(Error::invalid(at, "", "claim and expression can't both be set"));
            Source::Nothing
        }
    }
}

fn uid(object: &Value, at: &Path, errors: &mut Vec<Error>) -> Source {
    match (object.text("claim"), object.text("expression")) {
        ("", "") => Source::Nothing,
        ("", text) => compile(text, About::Claims, &[], &at.child("expression"), errors)
            .map_or(Source::Nothing, Source::Expression),
        (claim, "") => Source::Claim { name: claim.to_owned(), prefix: String::new() },
        _ => {
            errors.push(Error::invalid(at, "", "claim and expression can't both be set"));
            Source::Nothing
        }
    }
}

fn extra(mappings: &Value, at: &Path, out: &mut Mapping, verified: &mut bool, errors: &mut Vec<Error>) {
    let mut seen: Vec<&str> = Vec::new();
    for (n, entry) in mappings.list("extra").iter().enumerate() {
        let (key_at, key) = (at.index(n).child("key"), entry.text("key"));
        domain_prefixed_path(key, &key_at, errors);
        if key.to_lowercase() != key {
            errors.push(Error::invalid(&key_at, key, "must be lowercase"));
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        if ["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}"))) {
            let detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.push(Error::invalid(&key_at, key, detail));
        }
        if seen.contains(&key) {
            errors.push(Error::duplicate(&key_at, key));
            continue;
        }
        seen.push(key);
        let (at, text) = (at.index(n).child("valueExpression"), entry.text("valueExpression"));
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if let Some(expression) = compile(text, About::Claims, &[], &at, errors) {
            *verified |= uses(&expression, "email_verified");
            out.extra.push((key.to_owned(), expression));
        }
    }
}

/// `acme.io/foo`.
fn domain_prefixed_path(text: &str, at: &Path, errors: &mut Vec<Error>) {
    if text.is_empty() {
        return errors.push(Error::required(at, ""));
    }
    let (host, path) = match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return errors.push(Error::invalid(at, text, detail));
        }
    };
    errors.extend(names::dns1123_subdomain(host).into_iter().map(|why| Error::invalid(at, host, why)));
    if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let pattern = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        errors.push(Error::invalid(
            at,
            path,
            format!("Invalid path (regex used for validation is '{pattern}')"),
        ));
    }
}

fn claim_rules(item: &Value, at: &Path, out: &mut Mapping, verified: &mut bool, errors: &mut Vec<Error>) {
    let (mut claims, mut expressions): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (n, rule) in item.list("claimValidationRules").iter().enumerate() {
        let at = at.index(n);
        match (rule.text("claim"), rule.text("expression")) {
            ("", "") => errors.push(Error::required(&at, "claim or expression is required")),
            (claim, "") => {
                if !rule.text("message").is_empty() {
                    let detail = "may not be specified when claim is set";
                    errors.push(Error::invalid(&at.child("message"), rule.text("message"), detail));
                }
                if claims.contains(&claim) {
                    errors.push(Error::duplicate(&at.child("claim"), claim));
                }
                claims.push(claim);
                out.required.push((claim.to_owned(), rule.text("requiredValue").to_owned()));
            }
            ("", text) => {
                if !rule.text("requiredValue").is_empty() {
                    let detail = "may not be specified when expression is set";
                    let value = rule.text("requiredValue");
                    errors.push(Error::invalid(&at.child("requiredValue"), value, detail));
                }
                let here = at.child("expression");
                if expressions.contains(&text) {
                    errors.push(Error::duplicate(&here, text));
                    continue;
                }
                expressions.push(text);
                if let Some(compiled) = compile(text, About::Claims, &[Type::Bool], &here, errors) {
                    *verified |= uses(&compiled, "email_verified");
                    out.claim_rules.push((compiled, rule.text("message").to_owned()));
                }
            }
            (claim, _) => {
                errors.push(Error::invalid(&at, claim, "claim and expression can't both be set"));
            }
        }
    }
}

fn user_rules(item: &Value, at: &Path, out: &mut Mapping, errors: &mut Vec<Error>) {
    let mut seen: Vec<&str> = Vec::new();
    for (n, rule) in item.list("userValidationRules").iter().enumerate() {
        let (at, text) = (at.index(n).child("expression"), rule.text("expression"));
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if seen.contains(&text) {
            errors.push(Error::duplicate(&at, text));
        } else {
            seen.push(text);
            if let Some(compiled) = compile(text, About::User, &[Type::Bool], &at, errors) {
                out.user_rules.push((compiled, rule.text("message").to_owned()));
            }
        }
    }
}

impl Mapping {
    /// The claim that groups are in, which may stand elsewhere (distributed claims).
    pub fn groups_claim(&self) -> Option<&str> {
        match &self.groups {
            Source::Claim { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Who the claims say it is; or what they lack.
    pub fn user(&self, claims: &Value) -> Result<User, String> {
        let mut user = User { name: self.username(claims)?, ..User::default() };
        user.groups = self.groups(claims)?;
        user.uid = self.uid(claims)?;
        user = user.with_extra(self.extra(claims)?);
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
                return match eval(expression, claims) {
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
        if claim == "email" && claims.has("email_verified") {
            match claims.at("email_verified") {
                Value::Bool(true) => {}
                Value::Bool(false) | Value::Null => return Err("oidc: email not verified".to_owned()),
                other => {
                    return Err(format!("oidc: parse 'email_verified' claim: {}", no_type(other, "bool")));
                }
            }
        }
        Ok(format!("{prefix}{name}"))
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Source::Claim { name, prefix } if claims.has(name) => {
                let found = text_or_texts(claims.at(name))
                    .map_err(|e| format!("oidc: parse groups claim {}: {e}", go_quote(name)))?;
                Ok(found.into_iter().map(|g| format!("{prefix}{g}")).collect())
            }
            Source::Nothing | Source::Claim { .. } => Ok(Vec::new()),
            Source::Expression(expression) => eval(expression, claims)
                .and_then(|v| list(&v))
                .map_err(|e| format!("oidc: error evaluating group claim expression: {e}")),
        }
    }

    fn uid(&self, claims: &Value) -> Result<String, String> {
        match &self.uid {
            Source::Nothing => Ok(String::new()),
            Source::Claim { name, .. } => {
                text_claim(claims, name).map_err(|e| format!("oidc: parse uid claim {}: {e}", go_quote(name)))
            }
            Source::Expression(expression) => match eval(expression, claims) {
                Ok(Value::String(uid)) => Ok(uid),
                Ok(_) => Err("uid claim expression must return a string".to_owned()),
                Err(e) => Err(e),
            }
            .map_err(|e| format!("oidc: error evaluating uid claim expression: {e}")),
        }
    }

    fn extra(&self, claims: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        if let Value::String(id) = claims.at("jti")
            && !id.is_empty()
        {
            let id = format!("JTI={id}");
            extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
        }
        for (key, expression) in &self.extra {
            let values = list(&eval(expression, claims)?).map_err(|e| {
                format!("oidc: error evaluating extra claim expression: {}: {e}", expression.text())
            })?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }
}

fn eval(expression: &Expression, input: &Value) -> Result<Value, String> {
    expression.eval(input).map_err(|e| format!("expression '{}' resulted in error: {e}", expression.text()))
}

fn no_type(value: &Value, want: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go value of type {want}")
}

/// Null is the empty text, as Go reads it.
fn text_claim(claims: &Value, name: &str) -> Result<String, String> {
    match claims.as_object().and_then(|all| all.get(name)) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(other) => Err(no_type(other, "string")),
        None => Err("claim not present".to_owned()),
    }
}

/// A string or a list of strings.
pub fn text_or_texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Null => Ok(Vec::new()),
        Value::Array(many) => many
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Null => Ok(String::new()),
                _ => Err(no_type(value, "string")),
            })
            .collect(),
        other => Err(no_type(other, "string")),
    }
}

/// A string, a list of strings, or nothing; empty strings count for nothing.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let found = match value {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => {
            let texts = many.iter().map(|v| v.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    Ok(found.into_iter().filter(|s| !s.is_empty()).collect())
}

/// All are evaluated before any is judged.
fn holds(rules: &[(Expression, String)], input: &Value) -> Result<(), String> {
    let results = rules.iter().map(|(rule, _)| eval(rule, input)).collect::<Result<Vec<_>, _>>()?;
    for ((expression, message), result) in rules.iter().zip(results) {
        match result {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                return Err(format!("validation expression '{}' failed: {message}", expression.text()));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
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
        assert!(with("email_verified", json!("true")).contains("parse 'email_verified' claim"));
        assert!(with("email", json!(1)).contains("parse username claims \"email\""));
        assert!(with("roles", json!([1])).contains("parse groups claim"));
    }

    #[test]
    fn selected_claims_are_seen() {
        let check = |text: &str, want: bool| {
            let expression = Expression::compile(text, About::Claims, &[]).unwrap();
            assert_eq!(uses(&expression, "email"), want, "{text}");
        };
        check("claims.email", true);
        check("'a' + claims . email", true);
        check("claims.?email.orValue('')", true);
        check("has(claims.email) ? claims.email : 'x'", true);
        check("claims.sub == 'a' ? 'b' : claims.email", true);
        check("claims.sub", false);
        check("claims.email_verified", false);
        check("'claims.email'", false);
        check("claims['email']", false);
        check("claims.a.claims.email", false);
    }
}
