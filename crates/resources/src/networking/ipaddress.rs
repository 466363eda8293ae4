//! IPAddresses.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{NAME, age, name};
use crate::gostruct::{Field, Zero, show};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, check, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "networking.k8s.io",
    kind: "IPAddress",
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        errors.extend(objectmeta::validate_update(new, old));
        parent_stays(new.at("spec").at("parentRef"), old.at("spec").at("parentRef"), &mut errors);
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "ParentRef",
        "string",
        "",
        0,
        "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
    ),
];

fn validate(obj: &Value) -> ErrorList {
    let rule: names::NameRule = |name, _| machinery::names::ip::canonical_ip(name);
    let mut errors = objectmeta::validate(obj, false, rule);
    let (parent, at) = (obj.at("spec").at("parentRef"), Path::new("spec").child("parentRef"));
    if parent.is_null() {
        errors.required(&at, "");
        return errors;
    }
    let group = parent.text("group");
    if !group.is_empty() {
        errors.each(&at.child("group"), group, names::dns1123_subdomain(group));
    }
    super::segment(parent, "resource", &at, &mut errors);
    super::segment(parent, "name", &at, &mut errors);
    if !parent.text("namespace").is_empty() {
        super::segment(parent, "namespace", &at, &mut errors);
    }
    errors
}

fn parent_stays(new: &Value, old: &Value, errors: &mut ErrorList) {
    const SHOWN: &[Field] = &[
        ("Group", "group", Zero::Text),
        ("Resource", "resource", Zero::Text),
        ("Namespace", "namespace", Zero::Text),
        ("Name", "name", Zero::Text),
    ];
    if !check::same(new, old) {
        let shown = if new.is_null() { "null".into() } else { show(new, SHOWN) };
        errors.invalid_shown(&Path::new("spec").child("parentRef"), shown, check::IMMUTABLE);
    }
}

fn cells(address: &Value, now: Timestamp) -> Vec<Value> {
    let parent = address.at("spec").at("parentRef");
    let mut shown = String::from("<none>");
    if !parent.is_null() {
        shown = parent.text("resource").to_lowercase();
        if !parent.text("group").is_empty() {
            shown = format!("{shown}.{}", parent.text("group").to_lowercase());
        }
        if !parent.text("namespace").is_empty() {
            shown = format!("{shown}/{}", parent.text("namespace"));
        }
        shown = format!("{shown}/{}", parent.text("name"));
    }
    vec![name(address), shown.into(), age(address, now)]
}
