//! From flags and from an `AuthenticationConfiguration` to issuers.

use std::path::Path;

use cel::Type;
use machinery::{Get, Value};

use super::keys::Keys;
use super::{Issuer, Mapping, Source};
use crate::authn::anonymous::Anonymous;
use crate::config::Oidc;
use crate::expression::{About, Expression};
use crate::remote;

/// What go-oidc knows, as far as we do.
const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512"];

/// What the file says.
pub struct Configuration {
    pub issuers: Vec<std::sync::Arc<Issuer>>,
    pub anonymous: Option<Anonymous>,
}

impl Configuration {
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::parse(&std::fs::read_to_string(path).map_err(|e| e.to_string())?)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let document = remote::document(text)?;
        let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
        if document.text("kind") != "AuthenticationConfiguration"
            || !known.iter().any(|v| v == document.text("apiVersion"))
        {
            return Err("it is not an AuthenticationConfiguration of apiserver.config.k8s.io/v1".to_owned());
        }
        if document.list("jwt").len() > 64 {
            return Err("jwt: Too many: must have at most 64 items".to_owned());
        }
        let mut issuers: Vec<std::sync::Arc<Issuer>> = Vec::new();
        for (n, item) in document.list("jwt").iter().enumerate() {
            let issuer = issuer(item).map_err(|e| format!("jwt[{n}].{e}"))?;
            if issuers.iter().any(|i| i.url == issuer.url) {
                return Err(format!("jwt[{n}].issuer.url: Duplicate value: {:?}", issuer.url));
            }
            issuers.push(std::sync::Arc::new(issuer));
        }
        let anonymous = document.at("anonymous");
        let anonymous = anonymous.is_object().then(|| Anonymous::parse(anonymous)).transpose()?;
        Ok(Self { issuers, anonymous })
    }
}

impl Issuer {
    /// By the `--oidc-*` flags.
    pub fn from_flags(flags: &Oidc) -> Result<std::sync::Arc<Self>, String> {
        if flags.client_id.is_empty() {
            return Err(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                    .to_owned(),
            );
        }
        if !flags.issuer_url.starts_with("https://") {
            return Err(format!("--oidc-issuer-url {:?}: URL scheme must be https", flags.issuer_url));
        }
        for algorithm in &flags.signing_algorithms {
            if !ALGORITHMS.contains(&algorithm.as_str()) {
                return Err(format!("oidc-signing-algs: unsupported signing alg: {algorithm:?}"));
            }
        }
        let prefix = match (flags.username_prefix.as_str(), flags.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", flags.issuer_url),
            (prefix, _) => prefix.to_owned(),
        };
        let groups = match flags.groups_claim.as_str() {
            "" => Source::Nothing,
            name => Source::Claim { name: name.to_owned(), prefix: flags.groups_prefix.clone() },
        };
        let ca = flags.ca_file.as_deref().map(|path| {
            std::fs::read_to_string(path).map_err(|e| format!("--oidc-ca-file {}: {e}", path.display()))
        });
        Ok(std::sync::Arc::new(Self {
            url: flags.issuer_url.clone(),
            audiences: vec![flags.client_id.clone()],
            algorithms: flags.signing_algorithms.clone(),
            mapping: Mapping {
                username: Source::Claim { name: flags.username_claim.clone(), prefix },
                groups,
                required: flags.required_claims.clone(),
                ..Mapping::default()
            },
            keys: Keys::new(&flags.issuer_url, "", ca.transpose()?),
        }))
    }
}

fn issuer(item: &Value) -> Result<Issuer, String> {
    let issuer = item.at("issuer");
    let url = issuer.text("url");
    if url.is_empty() {
        return Err("issuer.url: Required value: URL is required".to_owned());
    }
    let secure = |url: &str, at: &str| {
        let uri: Result<http::Uri, _> = url.parse();
        match uri {
            Ok(uri) if uri.scheme_str() == Some("https") && !url.contains('?') && !url.contains('@') => {
                Ok(())
            }
            _ => Err(format!("issuer.{at}: Invalid value: {url:?}: URL scheme must be https")),
        }
    };
    secure(url, "url")?;
    let discovery = issuer.text("discoveryURL");
    if !discovery.is_empty() {
        secure(discovery, "discoveryURL")?;
        if discovery == url {
            return Err(
                "issuer.discoveryURL: Invalid value: discoveryURL must be different from URL".to_owned()
            );
        }
    }
    let audiences: Vec<String> =
        issuer.list("audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        return Err(
            "issuer.audiences: Required value: at least one jwt[*].issuer.audiences is required".to_owned()
        );
    }
    match (audiences.len(), issuer.text("audienceMatchPolicy")) {
        (1, "") | (_, "MatchAny") => {}
        (_, other) => {
            return Err(format!(
                "issuer.audienceMatchPolicy: Invalid value: {other:?}: must be MatchAny for multiple audiences"
            ));
        }
    }
    let ca = Some(issuer.text("certificateAuthority").to_owned()).filter(|pem| !pem.is_empty());
    Ok(Issuer {
        url: url.to_owned(),
        audiences,
        algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
        mapping: mapping(item)?,
        keys: Keys::new(url, discovery, ca),
    })
}

fn expression(text: &str, about: About, results: &[Type], at: &str) -> Result<Expression, String> {
    Expression::compile(text, about, results)
        .map_err(|e| format!("{at}: Invalid value: {}: {e}", machinery::field::go_quote(text)))
}

