//! DeviceTaintRules.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use super::common;
use crate::check::{self, Errors};
use crate::objectmeta::{self, generation_by_spec, keep};
use crate::{Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "DeviceTaintRule",
    default: |obj, context| super::default_taint(obj.child("spec").child("taint"), context.now),
    prepare_create: |obj, _| {
        obj.set("status", json!({}));
        obj.child("metadata").set("generation", 1);
    },
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
            let (taint, before) = (new.at("spec").at("taint"), old.at("spec").at("taint"));
            let renewed = taint.text("effect") != before.text("effect")
                && taint.text("timeAdded") == before.text("timeAdded");
            if renewed {
                new.child("spec").child("taint").set("timeAdded", super::seconds(context.now));
            }
            generation_by_spec(new, old);
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(obj.at("spec"), &Value::Null, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            let (conditions, at) =
                (new.at("status").list("conditions"), Path::new("status").child("conditions"));
            check::conditions(conditions, &at, &mut errors);
            if conditions.len() > 8 {
                errors.too_many(&at, conditions.len(), 8);
            }
        } else {
            spec(new.at("spec"), old.at("spec"), &mut errors);
        }
        errors
    },
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

/// `old` is null for a new rule.
fn spec(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let (selector, at) = (spec.at("deviceSelector"), Path::new("spec").child("deviceSelector"));
    if let Some(driver) = selector.at("driver").as_str() {
        crate::pod::plugins::csi_driver(driver, &at.child("driver"), errors);
    }
    if let Some(pool) = selector.at("pool").as_str() {
        common::pool(pool, &at.child("pool"), errors);
    }
    if let Some(device) = selector.at("device").as_str() {
        common::label(device, &at.child("device"), errors);
    }
    super::taint(spec.at("taint"), old.at("taint"), &Path::new("spec").child("taint"), errors);
}
