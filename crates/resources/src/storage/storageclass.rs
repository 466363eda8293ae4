//! StorageClasses.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age};
use crate::pod::{scheduling, warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "StorageClass",
    default: |obj, _| {
        obj.set_default("reclaimPolicy", "Delete");
        obj.set_default("volumeBindingMode", "Immediate");
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            errors.immutable(&Path::new(field), new.at(field), old.at(field));
        }
        errors
    },
    warnings: |new, _, _| old_labels(new),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Provisioner", "string", "", 0, "provisioner indicates the type of the provisioner."),
    (
        "ReclaimPolicy",
        "string",
        "",
        0,
        "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
    ),
    (
        "VolumeBindingMode",
        "string",
        "",
        0,
        "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.  When unset, VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling feature.",
    ),
    (
        "AllowVolumeExpansion",
        "string",
        "",
        0,
        "allowVolumeExpansion shows whether the storage class allow volume expand.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    super::provisioner(obj.text("provisioner"), &Path::new("provisioner"), &mut errors);
    super::parameters(obj.at("parameters"), true, &Path::new("parameters"), &mut errors);
    match obj.text("reclaimPolicy") {
        "" => {}
        policy => errors.one_of(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]),
    }
    match obj.at("volumeBindingMode").as_str() {
        None => errors.required(&Path::new("volumeBindingMode"), ""),
        Some(mode) => {
            errors.one_of(&Path::new("volumeBindingMode"), mode, &["Immediate", "WaitForFirstConsumer"]);
        }
    }
    let mut seen: Vec<Vec<(&str, Vec<&str>)>> = Vec::new();
    let terms = obj.list("allowedTopologies");
    for (i, term) in terms.iter().enumerate() {
        let at = Path::new("allowedTopologies").index(i);
        let found = scheduling::topology_term(term, &at, &mut errors);
        // upstream compares with as many empty terms as there are terms, too
        let empty = if found.is_empty() { terms.len() } else { 0 };
        let equal = seen.iter().filter(|s| **s == found).count();
        for _ in 0..empty + equal {
            errors.duplicate(&at.child("matchLabelExpressions"), "");
        }
        seen.push(found);
    }
    errors
}

fn old_labels(class: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (i, term) in class.list("allowedTopologies").iter().enumerate() {
        for (j, expression) in term.list("matchLabelExpressions").iter().enumerate() {
            if let Some(message) = warnings::node_label(expression.text("key")) {
                out.push(format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {message}"));
            }
        }
    }
    out
}

/// Whether claims that ask for no class get this one.
fn is_default(class: &Value) -> bool {
    let annotations = class.at("metadata").at("annotations");
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|name| annotations.text(name) == "true")
}

fn cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let mut name = class.at("metadata").text("name").to_owned();
    if is_default(class) {
        name.push_str(" (default)");
    }
    vec![
        name.into(),
        class.text("provisioner").into(),
        class.at("reclaimPolicy").as_str().unwrap_or("Delete").into(),
        class.at("volumeBindingMode").as_str().unwrap_or("Immediate").into(),
        class.flag("allowVolumeExpansion").unwrap_or(false).into(),
        age(class, now),
    ]
}
