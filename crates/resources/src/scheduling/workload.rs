//! Workloads. The rules for their specs are not here yet.

use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "scheduling.k8s.io",
    kind: "Workload",
    validate: |obj, _| objectmeta::validate(obj, true, names::subdomain_name),
    validate_update: |new, old, _| objectmeta::validate_update(new, old),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[("Name", "string", "name", 0, NAME), ("Age", "string", "", 0, CREATED)];
