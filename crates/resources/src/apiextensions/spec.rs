//! The spec of a definition: group, scope, versions, names, conversion.

use std::collections::BTreeSet;

use base64::Engine;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::lax::Asked;
use super::version::{self, Common};
use super::{schema, shown};
use crate::admissionregistration::webhook;
use crate::check::Errors;
use crate::names;

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// All errors of a spec.
pub(super) fn check(spec: &Value, asked: &Asked, errors: &mut ErrorList) {
    let at = Path::new("spec");
    group(spec.text("group"), &at.child("group"), errors);
    some_of(spec.text("scope"), &["Cluster", "Namespaced"], &at.child("scope"), errors);
    let mut asked = asked.clone();
    let versions = spec.list("versions");
    let common = Common::of(spec);
    let preserves = spec.flag("preserveUnknownFields") == Some(true);
    asked.structural |= !preserves;
    missing_schemas(spec, common, &asked, preserves, &at.child("versions"), errors);
    if version::schemas(spec).any(|s| schema::has(s, &|s| s.has("default"))) {
        asked.structural = true;
        if preserves {
            let why = "must be false in order to use defaults in the schema";
            errors.invalid(&at.child("preserveUnknownFields"), true, why);
        }
    }
    asked.structural |= version::schemas(spec).any(|s| schema::has(s, &schema::is_extended));
    let (mut stores, mut seen, mut unique) = (0, BTreeSet::new(), true);
    for (i, version) in versions.iter().enumerate() {
        let at = at.child("versions").index(i);
        let name = version.text("name");
        stores += usize::from(version.flag("storage") == Some(true));
        unique &= seen.insert(name);
        let messages = names::dns1035_label(name);
        if !messages.is_empty() {
            errors.invalid(&at.child("name"), name, messages.join(","));
        }
        version::check(version, common, &asked, &at, errors);
    }
    let mut wrong = |why: &str| {
        errors.invalid_shown(&at.child("versions"), shown::versions(versions, &common), why);
    };
    if !unique {
        wrong("must contain unique version names");
    }
    if stores != 1 {
        wrong("must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first() {
        let messages = names::dns1035_label(first.text("name"));
        if !messages.is_empty() {
            errors.invalid(&at.child("version"), first.text("name"), messages.join(","));
        }
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        if spec.at("names").text(name).is_empty() {
            errors.required(&at.child("names").child(name), "");
        }
    }
    own_names(spec.at("names"), &at.child("names"), errors);
    version::check_common(spec, common, &asked, &at, errors);
    let at = at.child("conversion");
    let strategy = spec.at("conversion").text("strategy");
    if spec.has("conversion") && strategy != "None" && preserves {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.invalid(&at.child("strategy"), strategy, why);
    }
    conversion(spec.at("conversion"), &asked, &at, errors);
}

/// What may not change.
pub(super) fn check_update(new: &Value, old: &Value, asked: &Asked, errors: &mut ErrorList) {
    check(new, asked, errors);
    let at = Path::new("spec");
    let names_at = at.child("names");
    let (names, before) = (new.at("names"), old.at("names"));
    if asked.fixed_names {
        errors.immutable(&at.child("scope"), new.at("scope"), old.at("scope"));
        errors.immutable(&names_at.child("kind"), names.at("kind"), before.at("kind"));
    }
    errors.immutable(&at.child("group"), new.at("group"), old.at("group"));
    errors.immutable(&names_at.child("plural"), names.at("plural"), before.at("plural"));
}

fn group(group: &str, at: &Path, errors: &mut ErrorList) {
    if group.is_empty() {
        return errors.required(at, "");
    }
    let messages = names::dns1123_subdomain(group);
    if !messages.is_empty() {
        errors.invalid(at, group, messages.join(","));
    } else if !group.contains('.') {
        errors.invalid(at, group, "should be a domain with at least one dot");
    }
}

fn some_of(value: &str, known: &[&str], at: &Path, errors: &mut ErrorList) {
    match value {
        "" => errors.required(at, ""),
        value => errors.one_of(at, value, known),
    }
}

fn missing_schemas(
    spec: &Value,
    common: Common,
    asked: &Asked,
    preserves: bool,
    at: &Path,
    errors: &mut ErrorList,
) {
    let versions = spec.list("versions");
    let lacks = |v: &Value| !v.at("schema").has("openAPIV3Schema");
    if common.schema && versions.first().is_some_and(|v| !lacks(v)) {
        return;
    }
    for (i, version) in versions.iter().enumerate().filter(|(_, v)| lacks(v)) {
        let at = at.index(i).child("schema").child("openAPIV3Schema");
        if asked.schemas {
            errors.required(&at, "");
        } else if !preserves && version.flag("served") == Some(true) {
            errors.required(&at, "because otherwise all fields are pruned");
        }
    }
}

/// The forms of names; also of those in the status.
pub(super) fn own_names(own: &Value, at: &Path, errors: &mut ErrorList) {
    for (field, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let name = own.text(field);
        let messages =
            if mixed { names::dns1035_label(&name.to_lowercase()) } else { names::dns1035_label(name) };
        if !name.is_empty() && !messages.is_empty() {
            let start = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
            errors.invalid(&at.child(field), name, format!("{start}{}", messages.join(",")));
        }
    }
    let each = |field: &str, errors: &mut ErrorList| {
        for (i, name) in own.list(field).iter().filter_map(Value::as_str).enumerate() {
            let messages = names::dns1035_label(name);
            if !messages.is_empty() {
                errors.invalid(&at.child(field).index(i), name, messages.join(","));
            }
        }
    };
    each("shortNames", errors);
    let kind = own.text("kind");
    if !kind.is_empty() && kind == own.text("listKind") {
        errors.invalid(&at.child("listKind"), kind, "kind and listKind may not be the same");
    }
    each("categories", errors);
}

pub(super) fn has_known_review_or_none(versions: &[Value]) -> bool {
    versions.is_empty() || versions.iter().filter_map(Value::as_str).any(|v| REVIEWS.contains(&v))
}

fn conversion(conversion: &Value, asked: &Asked, at: &Path, errors: &mut ErrorList) {
    if conversion.is_null() {
        return;
    }
    some_of(conversion.text("strategy"), &["None", "Webhook"], &at.child("strategy"), errors);
    let client = conversion.at("webhook").at("clientConfig");
    let versions = conversion.at("webhook").list("conversionReviewVersions");
    let (client_at, versions_at) = (at.child("webhookClientConfig"), at.child("conversionReviewVersions"));
    if conversion.text("strategy") != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if !client.is_null() {
            errors.forbidden(&client_at, why);
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_at, why);
        }
        return;
    }
    if client.is_null() {
        errors.required(&client_at, "required when strategy is set to Webhook");
    } else {
        webhook::client(client, &client_at, errors);
        let bundle = client.text("caBundle");
        if !bundle.is_empty() && asked.ca_bundle && !is_ca_bundle(bundle) {
            let why = "unable to load root certificates: unable to parse bytes as PEM block";
            errors.invalid(&client_at.child("caBundle"), bundle, why);
        }
    }
    reviews(versions, asked.known_review, &versions_at, errors);
}

