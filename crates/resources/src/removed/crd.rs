//! `apiextensions.k8s.io/v1beta1` CustomResourceDefinitions: what is of a version stood at the top, and schemas could be
//! left out or be loose.

use machinery::{Get, Value};
use serde_json::json;

use super::steps::Step::{self, Change, Default};
use super::steps::{each, rename};

pub const CRD: &[Step] = &[Default("spec.scope", "\"Namespaced\""), Change(to_now, to_old)];

/// Fields of a version that could stand at the top for all versions: old name, today's.
const OF_VERSIONS: [(&str, &str); 3] = [
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

fn to_now(crd: &mut Value) {
    let spec = crd.child("spec");
    let name = spec.unset("version").unwrap_or_default();
    if spec.list("versions").is_empty() && name.is_string() {
        spec.set("versions", json!([{"name": name, "served": true, "storage": true}]));
    }
    // what was not said otherwise kept all fields
    let keeps = spec.unset("preserveUnknownFields") != Some(Value::Bool(false));
    let shared: Vec<(&str, Option<Value>)> =
        OF_VERSIONS.iter().map(|(old, now)| (*now, spec.unset(old))).collect();
    each(spec, "versions[]", &mut |version| {
        for (field, value) in &shared {
            if let Some(value) = value {
                version.set_default(field, value.clone());
            }
        }
        each(version, "additionalPrinterColumns[]", &mut |column| rename(column, "JSONPath", "jsonPath"));
        let schema = version.child("schema");
        schema.set_default("openAPIV3Schema", json!({"type": "object"}));
        let schema = schema.child("openAPIV3Schema");
        tighten(schema, keeps);
        schema.set_default("type", "object");
        if keeps {
            schema.set(PRESERVE, true);
        }
    });
    let Some(conversion) = spec.child_if("conversion") else { return };
    let (client, reviews) =
        (conversion.unset("webhookClientConfig"), conversion.unset("conversionReviewVersions"));
    if client.is_some() || conversion.text("strategy") == "Webhook" {
        let webhook = conversion.child("webhook");
        if let Some(client) = client {
            webhook.set("clientConfig", client);
        }
        webhook.set("conversionReviewVersions", reviews.unwrap_or_else(|| json!(["v1beta1"])));
    }
}

/// Says the types that a loose schema left out; `keeps`: no object in it loses fields.
fn tighten(schema: &mut Value, keeps: bool) {
    if !schema.is_object() {
        return;
    }
    let open = schema.flag("x-kubernetes-int-or-string") == Some(true) || schema.flag(PRESERVE) == Some(true);
    if schema.text("type").is_empty() && !open {
        if schema.has("properties") || schema.has("additionalProperties") {
            schema.set("type", "object");
        } else if schema.has("items") {
            schema.set("type", "array");
        } else if keeps {
            schema.set(PRESERVE, true);
        }
    }
    if keeps && schema.text("type") == "object" && !schema.has("additionalProperties") {
        schema.set(PRESERVE, true);
    }
    let below = |value: &mut Value| tighten(value, keeps);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(below);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = schema.get_mut(key) {
            tighten(value, keeps);
        }
    }
}

fn to_old(crd: &mut Value) {
    let spec = crd.child("spec");
    each(spec, "versions[].additionalPrinterColumns[]", &mut |column| rename(column, "jsonPath", "JSONPath"));
    let versions = spec.list("versions").to_vec();
    let Some(first) = versions.first() else { return };
    spec.set("version", first.text("name"));
    for (old, now) in OF_VERSIONS {
        // only what all versions have in common can be said for all of them
        let common = versions.iter().all(|v| v.at(now) == first.at(now));
        if common && first.has(now) {
            spec.set(old, first.at(now).clone());
            each(spec, "versions[]", &mut |version| drop(version.unset(now)));
        }
    }
    spec.set_default("preserveUnknownFields", false);
    let Some(conversion) = spec.child_if("conversion") else { return };
    if let Some(webhook) = conversion.unset("webhook") {
        if webhook.has("clientConfig") {
            conversion.set("webhookClientConfig", webhook.at("clientConfig").clone());
        }
        if webhook.has("conversionReviewVersions") {
            conversion.set("conversionReviewVersions", webhook.at("conversionReviewVersions").clone());
        }
    }
}
