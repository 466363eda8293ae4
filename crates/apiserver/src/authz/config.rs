//! The chain of authorizers out of `--authorization-mode`, or of an `AuthorizationConfiguration` file.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization>

use std::path::Path;
use std::time::Duration;

use machinery::field::{Error, Path as FieldPath};
use machinery::{Get, Value, json};

use super::webhook::{Conditions, Settings, Webhook};
use super::{Authorizer, aggregate};
use crate::config::Access;
use crate::config::strict::{self, Shape};
use crate::remote::{self, Client};

/// Authorizers in the order in which they are asked.
pub struct Chain(pub Vec<Authorizer>);

impl Chain {
    pub fn new(access: &Access) -> Result<Self, String> {
        match &access.authorization_config {
            Some(path) => Self::read(path),
            None => Self::of_modes(access),
        }
    }

    fn of_modes(access: &Access) -> Result<Self, String> {
        let mut out = Vec::new();
        for (n, mode) in access.authorization_modes.iter().enumerate() {
            if access.authorization_modes[..n].contains(mode) {
                return Err(format!("authorization-mode {mode:?} has mode specified more than once"));
            }
            out.push(match mode.as_str() {
                "AlwaysAllow" => Authorizer::AlwaysAllow,
                "AlwaysDeny" => Authorizer::AlwaysDeny,
                "Node" => Authorizer::Node,
                "RBAC" => Authorizer::Rbac,
                "Webhook" => {
                    let settings = &access.authorization_webhook;
                    let file = settings.config_file.as_deref().ok_or(
                        "authorization-mode Webhook's authorization config file not passed (--authorization-webhook-config-file)",
                    )?;
                    let client = Client::from_kubeconfig(file)?;
                    Authorizer::Webhook(Webhook::new(client, Settings {
                        version: version(&settings.version, "--authorization-webhook-version")?,
                        authorized_ttl: settings.authorized_ttl,
                        unauthorized_ttl: settings.unauthorized_ttl,
                        ..Settings::default()
                    }))
                }
                other => return Err(format!("authorization-mode {other:?} is not a valid mode")),
            });
        }
        if out.is_empty() {
            return Err("at least one authorization-mode must be passed".to_owned());
        }
        Ok(Self(out))
    }

    /// Reads the file; every error names it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |e: String| {
            format!("failed to load AuthorizationConfiguration from file {}: {e}", path.display())
        };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let document = strict::document(text, "AuthorizationConfiguration", &VERSIONS, &CONFIGURATION)?;
        let (at, list) = (FieldPath::new("authorizers"), document.list("authorizers"));
        let mut errors = Vec::new();
        if list.is_empty() {
            errors.push(Error::required(&at, "at least one authorization mode must be defined"));
        }
        let (mut types, mut names): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        for (n, item) in list.iter().enumerate() {
            let (at, kind, name) = (at.index(n), item.text("type"), item.text("name"));
            if kind.is_empty() {
                errors.push(Error::required(&at.child("type"), ""));
                continue;
            }
            if !KNOWN.contains(&kind) {
                errors.push(Error::not_supported(&at.child("type"), kind, &KNOWN));
                continue;
            }
            if types.contains(&kind) && kind != "Webhook" {
                errors.push(Error::duplicate(&at.child("type"), kind));
                continue;
            }
            types.push(kind);
            check_name(name, &names, &at.child("name"), &mut errors);
            names.push(name);
            let webhook = item.at("webhook");
            if kind == "Webhook" {
                if webhook.is_object() {
                    out.extend(read_webhook(webhook, name, &at, &mut errors).map(Authorizer::Webhook));
                } else {
                    errors.push(Error::required(&at.child("webhook"), "required when type=Webhook"));
                }
                continue;
            }
            if webhook.is_object() {
                let detail = "may only be specified when type=Webhook";
                errors.push(Error::invalid(&at.child("webhook"), "non-null", detail));
            }
            out.push(match kind {
                "AlwaysAllow" => Authorizer::AlwaysAllow,
                "AlwaysDeny" => Authorizer::AlwaysDeny,
                "Node" => Authorizer::Node,
                _ => Authorizer::Rbac,
            });
        }
        if errors.is_empty() {
            return Ok(Self(out));
        }
        Err(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()))
    }

    /// A changed file; what these authorizers keep is made when the server starts.
    pub fn again(&self, text: &str) -> Result<Self, String> {
        let next = Self::parse(text)?;
        for (kind, name) in [(Authorizer::Node, "Node"), (Authorizer::Rbac, "RBAC")] {
            let has = |chain: &Self| {
                chain.0.iter().any(|a| std::mem::discriminant(a) == std::mem::discriminant(&kind))
            };
            if has(&next) && !has(self) {
                return Err(format!(
                    "authorizer type {name} is not allowed if it was not enabled at initial server startup"
                ));
            }
        }
        Ok(next)
    }
}

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// ABAC is not among them: its files are of another age.
const KNOWN: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];

