//! ResourceClaimTemplates.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{Errors, IMMUTABLE, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta;
use crate::pod::volumes::template_meta;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, internal, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    default: |obj, _| super::default_claim(obj.child("spec").child("spec")),
    validate: |obj, context| validate(&super::as_v1(obj, context, convert)),
    validate_update: |new, old, context| {
        let (new, old) = (super::as_v1(new, context, convert), super::as_v1(old, context, convert));
        let (new, old) = (&*new, &*old);
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
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
    convert,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];

fn convert(obj: &mut Value, from: &str, to: &str) {
    if obj.at("spec").has("spec") {
        super::convert_claim(obj.child("spec").child("spec"), from, to);
    }
}

/// A template in the shape of v1.
fn validate(template: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(template, true, names::subdomain_name);
    let (spec, at) = (template.at("spec"), Path::new("spec"));
    template_meta(spec.at("metadata"), &at.child("metadata"), &mut errors);
    super::claims::spec(spec.at("spec"), &at.child("spec"), &mut errors);
    errors
}
