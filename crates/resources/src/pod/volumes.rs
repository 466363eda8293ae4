//! Volumes of a pod, and how containers mount them.

use std::collections::BTreeMap;

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{containers, env, paths, plugins};
use crate::check::{self, Errors};
use crate::{names, quantity};

/// The good volumes of a pod by name.
pub(crate) struct Volumes<'a>(BTreeMap<&'a str, &'a Value>);

/// (field, name in «more than one» errors, name in the source's own errors), in upstream's order of checks.
const SOURCES: &[(&str, &str, &str)] = &[
    ("emptyDir", "emptyDir", "emptyDir"),
    ("hostPath", "hostPath", "hostPath"),
    ("gitRepo", "gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret", "secret"),
    ("nfs", "nfs", "nfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd", "rbd"),
    ("cinder", "cinder", "cinder"),
    ("cephfs", "cephFS", "cephfs"),
    ("quobyte", "quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI", "downwardAPI"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("configMap", "configMap", "configMap"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("storageos", "storageos", "storageos"),
    ("projected", "projected", "projected"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("csi", "csi", "csi"),
    ("ephemeral", "ephemeral", "ephemeral"),
    ("image", "image", "image"),
];

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// `pod_name`: "" in templates; `in_pod`: it is a pod, not a template.
pub(crate) fn volumes<'a>(
    volumes: &'a [Value],
    pod_name: &str,
    in_pod: bool,
    at: &Path,
    errors: &mut ErrorList,
) -> Volumes<'a> {
    let created: Vec<String> = volumes
        .iter()
        .filter(|v| !pod_name.is_empty() && v.at("ephemeral").is_object())
        .map(|v| format!("{pod_name}-{}", v.text("name")))
        .collect();
    let mut good: BTreeMap<&str, &Value> = BTreeMap::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = at.index(i);
        let name = volume.text("name");
        let before = errors.len();
        source(volume, pod_name, in_pod, &at, errors);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.each(&at.child("name"), name, names::dns1123_label(name));
        }
        if good.contains_key(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.len() == before {
            good.insert(name, volume);
        }
        let claim = volume.at("persistentVolumeClaim").text("claimName");
        if created.iter().any(|c| c == claim) {
            let at = at.child("persistentVolumeClaim").child("claimName");
            errors.invalid(&at, claim, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    Volumes(good)
}

fn source(volume: &Value, pod_name: &str, in_pod: bool, at: &Path, errors: &mut ErrorList) {
    let name = volume.text("name");
    let mut found = false;
    for (field, crowd, own) in SOURCES {
        let source = volume.at(field);
        if !source.is_object() {
            continue;
        }
        if found {
            errors.forbidden(&at.child(crowd), "may not specify more than 1 volume type");
        } else {
            found = true;
            match *field {
                "image" => image(source, in_pod, &at.child(own), errors),
                "ephemeral" => {
                    plugins::ephemeral(source, &at.child(own), errors);
                    if !pod_name.is_empty() && !name.is_empty() {
                        let claim = format!("{pod_name}-{name}");
                        for message in names::subdomain_name(&claim, false) {
                            errors.invalid(&at.child("name"), name, format!("PVC name {claim:?}: {message}"));
                        }
                    }
                }
                _ => one(field, source, &at.child(own), errors),
            }
        }
        let portal = source.text("targetPortal");
        if *field == "iscsi" && source.has("initiatorName") && name.len() + 1 + portal.len() > 64 {
            let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
            errors.invalid(&at.child("name"), name, detail);
        }
    }
    if !found {
        errors.required(at, "must specify a volume type");
    }
}

fn one(field: &str, source: &Value, at: &Path, errors: &mut ErrorList) {
    match field {
        "emptyDir" => {
            if quantity::of(source.at("sizeLimit")) < 0 {
                errors.forbidden(&at.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "secret" | "configMap" => {
            let name = if field == "secret" { "secretName" } else { "name" };
            if source.text(name).is_empty() {
                errors.required(&at.child(name), "");
            }
            mode(source, "defaultMode", at, errors);
            for (i, item) in source.list("items").iter().enumerate() {
                key_to_path(item, &at.child("items").index(i), errors);
            }
        }
        "persistentVolumeClaim" => {
            if source.text("claimName").is_empty() {
                errors.required(&at.child("claimName"), "");
            }
        }
        "gitRepo" => {
            if source.text("repository").is_empty() {
                errors.required(&at.child("repository"), "");
            }
            paths::local_descending(source.text("directory"), &at.child("directory"), errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", at, errors);
            for file in source.list("items") {
                downward_file(file, at, errors);
            }
        }
        "projected" => {
            mode(source, "defaultMode", at, errors);
            super::projected::sources(source, at, errors);
        }
        _ => plugins::source(field, source, false, at, errors),
    }
}

fn image(source: &Value, in_pod: bool, at: &Path, errors: &mut ErrorList) {
    if in_pod && source.text("reference").is_empty() {
        errors.required(&at.child("reference"), "");
    }
    containers::pull_policy(source.text("pullPolicy"), &at.child("pullPolicy"), errors);
}

pub(crate) fn mode(source: &Value, field: &str, at: &Path, errors: &mut ErrorList) {
    if let Some(mode) = source.int(field).filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(&at.child(field), mode, FILE_MODE);
    }
}

pub(crate) fn key_to_path(item: &Value, at: &Path, errors: &mut ErrorList) {
    for field in ["key", "path"] {
        if item.text(field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    paths::local_non_reserved(item.text("path"), &at.child("path"), errors);
    mode(item, "mode", at, errors);
}

pub(crate) fn downward_file(file: &Value, at: &Path, errors: &mut ErrorList) {
    if file.text("path").is_empty() {
        errors.required(&at.child("path"), "");
    }
    paths::local_non_reserved(file.text("path"), &at.child("path"), errors);
    let (field, resource) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    if field.is_object() {
        env::field_ref(field, env::VOLUME_FIELDS, &at.child("fieldRef"), errors);
        if resource.is_object() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid(at, "resource", detail);
        }
    } else if resource.is_object() {
        env::resource_ref(resource, true, &at.child("resourceFieldRef"), errors);
    } else {
        errors.required(at, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file, "mode", at, errors);
}

impl Volumes<'_> {
    /// `volumeMounts` of a container.
    pub(crate) fn mounts(&self, container: &Value, at: &Path, errors: &mut ErrorList) {
        let devices = container.list("volumeDevices");
        let mut points: Vec<&str> = Vec::new();
        for (i, mount) in container.list("volumeMounts").iter().enumerate() {
            let item = at.index(i);
            let (name, path) = (mount.text("name"), mount.text("mountPath"));
            if name.is_empty() {
                errors.required(&item.child("name"), "");
            }
            if !self.0.contains_key(name) {
                errors.not_found(&item.child("name"), name);
            }
            if path.is_empty() {
                errors.required(&item.child("mountPath"), "");
            }
            if points.contains(&path) {
                errors.invalid(&item.child("mountPath"), path, "must be unique");
            }
            points.push(path);
            if devices.iter().any(|d| d.text("name") == name) {
                errors.invalid(&item.child("name"), name, "must not already exist in volumeDevices");
            }
            if devices.iter().any(|d| d.text("devicePath") == path) {
                let detail = "must not already exist as a path in volumeDevices";
                errors.invalid(&item.child("mountPath"), path, detail);
            }
            let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
            if !sub.is_empty() {
                paths::local_descending(sub, &at.child("subPath"), errors);
            }
            if !expression.is_empty() {
                if !sub.is_empty() {
                    let detail = "subPathExpr and subPath are mutually exclusive";
                    errors.invalid(&item.child("subPathExpr"), expression, detail);
                }
                paths::local_descending(expression, &at.child("subPathExpr"), errors);
            }
            propagation(mount, container, &at.child("mountPropagation"), errors);
            recursive_read_only(mount, &at.child("recursiveReadOnly"), errors);
        }
    }

    /// `volumeDevices` of a container.
    pub(crate) fn devices(&self, container: &Value, at: &Path, errors: &mut ErrorList) {
        let mounts = container.list("volumeMounts");
        let (mut seen_names, mut seen_paths): (Vec<&str>, Vec<&str>) = Default::default();
        for (i, device) in container.list("volumeDevices").iter().enumerate() {
            let at = at.index(i);
            let (name, path) = (device.text("name"), device.text("devicePath"));
            let (name_at, path_at) = (at.child("name"), at.child("devicePath"));
            let volume = self.0.get(name);
            if name.is_empty() {
                errors.required(&name_at, "");
            }
            if seen_names.contains(&name) {
                errors.invalid(&name_at, name, "must be unique");
            }
            if volume.is_some_and(|v| !v.has("persistentVolumeClaim") && !v.has("ephemeral")) {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&name_at, name, detail);
            }
            if volume.is_none() {
                errors.not_found(&name_at, name);
            }
            if path.is_empty() {
                errors.required(&path_at, "");
            }
            if seen_paths.contains(&path) {
                errors.invalid(&path_at, path, "must be unique");
            }
            if paths::has_backsteps(path) {
                errors.invalid(&path_at, path, "can not contain backsteps ('..')");
            } else {
                seen_paths.push(path);
            }
            if mounts.iter().any(|m| m.text("name") == name) {
                errors.invalid(&name_at, name, "must not already exist in volumeMounts");
            }
            if mounts.iter().any(|m| m.text("mountPath") == path) {
                errors.invalid(&path_at, path, "must not already exist as a path in volumeMounts");
            }
            if !name.is_empty() {
                seen_names.push(name);
            }
        }
    }
}

fn propagation(mount: &Value, container: &Value, at: &Path, errors: &mut ErrorList) {
    if !mount.has("mountPropagation") {
        return;
    }
    let kind = mount.text("mountPropagation");
    errors.one_of(at, kind, &["Bidirectional", "HostToContainer", "None"]);
    if kind == "Bidirectional" && container.at("securityContext").flag("privileged") != Some(true) {
        errors.forbidden(at, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: &Value, at: &Path, errors: &mut ErrorList) {
    if !mount.has("recursiveReadOnly") {
        return;
    }
    match mount.text("recursiveReadOnly") {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if mount.flag("readOnly") != Some(true) {
                errors.forbidden(at, "may only be specified when readOnly is true");
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                errors.forbidden(at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        other => errors.unsupported(at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Metadata of a template inside an object: labels and annotations only.
pub(crate) fn template_meta(meta: &Value, at: &Path, errors: &mut ErrorList) {
    crate::objectmeta::annotations(meta.at("annotations"), &at.child("annotations"), errors);
    check::labels(meta.at("labels"), &at.child("labels"), errors);
    for field in [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ] {
        let value = meta.at(field);
        let empty =
            value.is_null() || value == "" || value == 0 || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            let go = if field == "uid" { "uID" } else { field };
            errors.forbidden(&at.child(go), "cannot be set");
        }
    }
}
