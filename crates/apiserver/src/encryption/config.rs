//! Reading an `EncryptionConfiguration`: which providers for which resources.

use base64::Engine;
use machinery::field::{Error, Path, go_quote};
use machinery::{Get, Value, json};

use super::envelope::{Cipher, Key, Provider, Providers};
use crate::authz::aggregate;
use crate::config::strict::{self, Shape};
use crate::kinds::HomeName;

/// By resource; `*` stands for all of a group, or for all groups.
pub struct Rules(Vec<(HomeName, Providers)>);

const KEYS: Shape = Shape::Fields(&[(
    "keys",
    Shape::List(&Shape::Fields(&[("name", Shape::Text), ("secret", Shape::Text)])),
)]);

const CONFIGURATION: Shape = Shape::Fields(&[(
    "resources",
    Shape::List(&Shape::Fields(&[
        ("resources", Shape::List(&Shape::Text)),
        (
            "providers",
            Shape::List(&Shape::Fields(&[
                ("aesgcm", KEYS),
                ("aescbc", KEYS),
                ("secretbox", KEYS),
                ("identity", Shape::Fields(&[])),
                (
                    "kms",
                    Shape::Fields(&[
                        ("apiVersion", Shape::Text),
                        ("name", Shape::Text),
                        ("cachesize", Shape::Number),
                        ("endpoint", Shape::Text),
                        ("timeout", Shape::Text),
                    ]),
                ),
            ])),
        ),
    ])),
)]);

impl Rules {
    pub fn parse(text: &str) -> Result<Self, String> {
        let failed = |e: String| format!("error while parsing file: {e}");
        let document = strict::document(
            text,
            "EncryptionConfiguration",
            &["apiserver.config.k8s.io/v1"],
            &CONFIGURATION,
        )
        .map_err(|e| failed(format!("error decoding encryption provider configuration file: {e}")))?;
        let mut errors = Vec::new();
        let list = read(&document, &mut errors);
        if !errors.is_empty() {
            return Err(failed(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>())));
        }
        Self::build(list).map_err(|e| format!("error while building transformers: {e}"))
    }

    /// A resource that is in several rules has the providers of all; one that an earlier wildcard has taken is an error.
    fn build(list: Vec<(Vec<HomeName>, Vec<Provider>)>) -> Result<Self, String> {
        let mut rules: Vec<(HomeName, Providers)> = Vec::new();
        for (names, providers) in list {
            for name in names {
                for group in [name.group.as_str(), "*"] {
                    let all = HomeName { group: group.to_owned(), resource: "*".to_owned() };
                    if rules.iter().any(|(known, _)| *known == all) {
                        return Err(format!(
                            "resource {} is masked by earlier rule {}",
                            go_quote(&in_words(&name)),
                            go_quote(&in_words(&all))
                        ));
                    }
                }
                match rules.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, has)) => has.0.extend(providers.iter().cloned()),
                    None => rules.push((name, Providers(providers.clone()))),
                }
            }
        }
        Ok(Self(rules))
    }

    /// The providers of a resource: what names it before what names its group before what names all.
    pub fn of(&self, home: &HomeName) -> Option<&Providers> {
        let find = |group: &str, resource: &str| {
            self.0.iter().find(|(name, _)| name.group == group && name.resource == resource).map(|(_, p)| p)
        };
        find(&home.group, &home.resource).or_else(|| find(&home.group, "*")).or_else(|| find("*", "*"))
    }
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
fn named(text: &str) -> HomeName {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    HomeName { group: group.to_owned(), resource: resource.to_owned() }
}

fn in_words(name: &HomeName) -> String {
    match (name.resource.as_str(), name.group.as_str()) {
        ("*", "") => "*.".to_owned(),
        (resource, "") => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    }
}

