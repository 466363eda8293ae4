//! ResourcePoolStatusRequests.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors, IMMUTABLE, same};
use crate::declared::{changed, immutable, long_name, maximum, minimum, required, unique};
use crate::objectmeta::{self, keep};
use crate::{Strategy, internal, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourcePoolStatusRequest",
    default: |obj, _| obj.child("spec").set_default("limit", 100),
    prepare_create: |obj, _| {
        obj.unset("status");
    },
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(obj.at("spec"), &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            status(new.at("status"), old.at("status"), &mut errors);
        } else {
            immutable(new.at("spec"), Some(old.at("spec")), &Path::new("spec"), &mut errors);
        }
        errors
    },
    unconditional_update: false,
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

fn spec(spec: &Value, errors: &mut ErrorList) {
    let at = Path::new("spec");
    required(spec.text("driver"), &at.child("driver"), errors, caseless);
    if let Some(pool) = spec.at("poolName").as_str() {
        pool_name(pool, &at.child("poolName"), errors);
    }
    match spec.int("limit") {
        None => errors.required(&at.child("limit"), ""),
        Some(limit) => {
            maximum(limit, 1000, &at.child("limit"), errors);
            minimum(limit, 1, &at.child("limit"), errors);
        }
    }
}

fn caseless(name: &str) -> Vec<String> {
    let words = |message: String| {
        message
            .replace("a lowercase RFC 1123", "an RFC 1123")
            .replace("lower case alphanumeric", "alphanumeric")
            .replace("'example.com'", "'Example.com'")
            .replace("253 characters", "253 bytes")
    };
    names::dns1123_subdomain(&name.to_lowercase()).into_iter().map(words).collect()
}

fn pool_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.len() > 253 {
        errors.too_long(at, 253);
    }
    for (i, part) in name.split('/').enumerate() {
        if part.is_empty() {
            errors.invalid(at, name, format!("segment {i}: must not be empty"));
        }
        for message in names::dns1123_subdomain(part).into_iter().filter(|_| !part.is_empty()) {
            errors.invalid(at, part, format!("segment {i}: {message}"));
        }
    }
}

/// Once it is there it stays.
fn status(status: &Value, old: &Value, errors: &mut ErrorList) {
    let at = Path::new("status");
    if old.is_object() {
        if !same(status, old) {
            let shown = internal::compact("*resource.ResourcePoolStatusRequestStatus", status);
            errors.invalid_shown(&at, shown, IMMUTABLE);
        }
    } else if status.is_object() {
        check::conditions(status.list("conditions"), &at.child("conditions"), errors);
    }
    if !status.is_object() || !changed(status, Some(old)) {
        return;
    }
    if changed(status.at("poolCount"), old.is_object().then(|| old.at("poolCount"))) {
        match status.int("poolCount") {
            None => errors.required(&at.child("poolCount"), ""),
            Some(count) => minimum(count, 0, &at.child("poolCount"), errors),
        }
    }
    let pools = status.list("pools");
    if pools.len() > 1000 {
        errors.too_many(&at.child("pools"), pools.len(), 1000);
    } else if changed(status.at("pools"), Some(old.at("pools"))) {
        pools.iter().enumerate().for_each(|(i, p)| pool(p, &at.child("pools").index(i), errors));
    }
    let (conditions, at) = (status.list("conditions"), at.child("conditions"));
    if conditions.len() > 10 {
        errors.too_many(&at, conditions.len(), 10);
    } else if changed(status.at("conditions"), Some(old.at("conditions"))) {
        let fields = ["type", "status", "observedGeneration", "lastTransitionTime", "reason", "message"];
        unique(conditions, "type", &fields, &at, errors);
    }
}

fn pool(pool: &Value, at: &Path, errors: &mut ErrorList) {
    required(pool.text("driver"), &at.child("driver"), errors, caseless);
    match pool.text("poolName") {
        "" => errors.required(&at.child("poolName"), ""),
        name => pool_name(name, &at.child("poolName"), errors),
    }
    match pool.int("generation").unwrap_or(0) {
        0 => errors.required(&at.child("generation"), ""),
        generation => minimum(generation, 0, &at.child("generation"), errors),
    }
    let counts = [
        ("resourceSliceCount", 1),
        ("totalDevices", 0),
        ("allocatedDevices", 0),
        ("availableDevices", 0),
        ("unavailableDevices", 0),
    ];
    for (field, min) in counts {
        if let Some(count) = pool.int(field) {
            minimum(count, min, &at.child(field), errors);
        }
    }
    if let Some(name) = pool.at("nodeName").as_str() {
        match name {
            "" => errors.each(&at.child("nodeName"), name, names::dns1123_subdomain(name)),
            _ => long_name(name, &at.child("nodeName"), errors),
        }
    }
    if pool.text("validationError").len() > 256 {
        errors.too_long(&at.child("validationError"), 256);
    }
}
