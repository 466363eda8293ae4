//! DeviceTaintRules.

use machinery::Get;
use serde_json::json;

use crate::objectmeta::{self, generation_by_spec, keep};
use crate::{Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "DeviceTaintRule",
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
            generation_by_spec(new, old);
        }
    },
    validate: |obj, _| objectmeta::validate(obj, false, names::subdomain_name),
    validate_update: |new, old, _| objectmeta::validate_update(new, old),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};