fn read(document: &Value, errors: &mut Vec<Error>) -> Vec<(Vec<HomeName>, Vec<Provider>)> {
    let (at, list) = (Path::new("resources"), document.list("resources"));
    let at_least_one = |what: &str| format!("at least one {what} is required");
    if list.is_empty() {
        errors.push(Error::required(&at, at_least_one("resources")));
    }
    let (mut out, mut kms_names) = (Vec::new(), Vec::new());
    for (n, item) in list.iter().enumerate() {
        let (resources_at, providers_at) = (at.index(n).child("resources"), at.index(n).child("providers"));
        let texts: Vec<&str> =
            item.list("resources").iter().map(|t| t.as_str().unwrap_or_default()).collect();
        if texts.is_empty() {
            errors.push(Error::required(&resources_at, at_least_one(resources_at.as_str())));
        }
        let names: Vec<HomeName> = texts.iter().map(|text| named(text)).collect();
        overlaps(&texts, &names, &resources_at, errors);
        for (n, (text, name)) in texts.iter().zip(&names).enumerate() {
            if let Some(why) = misnamed(text, name) {
                errors.push(Error::invalid(&resources_at.index(n), *text, why));
            }
        }
        if item.list("providers").is_empty() {
            errors.push(Error::required(&providers_at, at_least_one(providers_at.as_str())));
        }
        let mut providers = Vec::new();
        for (n, item) in item.list("providers").iter().enumerate() {
            providers.extend(provider(item, &providers_at.index(n), &mut kms_names, errors));
        }
        out.push((names, providers));
    }
    out
}

fn overlaps(texts: &[&str], names: &[HomeName], at: &Path, errors: &mut Vec<Error>) {
    let (mut overlap, mut twice) = (false, false);
    for (i, one) in names.iter().enumerate() {
        for (_, other) in names.iter().enumerate().filter(|(j, _)| i != *j) {
            if one == other && !twice {
                twice = true;
            } else if (one.group.as_str(), one.resource.as_str()) == ("*", "*") {
                overlap = true;
            } else if one.group == other.group {
                overlap |= one.resource == "*" || other.resource == "*";
            }
        }
    }
    if twice {
        errors.push(Error::invalid(at, json!(texts), "the same resource cannot be specified multiple times"));
    }
    if overlap {
        errors.push(Error::invalid(
            at,
            json!(texts),
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        ));
    }
}

fn misnamed(text: &str, name: &HomeName) -> Option<&'static str> {
    if text.to_lowercase() != text {
        return Some("resource name should not contain capital letters");
    }
    match text {
        "*" => {
            return Some(
                "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
            );
        }
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations" => {
            return Some("resources which do not have REST API/s cannot be encrypted");
        }
        _ => {}
    }
    match name.group.as_str() {
        "events.k8s.io" => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        "extensions" => Some("'extensions' group has been removed and cannot be used for encryption"),
        "*" if name.resource != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}

