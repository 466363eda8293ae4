//! PersistentVolumeClaims.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use super::persistentvolume::{access_modes, class};
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::keep;
use crate::pod::defaults::text;
use crate::pod::requirements::{is_native, quantity_value};
use crate::pod::{plugins, warnings as pod_warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, godiff, names, objectmeta, quantity};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "PersistentVolumeClaim",
    default,
    prepare_create,
    prepare_update,
    validate: |obj, _| validate(obj, false),
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Status", "string", "", 0, "phase represents the current phase of PersistentVolumeClaim."),
    (
        "Volume",
        "string",
        "",
        0,
        "volumeName is the binding reference to the PersistentVolume backing this claim.",
    ),
    ("Capacity", "string", "", 0, "capacity represents the actual resources of the underlying volume."),
    (
        "Access Modes",
        "string",
        "",
        0,
        "accessModes contains the actual access modes the volume backing the PVC has. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
    ),
    ("StorageClass", "string", "", 0, "StorageClass of the pvc"),
    ("VolumeAttributesClass", "string", "", 0, "VolumeAttributesClass of the pvc"),
    ("Age", "string", "", 0, CREATED),
    (
        "VolumeMode",
        "string",
        "",
        1,
        "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.",
    ),
];

fn default(obj: &mut Value, _: &Context) {
    text(obj.child("status"), "phase", "Pending");
    let spec = obj.child("spec");
    spec.set_default("volumeMode", "Filesystem");
    let resources = spec.child("resources");
    quantity::round_up(resources, "limits");
    quantity::round_up(resources, "requests");
    let status = obj.child("status");
    quantity::round_up(status, "capacity");
    quantity::round_up(status, "allocatedResources");
}

fn prepare_create(obj: &mut Value, context: &Context) {
    obj.set("status", json!({"phase": "Pending"}));
    drop_odd_source(obj.child("spec"), &Value::Null, context);
    mirror_data_source(obj.child("spec"));
}

/// Sources in the older field that are neither a claim nor a snapshot are passed over in silence, as ever.
fn drop_odd_source(spec: &mut Value, old: &Value, context: &Context) {
    let other_namespace = !spec.at("dataSourceRef").text("namespace").is_empty();
    let had = old.has("dataSourceRef");
    if other_namespace && !had && !context.enabled("CrossNamespaceVolumeDataSource") {
        spec.unset("dataSourceRef");
    }
    if old.has("dataSource") || old.has("dataSourceRef") || spec.has("dataSourceRef") {
        return;
    }
    let source = spec.at("dataSource");
    let known = [("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io")];
    if !known.contains(&(source.text("kind"), source.text("apiGroup"))) {
        spec.unset("dataSource");
    }
}

/// The two fields for a data source say the same, unless the newer one names another namespace.
fn mirror_data_source(spec: &mut Value) {
    let (source, reference) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
    if !source.is_null() && reference.is_null() {
        spec.set("dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() && reference.text("namespace").is_empty() {
        let mut source = reference;
        source.unset("namespace");
        spec.set("dataSource", source);
    }
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        return keep(new, old, "spec");
    }
    keep(new, old, "status");
    drop_odd_source(new.child("spec"), old.at("spec"), context);
    mirror_data_source(new.child("spec"));
}

fn validate(obj: &Value, lax_group: bool) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    plugins::claim_spec(obj.at("spec"), lax_group, &Path::new("spec"), &mut errors);
    errors
}

fn storage(obj: &Value, list: &[&str]) -> i128 {
    quantity::of(list.iter().fold(obj, |at, name| at.at(name)).at("storage"))
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        status(new, &mut errors);
        return errors;
    }
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let lax = ["dataSource", "dataSourceRef"].iter().any(|f| before.at(f).has("apiGroup"));
    errors.extend(validate(new, lax));
    let (mut now, mut was) = (spec.clone(), before.clone());
    if before.text("volumeName").is_empty() {
        keep(&mut was, &now.clone(), "volumeName");
    }
    upgraded_class(new, old, &mut now, &mut errors);
    let bound = new.at("status").text("phase") == "Bound";
    if bound {
        if now.at("resources").has("requests") {
            let size = before.at("resources").at("requests").at("storage").clone();
            now.child("resources").child("requests").set("storage", size);
        }
        keep(&mut now, before, "volumeAttributesClassName");
    }
    let at = Path::new("spec");
    if !same(&now, &was) {
        let diff = godiff::claim_specs(&was, &now);
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{diff}"
        );
        errors.forbidden(&at, detail);
    }
    let requests = ["spec", "resources", "requests"];
    if storage(new, &requests) < storage(old, &requests)
        && storage(new, &requests) <= storage(old, &["status", "capacity"])
    {
        let at = at.child("resources").child("requests").child("storage");
        errors.forbidden(&at, "field can not be less than status.capacity");
    }
    errors.immutable(&Path::new("volumeMode"), spec.at("volumeMode"), before.at("volumeMode"));
    let class = "volumeAttributesClassName";
    let current = old.at("status").has("currentVolumeAttributesClassName");
    if spec.at(class) != before.at(class) && current {
        let what = match spec.at(class).as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return errors,
        };
        let detail =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&at.child(class), detail);
    }
    errors
}

