//! CustomResourceDefinitions: the strategy.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::lax::Asked;
use super::{approval, schema, spec, version};
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
        let mut errors = objectmeta::generic_update(new, old);
        let accepted = Path::new("status").child("acceptedNames");
        if context.subresource == "status" {
            spec::own_names(new.at("status").at("acceptedNames"), &accepted, &mut errors);
        } else {
            spec::check_update(new.at("spec"), old.at("spec"), &Asked::of(new, old), &mut errors);
            rest(new, Some(old), &mut errors);
        }
        errors
    },
    warnings: |new, old, context| {
        if context.subresource.is_empty() { unknown_formats(new, old) } else { Vec::new() }
    },
    unconditional_update: false,
    convert: |obj, from, to| {
        if (from, to) == ("v1beta1", "v1") {
            from_v1beta1(obj);
        }
    },
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
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
        return;
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
    let mut errors = objectmeta::validate_generic(obj, false, names::subdomain_name);
    let spec = obj.at("spec");
    let wanted = format!("{}.{}", spec.at("names").text("plural"), spec.text("group"));
    let why = "must be spec.names.plural+\".\"+spec.group";
    objectmeta::exact_name(obj, &wanted, why, |_| true, &mut errors);
    spec::check(spec, &Asked::everything(), &mut errors);
    rest(obj, None, &mut errors);
    errors
}

fn rest(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let accepted = Path::new("status").child("acceptedNames");
    spec::own_names(new.at("status").at("acceptedNames"), &accepted, errors);
    spec::stored_versions(new, errors);
    approval::check(new, old, errors);
    spec::preserves(new, old, errors);
}

/// Formats that nobody checks, unless they were there before.
fn unknown_formats(new: &Value, old: Option<&Value>) -> Vec<String> {
    let of = |definition: &Value| {
        let mut out: Vec<String> = Vec::new();
        let spec = definition.at("spec");
        // a schema that all versions share is looked at once
        let all = if version::Common::of(spec).schema { 1 } else { usize::MAX };
        for root in version::schemas(spec).take(all) {
            schema::visit(root, &mut |s| {
                let (format, kind) = (s.text("format"), s.text("type"));
                if !format.is_empty() && !machinery::crd::is_known_format(kind, format) {
                    out.push(format.to_owned());
                }
            });
        }
        out
    };
    let before = old.map(of).unwrap_or_default();
    let fresh = of(new).into_iter().filter(|f| !before.contains(f));
    fresh.map(|f| format!("unrecognized format {}", machinery::field::go_quote(&f))).collect()
}