fn mapping(item: &Value) -> Result<Mapping, String> {
    let mappings = item.at("claimMappings");
    let one = Type::String;
    let many = Type::list(Type::String);
    let username = source(
        mappings.at("username"),
        "claimMappings.username",
        true,
        &[one.clone(), Type::Dyn, Type::Any],
    )?;
    if matches!(username, Source::Nothing) {
        return Err("claimMappings.username: Required value: claim or expression is required".to_owned());
    }
    let listed = [one.clone(), many, Type::list(Type::Dyn), Type::list(Type::Any), Type::Dyn, Type::Any];
    let groups = source(mappings.at("groups"), "claimMappings.groups", true, &listed)?;
    let uid = source(mappings.at("uid"), "claimMappings.uid", false, &[one, Type::Dyn, Type::Any])?;
    let mut extra: Vec<(String, Expression)> = Vec::new();
    for (n, entry) in mappings.list("extra").iter().enumerate() {
        let at = format!("claimMappings.extra[{n}]");
        let key = entry.text("key");
        if !key.contains('/') || key.to_lowercase() != key {
            return Err(format!(
                "{at}.key: Invalid value: {key:?}: must be a lower-case domain-prefixed path (such as \"acme.io/foo\")"
            ));
        }
        let domain = key.split('/').next().unwrap_or("");
        if ["kubernetes.io", "k8s.io"].iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}"))) {
            return Err(format!(
                "{at}.key: Invalid value: {key:?}: k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            ));
        }
        if extra.iter().any(|(k, _)| k == key) {
            return Err(format!("{at}.key: Duplicate value: {key:?}"));
        }
        let text = entry.text("valueExpression");
        extra.push((
            key.to_owned(),
            expression(text, About::Claims, &listed, &format!("{at}.valueExpression"))?,
        ));
    }
    let mut required = Vec::new();
    let mut claim_rules = Vec::new();
    for (n, rule) in item.list("claimValidationRules").iter().enumerate() {
        let at = format!("claimValidationRules[{n}]");
        match (rule.text("claim"), rule.text("expression")) {
            ("", "") => return Err(format!("{at}: Required value: claim or expression is required")),
            (claim, "") => required.push((claim.to_owned(), rule.text("requiredValue").to_owned())),
            ("", text) => {
                let compiled = expression(text, About::Claims, &[Type::Bool], &format!("{at}.expression"))?;
                claim_rules.push((compiled, rule.text("message").to_owned()));
            }
            _ => return Err(format!("{at}: Invalid value: claim and expression can't both be set")),
        }
    }
    let mut user_rules = Vec::new();
    for (n, rule) in item.list("userValidationRules").iter().enumerate() {
        let at = format!("userValidationRules[{n}].expression");
        let compiled = expression(rule.text("expression"), About::User, &[Type::Bool], &at)?;
        user_rules.push((compiled, rule.text("message").to_owned()));
    }
    Ok(Mapping { username, groups, uid, extra, required, claim_rules, user_rules })
}

fn source(object: &Value, at: &str, prefixed: bool, results: &[Type]) -> Result<Source, String> {
    match (object.text("claim"), object.text("expression")) {
        ("", "") => Ok(Source::Nothing),
        ("", _) if !object.at("prefix").is_null() => {
            Err(format!("{at}: Invalid value: prefix can't be set when expression is set"))
        }
        ("", text) => {
            Ok(Source::Expression(expression(text, About::Claims, results, &format!("{at}.expression"))?))
        }
        (_, text) if !text.is_empty() => {
            Err(format!("{at}: Invalid value: claim and expression can't both be set"))
        }
        (claim, _) => match object.at("prefix") {
            Value::String(prefix) => Ok(Source::Claim { name: claim.to_owned(), prefix: prefix.clone() }),
            _ if !prefixed => Ok(Source::Claim { name: claim.to_owned(), prefix: String::new() }),
            _ => Err(format!(
                "{at}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    #[test]
    fn wrong_configurations_are_refused_by_name() {
        let check = |jwt: &str, says: &str| {
            let error = Configuration::parse(&format!("{HEAD}jwt:\n- {jwt}\n")).err().unwrap_or_default();
            assert!(error.contains(says), "{jwt}: {error}");
        };
        check("{}", "jwt[0].issuer.url: Required value");
        check("{issuer: {url: 'http://a'}}", "URL scheme must be https");
        check("{issuer: {url: 'https://a'}}", "issuer.audiences: Required value");
        check("{issuer: {url: 'https://a', audiences: [a, b]}}", "MatchAny");
        check("{issuer: {url: 'https://a', audiences: [a]}}", "claimMappings.username: Required value");
        check(
            "{issuer: {url: 'https://a', audiences: [a]}, claimMappings: {username: {claim: sub}}}",
            "prefix is required",
        );
    }

    #[test]
    fn reads_issuers_and_anonymous() {
        let text = format!(
            "{HEAD}jwt:\n- issuer: {{url: 'https://a', audiences: [a]}}\n  claimMappings: {{username: {{claim: sub, prefix: ''}}}}\nanonymous: {{enabled: true, conditions: [{{path: /livez}}]}}\n"
        );
        let read = Configuration::parse(&text).unwrap();
        assert_eq!(read.issuers[0].url, "https://a");
        assert_eq!(read.anonymous, Some(Anonymous::Paths(vec!["/livez".into()])));
    }
}