fn provider(
    item: &Value,
    at: &Path,
    kms_names: &mut Vec<String>,
    errors: &mut Vec<Error>,
) -> Option<Provider> {
    let kinds = ["aesgcm", "aescbc", "secretbox", "identity", "kms"];
    let found: Vec<&str> = kinds.into_iter().filter(|kind| item.at(kind).is_object()).collect();
    match found[..] {
        [] => errors.push(Error::invalid(
            at,
            json!({"AESGCM": null, "AESCBC": null, "Secretbox": null, "Identity": null, "KMS": null}),
            "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        )),
        [_] => {}
        // upstream shows them with their secrets
        _ => errors.push(Error::invalid(
            at,
            "REDACTED",
            "more than one provider specified in a single element, should split into different list elements",
        )),
    }
    if found.contains(&"kms") {
        kms(item.at("kms"), &at.child("kms"), kms_names, errors);
        return None;
    }
    let (kind, cipher) = match found.first()? {
        &"aesgcm" => ("aesgcm", Cipher::AesGcm),
        &"aescbc" => ("aescbc", Cipher::AesCbc),
        &"secretbox" => ("secretbox", Cipher::SecretBox),
        _ => return Some(Provider::Identity),
    };
    let at = at.child(kind).child("keys");
    let list = item.at(kind).list("keys");
    if list.is_empty() {
        errors.push(Error::required(&at, "at least one keys is required"));
    }
    let keys =
        list.iter().enumerate().filter_map(|(n, item)| key(item, cipher, &at.index(n), errors)).collect();
    Some(Provider::Keys { cipher, keys })
}

fn key(item: &Value, cipher: Cipher, at: &Path, errors: &mut Vec<Error>) -> Option<Key> {
    let (name, secret) = (item.text("name"), item.text("secret"));
    if name.is_empty() {
        errors.push(Error::required(&at.child("name"), "name is a mandatory field for a key"));
    }
    let at = at.child("secret");
    if secret.is_empty() {
        errors.push(Error::required(&at, "secret is a mandatory field for a key"));
        return None;
    }
    // a wrong secret is never shown
    let Ok(secret) = base64::engine::general_purpose::STANDARD.decode(secret) else {
        errors.push(Error::invalid(&at, "REDACTED", "secrets must be base64 encoded"));
        return None;
    };
    if !cipher.key_lengths().contains(&secret.len()) {
        let lengths: Vec<String> = cipher.key_lengths().iter().map(ToString::to_string).collect();
        let detail = format!(
            "secret is not of the expected length, got {}, expected one of [{}]",
            secret.len(),
            lengths.join(" ")
        );
        errors.push(Error::invalid(&at, "REDACTED", detail));
    }
    Some(Key { name: name.to_owned(), secret })
}

/// What is wrong with it is said as upstream does; what is right is not there yet.
fn kms(item: &Value, at: &Path, names: &mut Vec<String>, errors: &mut Vec<Error>) {
    let before = errors.len();
    let (name, endpoint, timeout) = (item.text("name"), item.text("endpoint"), item.text("timeout"));
    let version = if item.text("apiVersion").is_empty() { "v1" } else { item.text("apiVersion") };
    if name.is_empty() {
        errors.push(Error::required(&at.child("name"), "name is a mandatory field for a provider"));
    }
    if version != "v1" && name.contains(':') {
        let detail = format!("invalid KMS provider name {name}, must not contain ':'");
        errors.push(Error::invalid(&at.child("name"), name, detail));
    }
    if version != "v1" && names.iter().any(|known| known == name) {
        let detail = format!("duplicate KMS provider name {name}, names must be unique");
        errors.push(Error::invalid(&at.child("name"), name, detail));
    }
    names.push(name.to_owned());
    let positive = crate::front::query::go_duration(timeout).is_ok_and(|d| !d.is_zero());
    if !timeout.is_empty() && !positive {
        errors.push(Error::invalid(&at.child("timeout"), timeout, "timeout should be a positive value"));
    }
    let scheme = endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
    if endpoint.is_empty() {
        errors.push(Error::invalid(&at.child("endpoint"), "", "endpoint is a mandatory field for a kms"));
    } else if scheme != "unix" {
        let detail =
            format!("unsupported scheme {} for KMS provider, only unix is supported", go_quote(scheme));
        errors.push(Error::invalid(&at.child("endpoint"), endpoint, detail));
    }
    let cache = item.at("cachesize");
    if version != "v1" && cache.is_number() {
        errors.push(Error::invalid(
            &at.child("cachesize"),
            cache.clone(),
            "cachesize is not supported in v2",
        ));
    } else if version == "v1" && cache.as_i64() == Some(0) {
        let detail = "cachesize should be a positive value, or negative to disable";
        errors.push(Error::invalid(&at.child("cachesize"), 0, detail));
    }
    if !["v1", "v2"].contains(&version) {
        let detail = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        errors.push(Error::invalid(&at.child("apiVersion"), version, detail));
    }
    if errors.len() == before {
        errors.push(Error::forbidden(at, "key management services can't be used yet"));
    }
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
            "- {resources: [secrets, deployments.apps], providers: [{identity: {}}, {identity: {}}, {identity: {}}]}\n- {resources: ['*.apps'], providers: [{identity: {}}, {identity: {}}]}\n- {resources: [secrets], providers: [{identity: {}}]}\n- {resources: ['*.'], providers: [{identity: {}}]}\n- {resources: ['*.*'], providers: [{identity: {}}]}",
        )
        .unwrap();
        let count =
            |group: &str, resource: &str| rules.of(&HomeName::builtin(group, resource)).unwrap().0.len();
        assert_eq!(
            (count("", "pods"), count("apps", "replicasets"), count("apps", "deployments")),
            (1, 2, 3)
        );
        // of both rules
        assert_eq!(
            (count("", "secrets"), count("batch", "jobs"), count("events.k8s.io", "events")),
            (4, 1, 1)
        );
        assert!(
            parse("- {resources: [secrets], providers: [{identity: {}}]}")
                .unwrap()
                .of(&HomeName::builtin("", "pods"))
                .is_none()
        );
    }

    #[test]
    fn what_an_earlier_wildcard_has_taken_is_refused() {
        let check = |first: &str, second: &str, says: Option<(&str, &str)>| {
            let rule = |name: &str| format!("- {{resources: ['{name}'], providers: [{{identity: {{}}}}]}}\n");
            let error = parse(&(rule(first) + &rule(second))).err();
            let want = says.map(|(name, by)| {
                format!(
                    "error while building transformers: resource \"{name}\" is masked by earlier rule \"{by}\""
                )
            });
            assert_eq!(error, want, "{first} {second}");
        };
        check("*.", "secrets", Some(("secrets", "*.")));
        check("*.apps", "deployments.apps", Some(("deployments.apps", "*.apps")));
        check("*.apps", "*.apps", Some(("*.apps", "*.apps")));
        check("*.*", "*.", Some(("*.", "*.*")));
        check("*.*", "widgets.example.com", Some(("widgets.example.com", "*.*")));
        check("*.", "deployments.apps", None);
        check("secrets", "*.", None);
        check("*.apps", "*.*", None);
    }

    #[test]
    fn wrong_configurations_are_refused_without_showing_secrets() {
        let check = |text: &str, says: &str| {
            let error = parse(text).err().unwrap_or_default();
            assert!(!error.contains("aGVsbG8="), "{text}: {error}");
            assert_eq!(error.strip_prefix("error while parsing file: "), Some(says), "{text}");
        };
        let names = |list: &str, says: &str| {
            check(
                &format!("- {{resources: [{list}], providers: [{{identity: {{}}}}]}}"),
                &format!("resources[0].resources{says}"),
            );
        };
        check("", "resources: Required value: at least one resources is required");
        check(
            "- {resources: [], providers: []}",
            "[resources[0].resources: Required value: at least one resources[0].resources is required, resources[0].providers: Required value: at least one resources[0].providers is required]",
        );
        names(
            "'*'",
            "[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        );
        names("Secrets", "[0]: Invalid value: \"Secrets\": resource name should not contain capital letters");
        names(
            "pods.*",
            "[0]: Invalid value: \"pods.*\": encrypting the same resource across groups is not supported",
        );
        names(
            "events.events.k8s.io",
            "[0]: Invalid value: \"events.events.k8s.io\": '*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        );
        names(
            "serviceipallocations",
            "[0]: Invalid value: \"serviceipallocations\": resources which do not have REST API/s cannot be encrypted",
        );
        names(
            "'*.extensions'",
            "[0]: Invalid value: \"*.extensions\": 'extensions' group has been removed and cannot be used for encryption",
        );
        let (twice, masked) = (
            "the same resource cannot be specified multiple times",
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        );
        names("secrets, secrets", &format!(": Invalid value: [\"secrets\",\"secrets\"]: {twice}"));
        names("secrets, '*.'", &format!(": Invalid value: [\"secrets\",\"*.\"]: {masked}"));
        names("'*.*', jobs.batch", &format!(": Invalid value: [\"*.*\",\"jobs.batch\"]: {masked}"));
        let provider = |text: &str, says: &str| {
            check(
                &format!("- {{resources: [secrets], providers: [{text}]}}"),
                &format!("resources[0].providers[0]{says}"),
            );
        };
        check(
            "- {resources: [secrets], providers: [{identity: {}, aescbc: {keys: [{name: a, secret: 'aGVsbG8='}]}}]}",
            "[resources[0].providers[0]: Invalid value: \"REDACTED\": more than one provider specified in a single element, should split into different list elements, resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]]",
        );
        provider("{aescbc: {}}", ".aescbc.keys: Required value: at least one keys is required");
        provider(
            "{secretbox: {keys: [{name: a, secret: 'aGVsbG8='}]}}",
            ".secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [32]",
        );
        provider(
            "{secretbox: {keys: [{name: a, secret: '!'}]}}",
            ".secretbox.keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
        );
        provider(
            "{aesgcm: {keys: [{name: a}]}}",
            ".aesgcm.keys[0].secret: Required value: secret is a mandatory field for a key",
        );
        provider(
            "{kms: {apiVersion: v2, name: k, endpoint: 'http://x'}}",
            ".kms.endpoint: Invalid value: \"http://x\": unsupported scheme \"http\" for KMS provider, only unix is supported",
        );
        let decode = "error decoding encryption provider configuration file: ";
        check(
            "- {resources: [secrets], providers: [{rot13: {}}]}",
            &format!("{decode}strict decoding error: unknown field \"resources[0].providers[0].rot13\""),
        );
        check(
            "- {resources: secrets}",
            &format!(
                "{decode}json: cannot unmarshal string into Go struct field EncryptionConfiguration.resources[0].resources of type array"
            ),
        );
        let twice = parse("- {resources: [secrets], resources: [pods], providers: [{identity: {}}]}").err();
        assert!(twice.as_deref().is_some_and(|e| e.contains("strict decoding error: ")), "{twice:?}");
    }
}