fn reviews(versions: &[Value], known: bool, at: &Path, errors: &mut ErrorList) {
    if versions.is_empty() {
        return errors.required(at, "");
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().filter_map(Value::as_str).enumerate() {
        let at = at.index(i);
        if seen.insert(version) {
            errors.each(&at, version, names::dns1035_label(version));
        } else {
            errors.invalid(&at, version, "duplicate version");
        }
    }
    if known && !has_known_review_or_none(versions) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.invalid(at, versions.to_vec(), why);
    }
}

/// PEM with a certificate in it, as base64?
pub(super) fn is_ca_bundle(bundle: &str) -> bool {
    let standard = base64::engine::general_purpose::STANDARD;
    let Some(text) = standard.decode(bundle).ok().and_then(|b| String::from_utf8(b).ok()) else {
        return false;
    };
    let Some((_, rest)) = text.split_once("-----BEGIN CERTIFICATE-----") else { return false };
    let Some((body, _)) = rest.split_once("-----END CERTIFICATE-----") else { return false };
    let body: String = body.split_whitespace().collect();
    standard.decode(body).is_ok_and(|der| der.first() == Some(&0x30))
}

/// Versions of the status are versions of the spec, the stored one among them.
pub(super) fn stored_versions(definition: &Value, errors: &mut ErrorList) {
    let at = Path::new("status").child("storedVersions");
    let stored = definition.at("status").list("storedVersions");
    if stored.is_empty() {
        return errors.invalid(&at, Value::Array(Vec::new()), "must have at least one stored version");
    }
    let versions = definition.at("spec").list("versions");
    let is_stored = |name: &str| stored.iter().any(|s| s == name);
    for version in versions.iter().filter(|v| v.flag("storage") == Some(true)) {
        let name = version.text("name");
        if !is_stored(name) {
            errors.invalid(&at, stored.to_vec(), format!("must have the storage version {name}"));
        }
    }
    for (i, name) in stored.iter().filter_map(Value::as_str).enumerate() {
        if versions.iter().any(|v| v.text("name") == name) {
            continue;
        }
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        errors.invalid(&at.index(i), name, why);
    }
}

/// Unknown fields are kept by the schema, not by the whole definition.
pub(super) fn preserves(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let on = |d: &Value| d.at("spec").flag("preserveUnknownFields") == Some(true);
    if on(new) && !old.is_some_and(on) {
        let at = Path::new("spec").child("preserveUnknownFields");
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&at, true, why);
    }
}
