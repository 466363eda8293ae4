//! The chain of authorizers out of `--authorization-mode`, or of an `AuthorizationConfiguration` file.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization>

use std::path::Path;
use std::time::Duration;

use machinery::{Get, Value};

use super::Authorizer;
use super::webhook::{Settings, Webhook};
use crate::config::Access;
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
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let document = remote::document(text)?;
        if document.text("kind") != "AuthorizationConfiguration" {
            return Err("it is not an AuthorizationConfiguration".to_owned());
        }
        let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
        if !known.iter().any(|v| v == document.text("apiVersion")) {
            return Err(format!("unknown apiVersion {:?}", document.text("apiVersion")));
        }
        let list = document.list("authorizers");
        if list.is_empty() {
            return Err(
                "authorizers: Required value: at least one authorization mode must be defined".to_owned()
            );
        }
        let mut names: Vec<&str> = Vec::new();
        let mut out = Vec::new();
        for (n, item) in list.iter().enumerate() {
            let wrong = |why: String| format!("authorizers[{n}]: {why}");
            let (kind, name) = (item.text("type"), item.text("name"));
            if name.is_empty() {
                return Err(format!("authorizers[{n}].name: Required value"));
            }
            if names.contains(&name) {
                return Err(format!("authorizers[{n}].name: Duplicate value: {name:?}"));
            }
            names.push(name);
            if kind != "Webhook" && item.at("webhook").is_object() {
                return Err(wrong(format!(
                    "webhook: may be specified only when type is Webhook, not {kind}"
                )));
            }
            out.push(match kind {
                "AlwaysAllow" => Authorizer::AlwaysAllow,
                "AlwaysDeny" => Authorizer::AlwaysDeny,
                "Node" => Authorizer::Node,
                "RBAC" => Authorizer::Rbac,
                "Webhook" => Authorizer::Webhook(webhook(item.at("webhook"), name).map_err(wrong)?),
                "" => return Err(format!("authorizers[{n}].type: Required value")),
                other => return Err(format!("authorizers[{n}].type: Unsupported value: {other:?}")),
            });
        }
        Ok(Self(out))
    }
}

fn version(text: &str, what: &str) -> Result<String, String> {
    match text {
        "v1" | "v1beta1" => Ok(text.to_owned()),
        other => Err(format!("{what}: Unsupported value: {other:?}: supported values: \"v1\", \"v1beta1\"")),
    }
}

fn webhook(spec: &Value, name: &str) -> Result<Webhook, String> {
    if !spec.is_object() {
        return Err("webhook: Required value: required when authorizer type is Webhook".to_owned());
    }
    let time = |key: &str, default: u64, required: bool| -> Result<Duration, String> {
        match (remote::duration(spec.at(key)), spec.at(key)) {
            (Some(time), _) => Ok(time),
            (None, Value::Null) if !required => Ok(Duration::from_secs(default)),
            (None, Value::Null) => Err(format!("webhook.{key}: Required value")),
            (None, other) => Err(format!("webhook.{key}: Invalid value: {other}: must be a duration")),
        }
    };
    let timeout = time("timeout", 30, true)?;
    if timeout.is_zero() || timeout > Duration::from_secs(30) {
        return Err(format!(
            "webhook.timeout: Invalid value: {timeout:?}: must be more than 0s and at most 30s"
        ));
    }
    let deny_on_error = match spec.text("failurePolicy") {
        "Deny" => true,
        "NoOpinion" => false,
        "" => return Err("webhook.failurePolicy: Required value".to_owned()),
        other => {
            return Err(format!(
                "webhook.failurePolicy: Unsupported value: {other:?}: supported values: \"Deny\", \"NoOpinion\""
            ));
        }
    };
    let connection = spec.at("connectionInfo");
    if connection.text("type") != "KubeConfigFile" {
        return Err(format!(
            "webhook.connectionInfo.type: Unsupported value: {:?}: supported values: \"KubeConfigFile\"",
            connection.text("type")
        ));
    }
    let file = connection.text("kubeConfigFile");
    if !file.starts_with('/') {
        return Err(format!(
            "webhook.connectionInfo.kubeConfigFile: Invalid value: {file:?}: must be an absolute path"
        ));
    }
    let caches = |key: &str| spec.flag(key) != Some(false);
    let zero = |keep: bool, time: Duration| if keep { time } else { Duration::ZERO };
    let settings = Settings {
        name: name.to_owned(),
        version: version(spec.text("subjectAccessReviewVersion"), "webhook.subjectAccessReviewVersion")?,
        authorized_ttl: zero(caches("cacheAuthorizedRequests"), time("authorizedTTL", 300, false)?),
        unauthorized_ttl: zero(caches("cacheUnauthorizedRequests"), time("unauthorizedTTL", 30, false)?),
        timeout,
        deny_on_error,
        conditions: super::webhook::Conditions::compile(spec.list("matchConditions"))?,
    };
    Ok(Webhook::new(Client::from_kubeconfig(Path::new(file))?, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_configurations_are_refused_by_name() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
        let check = |body: &str, says: &str| {
            let error = Chain::parse(&format!("{head}{body}")).err().unwrap_or_default();
            assert!(error.contains(says), "{body}: {error}");
        };
        check("authorizers: []", "at least one authorization mode");
        check("authorizers: [{type: RBAC}]", "authorizers[0].name: Required value");
        check("authorizers: [{type: X, name: a}]", "authorizers[0].type: Unsupported value: \"X\"");
        check("authorizers: [{type: RBAC, name: a}, {type: Node, name: a}]", "Duplicate value: \"a\"");
        check("authorizers: [{type: Webhook, name: a}]", "webhook: Required value");
        check(
            "authorizers: [{type: Webhook, name: a, webhook: {timeout: 3s}}]",
            "failurePolicy: Required value",
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
