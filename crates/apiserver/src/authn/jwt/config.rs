//! From flags and from an `AuthenticationConfiguration` to issuers.

use std::path::Path as File;
use std::sync::Arc;

use machinery::field::{Error, Path};
use machinery::{Get, Value, json};

use super::mapping::{Mapping, mapping};
use super::provider::{Provider, Trust};
use super::{Issuer, shape};
use crate::authn::anonymous::Anonymous;
use crate::authz::aggregate;
use crate::config::{Oidc, strict};

/// What go-oidc knows, but for ES512, whose curve our cryptography lacks.
const ALGORITHMS: [&str; 8] = ["ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// More issuers can't be configured.
const MOST: usize = 64;

/// What the file says.
#[derive(Default)]
pub struct Configuration {
    pub issuers: Vec<Arc<Issuer>>,
    /// None if the file says nothing of it.
    pub anonymous: Option<Anonymous>,
}

impl Configuration {
    /// `own`: issuers of service account tokens, which no provider may be.
    pub fn read(path: &File, own: &[String]) -> Result<Self, String> {
        let shown = machinery::field::go_quote(&path.display().to_string());
        let failed =
            |e: String| format!("failed to load authentication configuration from file {shown}: {e}");
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let document = load(&text).map_err(failed)?;
        build(&document, own, &ALGORITHMS.map(str::to_owned))
            .map_err(|e| format!("invalid authentication configuration: {e}"))
    }

    pub fn parse(text: &str, own: &[String]) -> Result<Self, String> {
        build(&load(text)?, own, &ALGORITHMS.map(str::to_owned))
    }

    /// By the `--oidc-*` flags.
    pub fn from_flags(flags: &Oidc, own: &[String]) -> Result<Self, String> {
        if flags.issuer_url.is_empty() || flags.client_id.is_empty() {
            return Err(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                    .to_owned(),
            );
        }
        if let Some(other) = flags.signing_algorithms.iter().find(|a| !ALGORITHMS.contains(&a.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {other:?}"));
        }
        let prefix = match (flags.username_prefix.as_str(), flags.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", flags.issuer_url),
            (prefix, _) => prefix.to_owned(),
        };
        let ca = flags.ca_file.as_deref().map(|path| {
            std::fs::read_to_string(path).map_err(|e| format!("--oidc-ca-file {}: {e}", path.display()))
        });
        let rules: Vec<Value> = flags
            .required_claims
            .iter()
            .map(|(claim, value)| json!({"claim": claim, "requiredValue": value}))
            .collect();
        let mut mappings = json!({"username": {"claim": flags.username_claim, "prefix": prefix}});
        if !flags.groups_claim.is_empty() {
            mappings["groups"] = json!({"claim": flags.groups_claim, "prefix": flags.groups_prefix});
        }
        let document = json!({"jwt": [{
            "issuer": {"url": flags.issuer_url, "audiences": [flags.client_id],
                "certificateAuthority": ca.transpose()?.unwrap_or_default()},
            "claimMappings": mappings, "claimValidationRules": rules,
        }]});
        build(&document, own, &flags.signing_algorithms)
            .map_err(|e| format!("invalid authentication configuration: {e}"))
    }
}

fn load(text: &str) -> Result<Value, String> {
    strict::document(text, "AuthenticationConfiguration", &VERSIONS, &shape::AUTHENTICATION)
}

fn build(document: &Value, own: &[String], algorithms: &[String]) -> Result<Configuration, String> {
    let mut errors = Vec::new();
    let mut out = Configuration::default();
    let list = document.list("jwt");
    let at = Path::new("jwt");
    if list.len() > MOST {
        return Err(Error::too_many(&at, list.len(), MOST).to_string());
    }
    let (mut urls, mut discoveries) = (Vec::new(), Vec::new());
    for (n, item) in list.iter().enumerate() {
        let at = at.index(n);
        let built = issuer(item, own, algorithms, &at, &mut errors);
        out.issuers.extend(built.map(Arc::new));
        for (key, seen) in [("url", &mut urls), ("discoveryURL", &mut discoveries)] {
            let text = item.at("issuer").text(key);
            if seen.contains(&text) && (key == "url" || !text.is_empty()) {
                errors.push(Error::duplicate(&at.child("issuer").child(key), text));
            }
            seen.push(text);
        }
    }
    let anonymous = document.at("anonymous");
    if anonymous.is_object() {
        out.anonymous = Some(Anonymous::parse(anonymous, &mut errors));
    }
    if errors.is_empty() {
        return Ok(out);
    }
    Err(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

fn issuer(
    item: &Value,
    own: &[String],
    algorithms: &[String],
    at: &Path,
    errors: &mut Vec<Error>,
) -> Option<Issuer> {
    let found = errors.len();
    let issuer = item.at("issuer");
    let here = at.child("issuer");
    let url = issuer.text("url");
    if url.is_empty() {
        errors.push(Error::required(&here.child("url"), ""));
    } else {
        check_url(url, own, &here.child("url"), errors);
    }
    let discovery = issuer.text("discoveryURL");
    if !discovery.is_empty() {
        let at = here.child("discoveryURL");
        if !url.is_empty() && url.trim_end_matches('/') == discovery.trim_end_matches('/') {
            errors.push(Error::invalid(&at, discovery, "discoveryURL must be different from URL"));
        }
        check_url(discovery, &[], &at, errors);
    }
    let audiences = audiences(issuer, &here, errors);
    let ca = issuer.text("certificateAuthority");
    let trust = Trust::new(ca);
    if let Err(why) = &trust {
        errors.push(Error::invalid(&here.child("certificateAuthority"), "<omitted>", why.as_str()));
    }
    let egress = issuer.text("egressSelectorType");
    if !matches!(egress, "" | "controlplane" | "cluster") {
        let detail = "egress selector must be either controlplane or cluster";
        errors.push(Error::invalid(&here.child("egressSelectorType"), egress, detail));
    }
    let mapping: Mapping = mapping(item, at, errors);
    if errors.len() > found {
        return None;
    }
    Some(Issuer {
        url: url.to_owned(),
        audiences,
        algorithms: algorithms.to_vec(),
        mapping,
        provider: Provider::new(url, discovery, trust.ok()?),
        sources: super::distributed::Sources::default(),
    })
}

fn check_url(text: &str, own: &[String], at: &Path, errors: &mut Vec<Error>) {
    let mut wrong = |detail: &str| errors.push(Error::invalid(at, text, detail));
    if own.iter().any(|o| o == text) {
        let mut own = own.to_vec();
        own.sort_unstable();
        own.dedup();
        wrong(&format!("URL must not overlap with disallowed issuers: [{}]", own.join(" ")));
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    if text.chars().any(|c| c.is_ascii_control()) {
        return wrong(&format!(
            "parse {}: net/url: invalid control character in URL",
            machinery::field::go_quote(text)
        ));
    }
    if !scheme.eq_ignore_ascii_case("https") {
        wrong("URL scheme must be https");
    }
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        wrong("URL must not contain a username or password");
    }
    if !query.is_empty() {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

fn audiences(issuer: &Value, here: &Path, errors: &mut Vec<Error>) -> Vec<String> {
    let at = here.child("audiences");
    let found: Vec<String> =
        issuer.list("audiences").iter().map(|a| a.as_str().unwrap_or_default().to_owned()).collect();
    if found.is_empty() {
        errors.push(Error::required(&at, format!("at least one {at} is required")));
        return found;
    }
    for (n, audience) in found.iter().enumerate() {
        if audience.is_empty() {
            errors.push(Error::required(&at.index(n), ""));
        }
        if found[..n].contains(audience) {
            errors.push(Error::duplicate(&at.index(n), audience.as_str()));
        }
    }
    let (at, policy) = (here.child("audienceMatchPolicy"), issuer.text("audienceMatchPolicy"));
    let detail = match (found.len(), policy) {
        (_, "MatchAny") | (1, "") => return found,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(Error::invalid(&at, policy, detail));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    fn errors(body: &str) -> String {
        Configuration::parse(&format!("{HEAD}{body}"), &["https://own".into()]).err().unwrap_or_default()
    }

    const GOOD: &str =
        "issuer: {url: 'https://a', audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}";

    #[test]
    fn wrong_issuers_are_refused_by_name() {
        let check = |issuer: &str, says: &str| {
            let mapping = "claimMappings: {username: {claim: sub, prefix: ''}}";
            assert_eq!(errors(&format!("jwt:\n- {{issuer: {{{issuer}}}, {mapping}}}\n")), says, "{issuer}");
        };
        let audience = "audiences: [a]";
        check("audiences: [a]", "jwt[0].issuer.url: Required value");
        check(
            &format!("url: 'http://a', {audience}"),
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        );
        check(
            &format!("url: 'https://u:p@a?b#c', {audience}"),
            "[jwt[0].issuer.url: Invalid value: \"https://u:p@a?b#c\": URL must not contain a username or password, \
             jwt[0].issuer.url: Invalid value: \"https://u:p@a?b#c\": URL must not contain a query, \
             jwt[0].issuer.url: Invalid value: \"https://u:p@a?b#c\": URL must not contain a fragment]",
        );
        check(
            &format!("url: 'https://own', {audience}"),
            "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
        );
        check(
            &format!("url: 'https://a', discoveryURL: 'https://a/', {audience}"),
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a/\": discoveryURL must be different from URL",
        );
        check(
            "url: 'https://a'",
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        );
        check(
            "url: 'https://a', audiences: [a, b]",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
        );
        check(
            "url: 'https://a', audiences: [a], audienceMatchPolicy: X",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"X\": audienceMatchPolicy must be empty or MatchAny for single audience",
        );
        check(
            "url: 'https://a', audiences: [a, a, ''], audienceMatchPolicy: MatchAny",
            "[jwt[0].issuer.audiences[1]: Duplicate value: \"a\", jwt[0].issuer.audiences[2]: Required value]",
        );
        check(
            &format!("url: 'https://a', certificateAuthority: x, {audience}"),
            "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA certificates",
        );
        assert_eq!(
            errors(&format!("jwt: [{{{GOOD}}}, {{{GOOD}}}]")),
            "jwt[1].issuer.url: Duplicate value: \"https://a\""
        );
        assert_eq!(
            errors("anonymous: {enabled: false, conditions: [{path: /livez}]}"),
            "anonymous.conditions: Invalid value: [{\"Path\":\"/livez\"}]: enabled should be set to true when conditions are defined"
        );
        assert_eq!(
            errors(&format!("jwt: [{{{GOOD}, more: 1}}]")),
            "strict decoding error: unknown field \"jwt[0].more\""
        );
    }

    #[test]
    fn wrong_mappings_are_refused_by_name() {
        let check = |rest: &str, says: &str| {
            let issuer = "issuer: {url: 'https://a', audiences: [a]}";
            assert_eq!(errors(&format!("jwt:\n- {{{issuer}, {rest}}}\n")), says, "{rest}");
        };
        let user = "claimMappings: {username: {claim: sub, prefix: ''}}";
        check(
            "claimMappings: {}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        );
        check(
            "claimMappings: {username: {claim: sub}}",
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        check(
            "claimMappings: {username: {claim: sub, expression: claims.sub}}",
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        );
        check(
            "claimMappings: {username: {expression: claims.email}}",
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        );
        check(
            "claimMappings: {username: {expression: claims.email}}, claimValidationRules: [{expression: 'claims.?email_verified.orValue(true) == true'}]",
            "",
        );
        check(
            "claimMappings: {username: {expression: '1 +'}}",
            "jwt[0].claimMappings.username.expression: Invalid value: \"1 +\": compilation failed: ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
        );
        check(
            &format!(
                "{user}, claimValidationRules: [{{claim: a, expression: b}}, {{}}, {{claim: a, message: m}}]"
            ),
            "[jwt[0].claimValidationRules[0]: Invalid value: \"a\": claim and expression can't both be set, \
             jwt[0].claimValidationRules[1]: Required value: claim or expression is required, \
             jwt[0].claimValidationRules[2].message: Invalid value: \"m\": may not be specified when claim is set]",
        );
        check(
            &format!("{user}, claimValidationRules: [{{expression: '1'}}]"),
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"1\": must evaluate to bool",
        );
        check(
            &format!("{user}, userValidationRules: [{{}}, {{expression: 'true'}}, {{expression: 'true'}}]"),
            "[jwt[0].userValidationRules[0].expression: Required value, \
             jwt[0].userValidationRules[2].expression: Duplicate value: \"true\"]",
        );
        let extra = |key: &str| {
            format!(
                "claimMappings: {{username: {{claim: sub, prefix: ''}}, extra: [{{key: {key}, valueExpression: '1'}}]}}"
            )
        };
        check(
            &extra("foo"),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        );
        check(
            &extra("a.k8s.io/x"),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"a.k8s.io/x\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        );
        check(
            &extra("example.org/X"),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"example.org/X\": must be lowercase",
        );
    }

    #[test]
    fn reads_issuers_and_anonymous() {
        let text = format!(
            "{HEAD}jwt: [{{{GOOD}}}]\nanonymous: {{enabled: true, conditions: [{{path: /livez}}]}}\n"
        );
        let read = Configuration::parse(&text, &[]).ok().unwrap();
        assert_eq!(read.issuers[0].url, "https://a");
        assert_eq!(read.anonymous, Some(Anonymous::Paths(vec!["/livez".into()])));
    }
}
