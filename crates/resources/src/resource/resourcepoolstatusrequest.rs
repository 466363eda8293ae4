//! ResourcePoolStatusRequests.

use machinery::Get;

use crate::objectmeta::{self, keep};
use crate::{Strategy, names};

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
    validate: |obj, _| objectmeta::validate(obj, false, names::subdomain_name),
    validate_update: |new, old, _| objectmeta::validate_update(new, old),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};
