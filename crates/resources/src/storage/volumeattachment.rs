//! VolumeAttachments.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::core::persistentvolume;
use crate::objectmeta::keep;
use crate::pod::plugins;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "VolumeAttachment",
    prepare_create: |obj, _| obj.set("status", json!({"attached": false})),
    prepare_update: |new, old, context| {
        if context.subresource == "status" {
            keep(new, old, "spec");
            objectmeta::reset_for_status(new, old);
        } else {
            keep(new, old, "status");
        }
    },
    validate: |obj, _| validate(obj),
    validate_update: |new, old, _| {
        let mut errors = validate(new);
        let (now, before) = (new.at("spec"), old.at("spec"));
        errors.immutable_as("storage.VolumeAttachmentSpec", &Path::new("spec"), now, before);
        errors
    },
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let spec = obj.at("spec");
            vec![
                name(obj),
                spec.text("attacher").into(),
                spec.at("source").text("persistentVolumeName").into(),
                spec.text("nodeName").into(),
                obj.at("status").flag("attached").unwrap_or(false).into(),
                age(obj, now),
            ]
        },
        conditions: no_conditions,
    }),
    resets: &[("", &[&["status"]]), ("status", &[&["metadata"], &["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Attacher",
        "string",
        "name",
        0,
        "attacher indicates the name of the volume driver that MUST handle this request. This is the name returned by GetPluginName().",
    ),
    ("PV", "string", "", 0, "persistentVolumeName represents the name of the persistent volume to attach."),
    ("Node", "string", "", 0, "nodeName represents the node that the volume should be attached to."),
    (
        "Attached",
        "boolean",
        "",
        0,
        "attached indicates the volume is successfully attached. This field must only be set by the entity completing the attach operation, i.e. the external-attacher.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    plugins::csi_driver(spec.text("attacher"), &at.child("attacher"), &mut errors);
    source(spec.at("source"), &at.child("source"), &mut errors);
    let node = spec.text("nodeName");
    errors.each(&at.child("nodeName"), node, names::subdomain_name(node, false));
    status(obj.at("status"), &Path::new("status"), &mut errors);
    if let Some(volume) = spec.at("source").at("persistentVolumeName").as_str() {
        let at = Path::new("spec.source.persistentVolumeName");
        errors.each(&at, volume, names::subdomain_name(volume, false));
    }
    errors
}

/// What to attach: one of a volume's name and its spec.
fn source(source: &Value, at: &Path, errors: &mut ErrorList) {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.at("inlineVolumeSpec"), source.at("persistentVolumeName").as_str()) {
        (Value::Null, None) => errors.required(at, detail),
        (Value::Null, Some("")) => {
            errors.required(&at.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        (Value::Null, Some(_)) => {}
        (_, Some(_)) => errors.forbidden(at, detail),
        (spec, None) => persistentvolume::spec(spec, "", true, &at.child("inlineVolumeSpec"), errors),
    }
}

fn status(status: &Value, at: &Path, errors: &mut ErrorList) {
    const MESSAGE_MAX: usize = 1024;
    if super::size(status.at("attachmentMetadata")) > super::TEXT_MAX {
        errors.too_long(&at.child("attachmentMetadata"), super::TEXT_MAX);
    }
    for field in ["attachError", "detachError"] {
        let (error, at) = (status.at(field), at.child(field));
        if error.text("message").len() > MESSAGE_MAX {
            errors.too_long(&at.child("message"), super::TEXT_MAX);
        }
        if let Some(code) = error.int("errorCode").filter(|c| *c < 0) {
            errors.invalid(&at.child("errorCode"), code, names::range_error(0, i64::from(i32::MAX)));
        }
    }
}
