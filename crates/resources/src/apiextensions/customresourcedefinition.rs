//! CustomResourceDefinitions: defaults, names, versions. Schemas are not validated yet.

use std::collections::BTreeSet;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::objectmeta::{self, generation_by_spec, keep};
use crate::pod::defaults::text;
use crate::{Context, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    default: |obj, _| default(obj),
    prepare_create: |obj, _| {
        obj.set("status", json!({}));
        obj.child("metadata").set("generation", 1);
        if let Some(version) = stored(obj).map(str::to_owned) {
            obj.child("status").set("storedVersions", vec![version]);
        }
    },
    prepare_update,
    validate: |obj, _| validate(obj),
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource != "status" {
            errors.extend(validate(new));
        }
        errors
    },
    unconditional_update: false,
    convert: |obj, from, to| {
        if (from, to) == ("v1beta1", "v1") {
            from_v1beta1(obj);
        }
    },
    resets: &[("", &[&["status"]]), ("status", &[&["metadata"], &["spec"]])],
    ..Strategy::BASE
};

/// v1beta1 is no longer served, but it is what kube-apiserver stores.
fn from_v1beta1(obj: &mut Value) {
    let spec = obj.child("spec");
    let only = spec.unset("version");
    if spec.list("versions").is_empty()
        && let Some(name) = only
    {
        spec.set("versions", json!([{"name": name, "served": true, "storage": true}]));
    }
    let schema = spec.unset("validation");
    let of_all =
        ["subresources", "additionalPrinterColumns", "selectableFields"].map(|key| (key, spec.unset(key)));
    for version in spec.list_mut("versions") {
        if let Some(schema) = &schema {
            version.set_default("schema", schema.clone());
        }
        for (key, value) in &of_all {
            if let Some(value) = value {
                version.set_default(key, value.clone());
            }
        }
        for column in version.list_mut("additionalPrinterColumns") {
            if let Some(path) = column.unset("JSONPath") {
                column.set("jsonPath", path);
            }
        }
    }
    if spec.flag("preserveUnknownFields") != Some(true) {
        spec.unset("preserveUnknownFields");
    }
    if spec.at("conversion").is_object() {
        let conversion = spec.child("conversion");
        let (client, versions) =
            (conversion.unset("webhookClientConfig"), conversion.unset("conversionReviewVersions"));
        if let Some(client) = client {
            conversion.child("webhook").set("clientConfig", client);
        }
        if let Some(versions) = versions.filter(|_| conversion.text("strategy") == "Webhook") {
            conversion.child("webhook").set("conversionReviewVersions", versions);
        }
    }
}

fn stored(obj: &Value) -> Option<&str> {
    let versions = obj.at("spec").list("versions");
    versions.iter().find(|v| v.flag("storage") == Some(true)).map(|v| v.text("name"))
}

fn default(obj: &mut Value) {
    let spec = obj.child("spec");
    let kind = spec.at("names").text("kind").to_owned();
    text(spec.child("names"), "singular", &kind.to_lowercase());
    if !kind.is_empty() {
        text(spec.child("names"), "listKind", &format!("{kind}List"));
    }
    spec.set_default("conversion", json!({"strategy": "None"}));
    if spec.at("conversion").at("webhook").at("clientConfig").has("service") {
        let client = spec.child("conversion").child("webhook").child("clientConfig");
        client.child("service").set_default("port", 443);
    }
    if obj.at("status").list("storedVersions").is_empty()
        && let Some(version) = stored(obj).map(str::to_owned)
    {
        obj.child("status").set("storedVersions", vec![version]);
    }
}

/// A version that objects are stored in from now on is remembered.
fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        keep(new, old, "spec");
        return objectmeta::reset_for_status(new, old);
    }
    keep(new, old, "status");
    generation_by_spec(new, old);
    let Some(version) = stored(new).map(str::to_owned) else { return };
    let mut versions = new.at("status").list("storedVersions").to_vec();
    if !versions.iter().any(|v| v.as_str() == Some(&version)) {
        versions.push(version.into());
        new.child("status").set("storedVersions", versions);
    }
}

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let (group, own_names) = (spec.text("group"), spec.at("names"));
    let name = obj.at("metadata").text("name");
    let wanted = format!("{}.{group}", own_names.text("plural"));
    if !name.is_empty() && name != wanted {
        let at = Path::new("metadata").child("name");
        errors.invalid(&at, name, "must be spec.names.plural+\".\"+spec.group");
    }
    if group.is_empty() {
        errors.required(&at.child("group"), "");
    } else {
        errors.each(&at.child("group"), group, names::dns1123_subdomain(group));
        if group.split('.').count() < 2 {
            errors.invalid(&at.child("group"), group, "should be a domain with at least one dot");
        }
    }
    errors.one_of(&at.child("scope"), spec.text("scope"), &["Cluster", "Namespaced"]);
    let mut seen = BTreeSet::new();
    let mut stores = 0;
    for (i, version) in spec.list("versions").iter().enumerate() {
        let at = at.child("versions").index(i).child("name");
        let name = version.text("name");
        if version.flag("storage") == Some(true) {
            stores += 1;
        }
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
        errors.each(&at, name, names::dns1035_label(name));
    }
    if stores != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(&at.child("versions"), spec.at("versions").clone(), detail);
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        let (name, at) = (own_names.text(field), at.child("names").child(field));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let messages = names::dns1035_label(&name.to_lowercase());
        if !messages.is_empty() {
            let mixed = matches!(field, "kind" | "listKind");
            let start = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
            errors.invalid(&at, name, format!("{start}{}", messages.join(",")));
        }
    }
    errors
}
