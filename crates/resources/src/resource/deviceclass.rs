//! DeviceClasses.

use machinery::Get;

use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::{self, generation_by_spec};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "resource.k8s.io",
    kind: "DeviceClass",
    prepare_create: |obj, _| obj.child("metadata").set("generation", 1),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| objectmeta::validate(obj, false, names::subdomain_name),
    validate_update: |new, old, _| objectmeta::validate_update(new, old),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    storage: "v1",
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];
