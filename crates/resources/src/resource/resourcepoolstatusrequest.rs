//! ResourcePoolStatusRequests.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors, IMMUTABLE, same};
use crate::columns::{NAME, name, since};
use crate::declared::{changed, immutable, long_name, maximum, minimum, required, unique};
use crate::objectmeta::{self, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, internal, names};

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
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Driver", "string", "", 0, "The driver to query pools for."),
    ("Total", "string", "", 0, "Total number of devices across all pools."),
    ("Available", "string", "", 0, "Number of available devices across all pools."),
    ("Allocated", "string", "", 0, "Number of allocated devices across all pools."),
    ("Unavailable", "string", "", 0, "Number of unavailable devices across all pools."),
    ("Errors", "string", "", 0, "Number of pools with validation errors."),
    ("Pools", "integer", "", 0, "Total number of matching pools."),
    ("Status", "string", "", 0, "Processing status."),
    ("Completed", "string", "", 0, "Time since the observation completed."),
];

fn cells(request: &Value, now: Timestamp) -> Vec<Value> {
    let status = request.at("status");
    let pools = status.list("pools");
    let count = status.int("poolCount").unwrap_or(0);
    let done = status
        .list("conditions")
        .iter()
        .find(|c| matches!(c.text("type"), "Complete" | "Failed") && c.text("status") == "True");
    let state = done.map_or("Pending", |c| c.text("type"));
    let shown = match state {
        "Complete" if count > pools.len() as i64 => format!("Complete ({}/{count} pools)", pools.len()),
        state => state.to_owned(),
    };
    let sums = status.is_object() && state != "Failed";
    let sum = |field: &str| match sums {
        true => pools.iter().filter_map(|p| p.int(field)).sum::<i64>().to_string(),
        false => "-".to_owned(),
    };
    let errors = match sums {
        true => pools.iter().filter(|p| p.has("validationError")).count().to_string(),
        false => "-".to_owned(),
    };
    let completed = done
        .filter(|c| c.text("type") == "Complete")
        .map_or("<none>".to_owned(), |c| since(c.text("lastTransitionTime"), now));
    vec![
        name(request),
        request.at("spec").text("driver").into(),
        sum("totalDevices").into(),
        sum("availableDevices").into(),
        sum("allocatedDevices").into(),
        sum("unavailableDevices").into(),
        errors.into(),
        count.into(),
        shown.into(),
        completed.into(),
    ]
}

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
