//! ControllerRevisions: what DaemonSets and StatefulSets remember of their past.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, GroupVersion, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, number};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apps",
    kind: "ControllerRevision",
    validate,
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        errors.extend(common(new));
        errors.immutable(&Path::new("data"), new.at("data"), old.at("data"));
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Controller", "string", "", 0, "Controller of the object"),
    ("Revision", "string", "", 0, "Revision indicates the revision of the state represented by Data."),
    ("Age", "string", "", 0, CREATED),
];

fn common(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    errors.not_negative(&Path::new("revision"), obj.int("revision"));
    errors
}

fn validate(obj: &Value, _: &Context) -> ErrorList {
    let mut errors = common(obj);
    let at = Path::new("data");
    match obj.at("data") {
        Value::Null => errors.required(&at, "data is mandatory"),
        Value::Object(_) => {}
        _ => errors.required(&at, "data must be a valid JSON object"),
    }
    errors
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let owners = obj.at("metadata").list("ownerReferences");
    let controller = match owners.iter().find(|o| o.flag("controller") == Some(true)) {
        None => "<none>".to_owned(),
        Some(owner) => {
            let group = GroupVersion::parse(owner.text("apiVersion")).unwrap_or_default().group;
            let kind = owner.text("kind").to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{}/{}", group.to_lowercase(), owner.text("name"))
        }
    };
    vec![name(obj), controller.into(), number(obj, "revision"), age(obj, now)]
}
