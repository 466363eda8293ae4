//! DeviceClasses.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{claims, common};
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec};
use crate::pod::requirements::is_extended;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "DeviceClass",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(obj.at("spec"), &Value::Null, &mut errors);
        errors
    },
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate(new, false, names::subdomain_name);
        errors.extend(objectmeta::validate_update(new, old));
        spec(new.at("spec"), old.at("spec"), &mut errors);
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    storage: "v1",
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];

/// `old` is null for a new class.
fn spec(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let at = Path::new("spec");
    claims::selectors(spec.list("selectors"), &at.child("selectors"), errors);
    let stored = old.is_object() && same(spec.at("config"), old.at("config"));
    common::list(spec.list("config"), 32, &at.child("config"), errors, |config, at, errors| {
        claims::configuration(config, stored, at, errors);
    });
    if let Some(name) = spec.at("extendedResourceName").as_str().filter(|n| !is_extended(n)) {
        errors.invalid(&at.child("extendedResourceName"), name, "must be a valid extended resource name");
    }
}
