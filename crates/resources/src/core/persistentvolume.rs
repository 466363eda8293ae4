//! PersistentVolumes.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{self, Errors, same};
use crate::columns::{CREATED, NAME, age, name};
use crate::objectmeta::keep;
use crate::pod::defaults::{text, volume_plugins};
use crate::pod::{plugins, scheduling, warnings as pod_warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, godiff, names, objectmeta, quantity};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "PersistentVolume",
    default,
    prepare_create: |obj, context| {
        obj.set("status", serde_json::json!({"phase": "Pending"}));
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        obj.child("status").set("lastPhaseTransitionTime", now);
    },
    prepare_update,
    validate: |obj, _| validate(obj),
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Capacity",
        "string",
        "",
        0,
        "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
    ),
    (
        "Access Modes",
        "string",
        "",
        0,
        "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
    ),
    (
        "Reclaim Policy",
        "string",
        "",
        0,
        "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. Valid options are Retain (default for manually created PersistentVolumes), Delete (default for dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the volume plugin underlying this PersistentVolume. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
    ),
    (
        "Status",
        "string",
        "",
        0,
        "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
    ),
    (
        "Claim",
        "string",
        "",
        0,
        "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
    ),
    ("StorageClass", "string", "", 0, "StorageClass of the pv"),
    ("VolumeAttributesClass", "string", "", 0, "VolumeAttributesClass of the pv"),
    (
        "Reason",
        "string",
        "",
        0,
        "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
    ),
    ("Age", "string", "", 0, CREATED),
    (
        "VolumeMode",
        "string",
        "",
        1,
        "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state. Value of Filesystem is implied when not included in spec.",
    ),
];

fn default(obj: &mut Value, _: &Context) {
    text(obj.child("status"), "phase", "Pending");
    let spec = obj.child("spec");
    text(spec, "persistentVolumeReclaimPolicy", "Retain");
    spec.set_default("volumeMode", "Filesystem");
    volume_plugins(spec);
    quantity::round_up(spec, "capacity");
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource != "status" {
        return keep(new, old, "status");
    }
    keep(new, old, "spec");
    let (phase, was) = (new.at("status").text("phase").to_owned(), old.at("status").text("phase"));
    let time = |obj: &'_ Value| obj.at("status").at("lastPhaseTransitionTime").clone();
    if phase != was && (time(new) == time(old) || time(new).is_null()) {
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        new.child("status").set("lastPhaseTransitionTime", now);
    }
}

