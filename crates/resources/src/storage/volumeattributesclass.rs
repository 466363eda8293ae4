//! VolumeAttributesClasses.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "VolumeAttributesClass",
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        for field in ["driverName", "parameters"] {
            if !same(new.at(field), old.at(field)) {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
        errors.extend(validate(new));
        errors
    },
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), obj.text("driverName").into(), age(obj, now)],
        conditions: no_conditions,
    }),
    storage: "v1",
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("DriverName", "string", "", 0, "Name of the CSI driver This field is immutable."),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    super::provisioner(obj.text("driverName"), &Path::new("driverName"), &mut errors);
    super::parameters(obj.at("parameters"), false, &Path::new("parameters"), &mut errors);
    errors
}