/// A class may be added where there was none, or the old annotation become the field.
fn upgraded_class(new: &Value, old: &Value, now: &mut Value, errors: &mut ErrorList) {
    let annotation =
        |obj: &'_ Value| obj.at("metadata").at("annotations").at(BETA_CLASS).as_str().map(str::to_owned);
    let field = |obj: &'_ Value| obj.at("spec").at("storageClassName").as_str().map(str::to_owned);
    let (was, is) = (annotation(old), annotation(new));
    let from_annotation =
        was.is_some() && field(old).is_none() && field(new) == was && (is.is_none() || is == was);
    if from_annotation {
        now.unset("storageClassName");
        return;
    }
    if was != is {
        let at = Path::new("metadata").child("annotations").child(BETA_CLASS);
        errors.invalid(&at, is.unwrap_or_default(), crate::check::IMMUTABLE);
    }
    if field(new).is_some() && field(old).is_none() && (was.is_none() || field(new) == was) {
        now.unset("storageClassName");
    }
}

fn status(new: &Value, errors: &mut ErrorList) {
    if new.at("spec").list("accessModes").is_empty() {
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    let status = new.at("status");
    let at = Path::new("status");
    let negative = |value: &Value| quantity::of(value) < 0;
    let basic = |value: &Value, at: &Path, errors: &mut ErrorList| {
        if negative(value) {
            let whole = (quantity::of(value) / quantity::ONE) as i64;
            errors.invalid(at, whole, "must be a valid resource quantity");
        }
    };
    for (name, value) in status.map("capacity").into_iter().flatten() {
        basic(value, &at.child("capacity").key(name), errors);
    }
    let states = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let states_at = at.child("allocatedResourceStatuses");
    for (name, state) in status.map("allocatedResourceStatuses").into_iter().flatten() {
        resource_key(name, &states_at, errors);
        if !states.contains(&state.as_str().unwrap_or("")) {
            let mut sorted = states;
            sorted.sort_unstable();
            errors.unsupported(&states_at, name.as_str(), &sorted);
        }
    }
    let allocated_at = at.child("allocatedResources");
    for (name, value) in status.map("allocatedResources").into_iter().flatten() {
        let before = errors.len();
        resource_key(name, &allocated_at, errors);
        if errors.len() > before {
            continue;
        }
        let at = allocated_at.key(name);
        if negative(value) {
            basic(value, &at, errors);
        } else {
            quantity_value("storage", value, &at, errors);
        }
    }
}

fn resource_key(name: &str, at: &Path, errors: &mut ErrorList) {
    let messages = names::qualified_name(name);
    let good = messages.is_empty();
    errors.each(at, name, messages);
    if good && is_native(name) && name != "storage" {
        errors.unsupported(at, name, &["storage"]);
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() && context.subresource == "status" {
        return out;
    }
    if new.at("metadata").at("annotations").has(BETA_CLASS) {
        out.push(format!(
            "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    pod_warnings::claim_spec(new.at("spec"), &Path::new("spec"), &mut out);
    out
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let deleting = obj.at("metadata").has("deletionTimestamp");
    let unset = |field: &str| spec.at(field).as_str().unwrap_or("<unset>").to_owned();
    let (mut capacity, mut modes) = (String::new(), String::new());
    if !spec.text("volumeName").is_empty() {
        modes = access_modes(status.list("accessModes"));
        capacity = status.at("capacity").at("storage").as_str().unwrap_or("0").to_owned();
    }
    vec![
        name(obj),
        if deleting { "Terminating" } else { status.text("phase") }.into(),
        spec.text("volumeName").into(),
        capacity.into(),
        modes.into(),
        class(obj).into(),
        unset("volumeAttributesClassName").into(),
        age(obj, now),
        unset("volumeMode").into(),
    ]
}
