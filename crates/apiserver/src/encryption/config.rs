//! Reading an `EncryptionConfiguration`: which providers for which resources.

use base64::Engine;
use machinery::{Get, Value};

use super::envelope::{Cipher, Key, Provider, Providers};
use crate::kinds::HomeName;

pub struct Rules(Vec<(Vec<Pattern>, Providers)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    One(HomeName),
    Group(String),
    All,
}

impl Pattern {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
    fn parse(text: &str) -> Result<Self, String> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        match (resource, group) {
            ("", _) => Err("resource can't be empty".to_owned()),
            ("*", "*") => Ok(Pattern::All),
            ("*", group) if text.contains('.') => Ok(Pattern::Group(group.to_owned())),
            ("*", _) => Err(
                "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
                    .to_owned(),
            ),
            (_, "*") => Err("wildcard is not allowed as a group with a named resource".to_owned()),
            _ if text.contains('/') => Err("subresources can't be encrypted".to_owned()),
            _ if text.chars().any(char::is_uppercase) => {
                Err("resource name should not contain capital letters".to_owned())
            }
            ("events", "") | ("events", "events.k8s.io") => Ok(Pattern::One(HomeName::builtin("", "events"))),
            _ if group == "extensions" => {
                Err("'extensions' group has been removed and cannot be used for encryption".to_owned())
            }
            _ => Ok(Pattern::One(HomeName::builtin(group, resource))),
        }
    }
}

impl Rules {
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = crate::remote::document(text)?;
        if document.text("apiVersion") != "apiserver.config.k8s.io/v1"
            || document.text("kind") != "EncryptionConfiguration"
        {
            return Err("it is not an EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned());
        }
        let list = document.list("resources");
        if list.is_empty() {
            return Err(
                "resources: Required value: encryption config must contain at least one resource".to_owned()
            );
        }
        let mut rules = Vec::new();
        for (n, item) in list.iter().enumerate() {
            rules.push(rule(item).map_err(|e| format!("resources[{n}].{e}"))?);
        }
        Ok(Self(rules))
    }

    /// The providers of a resource: what names it before what names its group before what names all.
    pub fn of(&self, home: &HomeName) -> Option<&Providers> {
        let find = |fits: &dyn Fn(&Pattern) -> bool| {
            self.0.iter().find(|(patterns, _)| patterns.iter().any(fits)).map(|(_, p)| p)
        };
        find(&|p| matches!(p, Pattern::One(name) if name == home))
            .or_else(|| find(&|p| matches!(p, Pattern::Group(group) if *group == home.group)))
            .or_else(|| find(&|p| *p == Pattern::All))
    }
}

fn rule(item: &Value) -> Result<(Vec<Pattern>, Providers), String> {
    let mut patterns = Vec::new();
    for (n, text) in item.list("resources").iter().enumerate() {
        let text = text.as_str().unwrap_or_default();
        patterns
            .push(Pattern::parse(text).map_err(|e| format!("resources[{n}]: Invalid value: {text:?}: {e}"))?);
    }
    if patterns.is_empty() {
        return Err("resources: Required value: resources must be specified".to_owned());
    }
    let list = item.list("providers");
    if list.is_empty() {
        return Err("providers: Required value: at least one provider must be specified".to_owned());
    }
    let mut providers = Vec::new();
    for (n, item) in list.iter().enumerate() {
        providers.push(provider(item).map_err(|e| format!("providers[{n}]{e}"))?);
    }
    Ok((patterns, Providers(providers)))
}

fn provider(item: &Value) -> Result<Provider, String> {
    let Some((kind, settings)) = item.as_object().filter(|m| m.len() == 1).and_then(|m| m.iter().next())
    else {
        return Err(
            ": Invalid value: provider must contain exactly one of aesgcm, aescbc, secretbox, kms, identity"
                .to_owned(),
        );
    };
    let cipher = match kind.as_str() {
        "identity" => return Ok(Provider::Identity),
        "aescbc" => Cipher::AesCbc,
        "aesgcm" => Cipher::AesGcm,
        "secretbox" => Cipher::SecretBox,
        "kms" => return Err(".kms: Unsupported value: key management services can't be used yet".to_owned()),
        other => {
            return Err(format!(
                ".{other}: Unsupported value: supported: aescbc, aesgcm, identity, secretbox"
            ));
        }
    };
    let mut keys = Vec::new();
    for (n, key) in settings.list("keys").iter().enumerate() {
        let at = format!(".{kind}.keys[{n}]");
        let name = key.text("name");
        if name.is_empty() {
            return Err(format!("{at}.name: Required value: key must have a name"));
        }
        if key.text("secret").is_empty() {
            return Err(format!("{at}.secret: Required value: key must have a secret"));
        }
        // a wrong secret is never shown
        let secret = base64::engine::general_purpose::STANDARD.decode(key.text("secret")).map_err(|_| {
            format!("{at}.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded")
        })?;
        if !cipher.key_lengths().contains(&secret.len()) {
            let lengths: Vec<String> = cipher.key_lengths().iter().map(ToString::to_string).collect();
            return Err(format!(
                "{at}.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of [{}]",
                secret.len(),
                lengths.join(" ")
            ));
        }
        keys.push(Key { name: name.to_owned(), secret });
    }
    if keys.is_empty() {
        return Err(format!(".{kind}.keys: Required value: at least one key must be specified"));
    }
    Ok(Provider::Keys { cipher, keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

    fn parse(resources: &str) -> Result<Rules, String> {
        Rules::parse(&format!("{HEAD}resources:\n{resources}\n"))
    }

    #[test]
    fn the_most_particular_rule_counts() {
        let rules = parse(
            "- {resources: ['*.*'], providers: [{identity: {}}]}\n- {resources: ['*.apps'], providers: [{identity: {}}, {identity: {}}]}\n- {resources: [secrets, deployments.apps], providers: [{identity: {}}, {identity: {}}, {identity: {}}]}",
        )
        .unwrap();
        let count =
            |group: &str, resource: &str| rules.of(&HomeName::builtin(group, resource)).unwrap().0.len();
        assert_eq!(
            (count("", "pods"), count("apps", "replicasets"), count("apps", "deployments")),
            (1, 2, 3)
        );
        assert_eq!(count("", "secrets"), 3);
        assert!(
            parse("- {resources: [secrets], providers: [{identity: {}}]}")
                .unwrap()
                .of(&HomeName::builtin("", "pods"))
                .is_none()
        );
    }

    #[test]
    fn wrong_configurations_are_refused_without_showing_secrets() {
        let check = |text: &str, says: &str| {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.contains(says) && !error.contains("aGVsbG8="), "{text}: {error}");
        };
        check("- {resources: [], providers: []}", "resources[0].resources: Required value");
        check("- {resources: ['*'], providers: [{identity: {}}]}", "use '*.'");
        check("- {resources: [secrets], providers: []}", "at least one provider");
        check("- {resources: [secrets], providers: [{aescbc: {}}]}", "at least one key");
        check(
            "- {resources: [secrets], providers: [{aescbc: {keys: [{name: a, secret: 'aGVsbG8='}]}}]}",
            "got 5, expected one of [16 24 32]",
        );
        check(
            "- {resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: '!'}]}}]}",
            "must be base64 encoded",
        );
        check("- {resources: [secrets], providers: [{rot13: {}}]}", "Unsupported value");
    }
}