const WEBHOOK: Shape = Shape::Fields(&[
    ("authorizedTTL", Shape::Text),
    ("cacheAuthorizedRequests", Shape::Flag),
    ("unauthorizedTTL", Shape::Text),
    ("cacheUnauthorizedRequests", Shape::Flag),
    ("timeout", Shape::Text),
    ("subjectAccessReviewVersion", Shape::Text),
    ("matchConditionSubjectAccessReviewVersion", Shape::Text),
    ("failurePolicy", Shape::Text),
    ("connectionInfo", Shape::Fields(&[("type", Shape::Text), ("kubeConfigFile", Shape::Text)])),
    ("matchConditions", Shape::List(&Shape::Fields(&[("expression", Shape::Text)]))),
]);

const CONFIGURATION: Shape = Shape::Fields(&[(
    "authorizers",
    Shape::List(&Shape::Fields(&[("type", Shape::Text), ("name", Shape::Text), ("webhook", WEBHOOK)])),
)]);

fn check_name(name: &str, seen: &[&str], at: &FieldPath, errors: &mut Vec<Error>) {
    let wrong = machinery::names::dns1123_subdomain(name);
    if name.is_empty() {
        errors.push(Error::required(at, ""));
    } else if seen.contains(&name) {
        errors.push(Error::duplicate(at, name));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(at, name, format!("authorizer name is invalid: {}", wrong.join(", "))));
    }
}

fn time(
    spec: &Value,
    key: &str,
    usual: Option<u64>,
    longest: Option<u64>,
    at: &FieldPath,
    errors: &mut Vec<Error>,
) -> Duration {
    let (at, text) = (at.child(key), spec.text(key));
    let given = if text.is_empty() { Some(Duration::ZERO) } else { remote::duration(spec.at(key)) };
    let Some(given) = given else {
        errors.push(Error::invalid(&at, text, format!("time: invalid duration {text:?}")));
        return Duration::ZERO;
    };
    let detail = if longest.is_some() { "must be > 0s and <= 30s" } else { "must be > 0s" };
    let too_long = longest.is_some_and(|most| given > Duration::from_secs(most));
    match (given.is_zero() && !text.starts_with('-'), usual) {
        (true, Some(usual)) => return Duration::from_secs(usual),
        (true, None) => errors.push(Error::required(&at, "")),
        _ if too_long || text.starts_with('-') => {
            let shown = if text.starts_with('-') {
                text.to_owned()
            } else {
                crate::front::zpages::flags::duration(given)
            };
            errors.push(Error::invalid(&at, shown, detail));
        }
        _ => {}
    }
    given
}

/// Upstream's paths leave `webhook` out.
fn read_webhook(spec: &Value, name: &str, at: &FieldPath, errors: &mut Vec<Error>) -> Option<Webhook> {
    let found = errors.len();
    let timeout = time(spec, "timeout", None, Some(30), at, errors);
    let authorized = time(spec, "authorizedTTL", Some(300), None, at, errors);
    let unauthorized = time(spec, "unauthorizedTTL", Some(30), None, at, errors);
    let mut one_of = |key: &str, known: &[&str], needed: Option<&str>| {
        let (at, text) = (at.child(key), spec.text(key));
        match (text, needed) {
            ("", Some(why)) => errors.push(Error::required(&at, why)),
            ("", None) => {}
            _ if !known.contains(&text) => errors.push(Error::not_supported(&at, text, known)),
            _ => {}
        }
    };
    one_of("subjectAccessReviewVersion", &["v1", "v1beta1"], Some(""));
    let conditions = spec.list("matchConditions");
    let why = (!conditions.is_empty()).then_some("required if match conditions are specified");
    one_of("matchConditionSubjectAccessReviewVersion", &["v1"], why);
    one_of("failurePolicy", &["NoOpinion", "Deny"], Some(""));
    let file = connection(spec.at("connectionInfo"), &at.child("connectionInfo"), errors);
    let conditions = Conditions::compile(conditions, &at.child("matchConditions"), errors);
    if errors.len() > found {
        return None;
    }
    let client = match Client::from_kubeconfig(Path::new(file?)) {
        Ok(client) => client,
        Err(why) => {
            errors.push(Error::invalid(&at.child("connectionInfo").child("kubeConfigFile"), file?, why));
            return None;
        }
    };
    let kept = |key: &str, time: Duration| if spec.flag(key) == Some(false) { Duration::ZERO } else { time };
    let settings = Settings {
        name: name.to_owned(),
        version: spec.text("subjectAccessReviewVersion").to_owned(),
        authorized_ttl: kept("cacheAuthorizedRequests", authorized),
        unauthorized_ttl: kept("cacheUnauthorizedRequests", unauthorized),
        timeout,
        deny_on_error: spec.text("failurePolicy") == "Deny",
        conditions,
    };
    Some(Webhook::new(client, settings))
}