/// (field, name in «more than one» errors, name in the source's own errors), in upstream's order of checks.
const SOURCES: &[(&str, &str, &str)] = &[
    ("hostPath", "hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("nfs", "nfs", "nfs"),
    ("rbd", "rbd", "rbd"),
    ("quobyte", "quobyte", "quobyte"),
    ("cephfs", "cephFS", "cephfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("cinder", "cinder", "cinder"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("local", "local", "local"),
    ("storageos", "storageos", "storageos"),
    ("csi", "csi", "csi"),
];

fn validate(obj: &Value) -> ErrorList {
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    let name = obj.at("metadata").text("name");
    spec(obj.at("spec"), name, false, &Path::new("spec"), &mut errors);
    errors
}

/// `inline`: the spec stands in a VolumeAttachment.
pub(crate) fn spec(spec: &Value, name: &str, inline: bool, at: &Path, errors: &mut ErrorList) {
    let context = "may not be specified in the context of inline volumes";
    let capacity = spec.at("capacity");
    let some_capacity = capacity.as_object().is_some_and(|c| !c.is_empty());
    if inline {
        if spec.has("claimRef") {
            errors.forbidden(&at.child("claimRef"), context);
        }
        if some_capacity {
            errors.forbidden(&at.child("capacity"), context);
        }
        if !spec.has("csi") {
            errors.required(&at.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.list("accessModes").is_empty() {
        errors.required(&at.child("accessModes"), "");
    }
    plugins::access_modes(spec.list("accessModes"), &at.child("accessModes"), errors);
    if !inline {
        self::capacity(capacity, &at.child("capacity"), errors);
    }
    reclaim_policy(spec.text("persistentVolumeReclaimPolicy"), inline, at, errors);
    let affinity = spec.at("nodeAffinity");
    let affinity_at = at.child("nodeAffinity");
    let mut placed = false;
    if affinity.is_object() && inline {
        errors.forbidden(&affinity_at, context);
    } else if affinity.is_object() {
        let required = affinity.at("required");
        if required.is_object() {
            placed = true;
            scheduling::node_selector(required, false, &affinity_at.child("required"), errors);
        } else {
            errors.required(&affinity_at.child("required"), "must specify required node constraints");
        }
    }
    let mut found = false;
    for (field, crowd, own) in SOURCES {
        let source = spec.at(field);
        if !source.is_object() {
            continue;
        }
        if found && *field != "flexVolume" {
            errors.forbidden(&at.child(crowd), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        plugins::source(field, source, true, &at.child(own), errors);
        let long = name.len() + 1 + source.text("targetPortal").len() > 64;
        if *field == "iscsi" && source.has("initiatorName") && long {
            let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
            errors.invalid(&at.child("iscsi").child("targetportal"), source.text("targetPortal"), detail);
        }
        if *field == "local" && !placed {
            errors.required(&affinity_at, "Local volume requires node affinity");
        }
    }
    if !found {
        errors.required(at, "must specify a volume type");
    }
    let root =
        spec.at("hostPath").at("path").as_str().is_some_and(|p| p.starts_with('/') && clean_is_root(p));
    if root && spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        let at = at.child("persistentVolumeReclaimPolicy");
        errors.forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    classes(spec, inline, at, errors);
}

fn clean_is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

fn capacity(capacity: &Value, at: &Path, errors: &mut ErrorList) {
    let count = capacity.as_object().map_or(0, |c| c.len());
    if count == 0 {
        errors.required(at, "");
    }
    if count > 1 || !capacity.has("storage") {
        errors.unsupported(at, capacity.clone(), &["storage"]);
    }
    for (name, value) in capacity.as_object().into_iter().flatten() {
        let at = at.key(name);
        let whole = quantity::of(value);
        if whole < 0 {
            let rounded = (whole / quantity::ONE) as i64;
            errors.invalid(&at, rounded, "must be a valid resource quantity");
        }
        if whole <= 0 {
            errors.invalid(&at, value.clone(), "must be greater than zero");
        }
    }
}

fn reclaim_policy(policy: &str, inline: bool, at: &Path, errors: &mut ErrorList) {
    let at = at.child("persistentVolumeReclaimPolicy");
    match (policy, inline) {
        ("", _) | ("Retain", true) => {}
        (_, true) => errors.forbidden(&at, "may only be Retain in the context of inline volumes"),
        (_, false) => errors.one_of(&at, policy, &["Delete", "Recycle", "Retain"]),
    }
}

fn classes(spec: &Value, inline: bool, at: &Path, errors: &mut ErrorList) {
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        let at = at.child("storageClassName");
        if inline {
            errors.forbidden(&at, "may not be specified in the context of inline volumes");
        } else {
            errors.each(&at, class, names::subdomain_name(class, false));
        }
    }
    if let Some(mode) = spec.at("volumeMode").as_str() {
        let at = at.child("volumeMode");
        if !inline {
            errors.one_of(&at, mode, &["Block", "Filesystem"]);
        } else if mode != "Filesystem" {
            let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            errors.forbidden(&at, detail);
        }
    }
    if let Some(class) = spec.at("volumeAttributesClassName").as_str().filter(|_| !inline) {
        let class_at = at.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&class_at, "an empty string is disallowed");
        } else {
            errors.each(&class_at, class, names::subdomain_name(class, false));
        }
        if !spec.has("csi") {
            errors.required(&at.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

/// Only the source of a PersistentVolume's spec.
fn source(spec: &Value) -> Value {
    let mut out = Value::Object(serde_json::Map::new());
    for (field, ..) in SOURCES {
        if spec.has(field) {
            out.set(field, spec.at(field).clone());
        }
    }
    out
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    if context.subresource == "status" {
        return objectmeta::validate_update(new, old);
    }
    // upstream validates twice
    let mut errors = validate(new);
    errors.extend(validate(new));
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let (mut now, was) = (source(spec), source(before));
    let secret = "controllerExpandSecretRef";
    if was.has("csi") && !was.at("csi").has(secret) && now.has("csi") {
        now.child("csi").unset(secret);
    }
    if !same(&now, &was) {
        let diff = godiff::persistent_volume_sources(&was, &now);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        errors.forbidden(&Path::new("spec").child("persistentvolumesource"), detail);
    }
    errors.immutable(&Path::new("volumeMode"), spec.at("volumeMode"), before.at("volumeMode"));
    if before.has("nodeAffinity") && !same_but_label_names(spec.at("nodeAffinity"), before.at("nodeAffinity"))
    {
        let shown = crate::internal::compact("core.VolumeNodeAffinity", spec.at("nodeAffinity"));
        let detail = format!("{}, except for updating from beta label to GA", check::IMMUTABLE);
        errors.invalid_shown(&Path::new("nodeAffinity"), shown, &detail);
    }
    let class = "volumeAttributesClassName";
    if before.has(class) && !spec.has(class) {
        let at = Path::new("spec").child(class);
        errors.forbidden(&at, "update from non-nil value to nil is forbidden");
    }
    errors
}

/// Old labels of nodes may be replaced by their new names.
fn same_but_label_names(new: &Value, old: &Value) -> bool {
    let renamed = |old: &str| {
        Some(match old {
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => return None,
        })
    };
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(k, v)| {
                    let was = b.get(k).unwrap_or(&Value::Null);
                    let name = (k == "key").then(|| renamed(was.as_str().unwrap_or(""))).flatten();
                    name.is_some_and(|n| v == n) || same_but_label_names(v, was)
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same_but_label_names(v, w))
        }
        _ => new == old,
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() && context.subresource == "status" {
        return out;
    }
    let spec = new.at("spec");
    if new.at("metadata").at("annotations").has("volume.beta.kubernetes.io/storage-class") {
        out.push("metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead".into());
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let at = Path::new("spec").child("nodeAffinity").child("required").child("nodeSelectorTerms");
    let terms = spec.at("nodeAffinity").at("required").list("nodeSelectorTerms");
    for (i, term) in terms.iter().enumerate() {
        pod_warnings::node_selector_term(term, false, &at.index(i), &mut out);
    }
    for (field, shown, message) in [
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if spec.has(field) {
            out.push(format!("spec.{shown}: {message}"));
        }
    }
    let value = spec.at("capacity").at("storage");
    if quantity::of(value) % quantity::ONE != 0 {
        out.push(format!(
            "spec.capacity[storage]: fractional byte value {value} is invalid, must be an integer"
        ));
    }
    out
}

/// `RWO,ROX,…`, once each.
pub(super) fn access_modes(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| has(mode))
    .map(|(_, short)| *short)
    .collect::<Vec<_>>()
    .join(",")
}

/// The storage class, by the old annotation or the field.
pub(super) fn class(obj: &Value) -> &str {
    let annotations = obj.at("metadata").at("annotations");
    match annotations.at("volume.beta.kubernetes.io/storage-class").as_str() {
        Some(class) => class,
        None => obj.at("spec").text("storageClassName"),
    }
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let claim = spec.at("claimRef");
    let claim = match claim.is_object() {
        true => format!("{}/{}", claim.text("namespace"), claim.text("name")),
        false => String::new(),
    };
    let deleting = obj.at("metadata").has("deletionTimestamp");
    let unset = |field: &str| spec.at(field).as_str().unwrap_or("<unset>").to_owned();
    vec![
        name(obj),
        spec.at("capacity").at("storage").as_str().unwrap_or("0").into(),
        access_modes(spec.list("accessModes")).into(),
        spec.text("persistentVolumeReclaimPolicy").into(),
        if deleting { "Terminating" } else { status.text("phase") }.into(),
        claim.into(),
        class(obj).into(),
        unset("volumeAttributesClassName").into(),
        status.text("reason").into(),
        age(obj, now),
        unset("volumeMode").into(),
    ]
}
