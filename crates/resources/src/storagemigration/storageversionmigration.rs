//! StorageVersionMigrations.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::{self, Errors, IMMUTABLE, same};
use crate::objectmeta::{self, keep};
use crate::{Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storagemigration.k8s.io",
    kind: "StorageVersionMigration",
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        keep(new, old, if context.subresource == "status" { "spec" } else { "status" });
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        if context.subresource == "status" {
            let at = Path::new("status").child("conditions");
            check::conditions(new.at("status").list("conditions"), &at, &mut errors);
        } else if !same(new.at("spec"), old.at("spec")) {
            errors.invalid(&Path::new("spec"), new.at("spec").clone(), IMMUTABLE);
        }
        errors
    },
    unconditional_update: false,
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (resource, at) = (obj.at("spec").at("resource"), Path::new("spec").child("resource"));
    if resource.text("resource").is_empty() {
        errors.required(&at.child("resource"), "resource is required to be set");
    }
    errors
}
