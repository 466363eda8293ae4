//! ResourceClaimTemplates.

use machinery::Get;
use machinery::field::Path;

use crate::check::{Errors, IMMUTABLE, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, internal, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    default: |obj, _| super::default_claim(obj.child("spec").child("spec")),
    validate: |obj, _| objectmeta::validate(obj, true, names::subdomain_name),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        if !same(new.at("spec"), old.at("spec")) {
            let shown = internal::compact("resource.ResourceClaimTemplateSpec", new.at("spec"));
            errors.invalid_shown(&Path::new("spec"), shown, IMMUTABLE);
        }
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    storage: "v1",
    convert: |obj, from, to| {
        if obj.at("spec").has("spec") {
            super::convert_claim(obj.child("spec").child("spec"), from, to);
        }
    },
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];
