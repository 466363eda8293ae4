//! CSINodes.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{Errors, IMMUTABLE, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::gostruct::{Field, Zero, show};
use crate::pod::plugins;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "CSINode",
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        drivers_change(new, old, &mut errors);
        errors
    },
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| vec![name(obj), obj.at("spec").list("drivers").len().into(), age(obj, now)],
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Drivers", "integer", "", 0, "Drivers indicates the number of CSI drivers registered on the node"),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    const NODE_ID_MAX: usize = 256;
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let mut seen: Vec<&str> = Vec::new();
    for (i, driver) in obj.at("spec").list("drivers").iter().enumerate() {
        let at = Path::new("spec").child("drivers").index(i);
        let name = driver.text("name");
        plugins::csi_driver(name, &at.child("name"), &mut errors);
        let id = driver.text("nodeID");
        if id.is_empty() {
            errors.required(&at.child("nodeID"), "");
        }
        if id.len() > NODE_ID_MAX {
            errors.invalid(&at.child("nodeID"), id, format!("must be {NODE_ID_MAX} characters or less"));
        }
        let count = driver.at("allocatable").int("count");
        errors.not_negative(&at.child("allocatable").child("count"), count);
        if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        }
        seen.push(name);
        topology_keys(driver.list("topologyKeys"), &at, &mut errors);
    }
    errors
}

fn topology_keys(keys: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for key in keys.iter().filter_map(Value::as_str) {
        if key.is_empty() {
            errors.required(at, key);
        }
        if seen.contains(&key) {
            errors.duplicate(at, key);
        }
        seen.push(key);
        errors.each(at, key, names::qualified_name(key));
    }
}

/// Of a driver that stays only the number of volumes may change.
fn drivers_change(new: &Value, old: &Value, errors: &mut ErrorList) {
    const SHOWN: &[Field] = &[
        ("Name", "name", Zero::Text),
        ("NodeID", "nodeID", Zero::Text),
        ("TopologyKeys", "topologyKeys", Zero::Null),
        ("Allocatable", "-", Zero::Null),
    ];
    for before in old.at("spec").list("drivers") {
        for driver in new.at("spec").list("drivers").iter().filter(|d| d.text("name") == before.text("name"))
        {
            if ["nodeID", "topologyKeys"].iter().any(|f| !same(driver.at(f), before.at(f))) {
                let at = Path::new("spec").child("drivers");
                errors.invalid_shown(&at, show(driver, SHOWN), IMMUTABLE);
            }
        }
    }
}
