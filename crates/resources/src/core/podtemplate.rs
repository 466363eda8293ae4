//! PodTemplates.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::same;
use crate::columns::{NAME, containers, labels, name};
use crate::objectmeta::next_generation;
use crate::pod::spec::Options;
use crate::pod::{defaults, template, warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "PodTemplate",
    default: |obj, _| defaults::template(obj.child("template")),
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| {
        if !same(new.at("template"), old.at("template")) {
            next_generation(new, old);
        }
    },
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        template(obj, context, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        template(new, context, &mut errors);
        errors
    },
    warnings: |new, old, _| {
        let generation = |obj: &Value| obj.at("metadata").int("generation");
        if old.is_some_and(|old| generation(old) == generation(new)) {
            return Vec::new();
        }
        warnings::warnings(new.at("template"), &Path::new("template"))
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, _| {
            let template = obj.at("template");
            let (names, images) = containers(template.at("spec"));
            let labels = labels(template.at("metadata").at("labels"));
            vec![name(obj), names.into(), images.into(), labels.into()]
        },
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Containers", "string", "", 0, "Names of each container in the template."),
    ("Images", "string", "", 0, "Images referenced by each container in the template."),
    ("Pod Labels", "string", "", 0, "The labels for the pod template."),
];

fn template(obj: &Value, context: &Context, errors: &mut ErrorList) {
    template::template(obj.at("template"), Options::template(context), &Path::new("template"), errors);
}