fn connection<'a>(info: &'a Value, at: &FieldPath, errors: &mut Vec<Error>) -> Option<&'a str> {
    let (kind, file) = (info.text("type"), info.text("kubeConfigFile"));
    let here = at.child("kubeConfigFile");
    match kind {
        "" => errors.push(Error::required(&at.child("type"), "")),
        "KubeConfigFile" if file.is_empty() => errors.push(Error::required(&here, "")),
        "KubeConfigFile" if !file.starts_with('/') => {
            errors.push(Error::invalid(&here, file, "must be an absolute path"));
        }
        "KubeConfigFile" => match std::fs::metadata(file) {
            Ok(found) if found.is_file() => return Some(file),
            Ok(_) => errors.push(Error::invalid(&here, file, "must be a regular file")),
            Err(e) => errors.push(Error::invalid(&here, file, format!("error loading file: {e}"))),
        },
        "InClusterConfig" if info.has("kubeConfigFile") => {
            errors.push(Error::invalid(&here, file, "can only be set when type=KubeConfigFile"));
        }
        "InClusterConfig" => {
            // this server is not one of the cluster's pods
            errors.push(Error::invalid(&at.child("type"), kind, "the server does not run in a pod"));
        }
        _ => errors.push(Error::not_supported(
            &at.child("type"),
            json!({"Type": kind, "KubeConfigFile": info.at("kubeConfigFile")}),
            &["InClusterConfig", "KubeConfigFile"],
        )),
    }
    None
}

fn version(text: &str, what: &str) -> Result<String, String> {
    match text {
        "v1" | "v1beta1" => Ok(text.to_owned()),
        other => Err(format!("{what}: Unsupported value: {other:?}: supported values: \"v1\", \"v1beta1\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_configurations_are_refused_by_name() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
        let check = |body: &str, says: &str| {
            let error = Chain::parse(&format!("{head}{body}")).err().unwrap_or_default();
            assert_eq!(error, says, "{body}");
        };
        check(
            "authorizers: []",
            "authorizers: Required value: at least one authorization mode must be defined",
        );
        check("authorizers: [{type: RBAC}]", "authorizers[0].name: Required value");
        check(
            "authorizers: [{type: X, name: a}, {name: b}]",
            "[authorizers[0].type: Unsupported value: \"X\": supported values: \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\", authorizers[1].type: Required value]",
        );
        check(
            "authorizers: [{type: RBAC, name: a}, {type: Node, name: a}]",
            "authorizers[1].name: Duplicate value: \"a\"",
        );
        check(
            "authorizers: [{type: RBAC, name: a}, {type: RBAC, name: b}]",
            "authorizers[1].type: Duplicate value: \"RBAC\"",
        );
        check(
            "authorizers: [{type: RBAC, name: a, webhook: {}}]",
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        );
        check(
            "authorizers: [{type: Webhook, name: a}]",
            "authorizers[0].webhook: Required value: required when type=Webhook",
        );
        check(
            "authorizers: [{type: Webhook, name: a, webhook: {timeout: 31s, unauthorizedTTL: -1s, failurePolicy: X, matchConditions: [{expression: ' '}, {expression: '1'}], connectionInfo: {type: KubeConfigFile, kubeConfigFile: x}}}]",
            "[authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s, \
             authorizers[0].unauthorizedTTL: Invalid value: \"-1s\": must be > 0s, \
             authorizers[0].subjectAccessReviewVersion: Required value, \
             authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified, \
             authorizers[0].failurePolicy: Unsupported value: \"X\": supported values: \"NoOpinion\", \"Deny\", \
             authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"x\": must be an absolute path, \
             authorizers[0].matchConditions[0].expression: Required value, \
             authorizers[0].matchConditions[1].expression: Invalid value: \"1\": must evaluate to bool but got int]",
        );
        check(
            "authorizers: [{type: RBAC, nam: a}]",
            "strict decoding error: unknown field \"authorizers[0].nam\"",
        );
        assert!(Chain::parse("kind: X").is_err());
        let chain = Chain::parse(&format!(
            "{head}authorizers: [{{type: Node, name: node}}, {{type: RBAC, name: rbac}}]"
        ));
        assert!(matches!(chain.unwrap().0[..], [Authorizer::Node, Authorizer::Rbac]));
    }

    #[test]
    fn modes_make_the_chain() {
        let with = |modes: &[&str]| {
            let access = Access {
                authorization_modes: modes.iter().map(|m| (*m).to_owned()).collect(),
                ..Access::default()
            };
            Chain::new(&access).map(|c| c.0.len())
        };
        assert_eq!(with(&["Node", "RBAC"]), Ok(2));
        assert!(with(&["RBAC", "RBAC"]).unwrap_err().contains("more than once"));
        assert!(with(&["Rbac"]).unwrap_err().contains("not a valid mode"));
        assert!(with(&["Webhook"]).unwrap_err().contains("config file not passed"));
    }
}
