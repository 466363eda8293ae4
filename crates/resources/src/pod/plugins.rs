//! Volume sources that pods share with persistent volumes, most of them of long-gone plugins.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{paths, volumes};
use crate::check::{self, Errors};
use crate::{names, quantity};

/// Fields that must not be empty, by kind of source.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal"]),
    ("azureDisk", &["diskName", "diskURI"]),
];

/// One source; `persistent`: it is a PersistentVolume's.
pub(crate) fn source(kind: &str, source: &Value, persistent: bool, at: &Path, errors: &mut ErrorList) {
    let required = REQUIRED.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, fields)| fields);
    for field in required {
        if source.text(field).is_empty() && source.list(field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    match kind {
        "hostPath" => host_path(source, at, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            if let Some(n) = source.int("partition").filter(|n| !(0..=255).contains(n)) {
                errors.invalid(&at.child("partition"), n, names::range_error(1, 255));
            }
        }
        "nfs" => {
            if !source.text("path").starts_with('/') {
                errors.invalid(&at.child("path"), source.text("path"), "must be an absolute path");
            }
        }
        "glusterfs" if persistent => {
            if let Some(namespace) = source.at("endpointsNamespace").as_str() {
                let at = at.child("endpointsNamespace");
                if namespace.is_empty() {
                    let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.invalid(&at, namespace, detail);
                } else {
                    errors.each(&at, namespace, names::label_name(namespace, false));
                }
            }
        }
        "iscsi" => iscsi(source, persistent, at, errors),
        "flocker" => flocker(source, at, errors),
        "cinder" => secret_ref(source, persistent, at, errors),
        "quobyte" => quobyte(source, at, errors),
        "fc" => fc(source, at, errors),
        "flexVolume" => flex(source, at, errors),
        "azureFile" if persistent => {
            if source.at("secretNamespace").as_str() == Some("") {
                errors.required(&at.child("secretNamespace"), "");
            }
        }
        "azureDisk" => azure_disk(source, at, errors),
        "storageos" => storage_os(source, persistent, at, errors),
        "local" => match source.text("path") {
            "" => errors.required(&at.child("path"), ""),
            path => paths::no_backsteps(path, &at.child("path"), errors),
        },
        "csi" if persistent => csi_persistent(source, at, errors),
        "csi" => csi_inline(source, at, errors),
        _ => {}
    }
}

fn host_path(source: &Value, at: &Path, errors: &mut ErrorList) {
    let path = source.text("path");
    if path.is_empty() {
        return errors.required(&at.child("path"), "");
    }
    paths::no_backsteps(path, &at.child("path"), errors);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    errors.one_of(&at.child("type"), source.text("type"), &types);
}

fn iscsi(source: &Value, persistent: bool, at: &Path, errors: &mut ErrorList) {
    match source.text("iqn") {
        "" => errors.required(&at.child("iqn"), ""),
        iqn => initiator(iqn, persistent, &at.child("iqn"), errors),
    }
    if let Some(lun) = source.int("lun").filter(|n| !(0..=255).contains(n)) {
        errors.invalid(&at.child("lun"), lun, names::range_error(0, 255));
    }
    let chap = |field: &str| source.flag(field) == Some(true);
    if (chap("chapAuthDiscovery") || chap("chapAuthSession")) && !source.has("secretRef") {
        errors.required(&at.child("secretRef"), "");
    }
    if let Some(name) = source.at("initiatorName").as_str() {
        initiator(name, persistent, &at.child("initiatorname"), errors);
    }
}

/// The answer for a name of no known kind is shorter in a persistent volume.
fn initiator(name: &str, persistent: bool, at: &Path, errors: &mut ErrorList) {
    let hex = |s: &str, lens: &[usize]| lens.contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit());
    let good = match name.get(..3) {
        // iqn.YYYY-MM.domain[:name]
        Some("iqn") => name.strip_prefix("iqn.").is_some_and(|rest| {
            let bytes = rest.as_bytes();
            bytes.len() > 8
                && bytes[..4].iter().all(u8::is_ascii_digit)
                && bytes[4] == b'-'
                && bytes[5..7].iter().all(u8::is_ascii_digit)
                && bytes[7] == b'.'
                && rest[8..]
                    .split(':')
                    .next()
                    .is_some_and(|d| d.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')))
        }),
        Some("eui") => name.strip_prefix("eui.").is_some_and(|rest| hex(rest, &[16])),
        Some("naa") => name.strip_prefix("naa.").is_some_and(|rest| hex(rest, &[16, 32])),
        _ if persistent => false,
        _ => return errors.invalid(at, name, "must be valid format starting with iqn, eui, or naa"),
    };
    if !good {
        errors.invalid(at, name, "must be valid format");
    }
}

fn flocker(source: &Value, at: &Path, errors: &mut ErrorList) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(at, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&at.child("datasetName"), name, "must not contain '/'");
    }
}

fn secret_ref(source: &Value, with_namespace: bool, at: &Path, errors: &mut ErrorList) {
    let secret = source.at("secretRef");
    if !secret.is_object() {
        return;
    }
    for field in if with_namespace { &["name", "namespace"][..] } else { &["name"][..] } {
        if secret.text(field).is_empty() {
            errors.required(&at.child("secretRef").child(field), "");
        }
    }
}

fn quobyte(source: &Value, at: &Path, errors: &mut ErrorList) {
    let registry = source.text("registry");
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errors.required(&at.child("registry"), pairs);
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&at.child("tenant"), detail);
    } else {
        for pair in registry.split(',') {
            if pair.matches(':').count() != 1 {
                errors.invalid(&at.child("registry"), registry, pairs);
            }
        }
    }
    if source.text("volume").is_empty() {
        errors.required(&at.child("volume"), "");
    }
}

fn fc(source: &Value, at: &Path, errors: &mut ErrorList) {
    let (targets, ids) = (source.list("targetWWNs"), source.list("wwids"));
    if targets.is_empty() && ids.is_empty() {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.required(&at.child("targetWWNs"), detail);
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at.child("targetWWNs"), targets.to_vec(), detail);
    }
    if !targets.is_empty() {
        match source.int("lun") {
            None => errors.required(&at.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => errors.each(&at.child("lun"), lun, names::in_range(lun, 0, 255)),
        }
    }
}

fn flex(source: &Value, at: &Path, errors: &mut ErrorList) {
    for (key, _) in source.map("options").into_iter().flatten() {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.child("options").key(key), key.as_str(), detail);
        }
    }
}

fn azure_disk(source: &Value, at: &Path, errors: &mut ErrorList) {
    if source.has("cachingMode") {
        let modes = ["None", "ReadOnly", "ReadWrite"];
        errors.one_of(&at.child("cachingMode"), source.text("cachingMode"), &modes);
    }
    if !source.has("kind") {
        return;
    }
    let (kind, uri) = (source.text("kind"), source.text("diskURI"));
    errors.one_of(&at.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let managed =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    let blob = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    if kind == "Managed" && !uri.starts_with("/subscriptions/") {
        errors.unsupported(&at.child("diskURI"), uri, &[managed]);
    }
    if kind != "Managed" && !uri.starts_with("https://") {
        errors.unsupported(&at.child("diskURI"), uri, &[blob]);
    }
}

fn storage_os(source: &Value, persistent: bool, at: &Path, errors: &mut ErrorList) {
    match source.text("volumeName") {
        "" => errors.required(&at.child("volumeName"), ""),
        name => errors.each(&at.child("volumeName"), name, names::dns1123_label(name)),
    }
    let namespace = source.text("volumeNamespace");
    if !namespace.is_empty() {
        errors.each(&at.child("volumeNamespace"), namespace, names::dns1123_label(namespace));
    }
    secret_ref(source, persistent, at, errors);
}

/// The name of a CSI driver.
pub(crate) fn csi_driver(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    if name.len() > 63 {
        errors.too_long(at, 63);
    }
    errors.each(at, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn csi_persistent(source: &Value, at: &Path, errors: &mut ErrorList) {
    csi_driver(source.text("driver"), &at.child("driver"), errors);
    if source.text("volumeHandle").is_empty() {
        errors.required(&at.child("volumeHandle"), "");
    }
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = source.at(field);
        if !secret.is_object() {
            continue;
        }
        let at = at.child(field);
        match secret.text("name") {
            "" => errors.required(&at.child("name"), ""),
            name => errors.each(&at.child("name"), name, names::dns1123_subdomain(name)),
        }
        match secret.text("namespace") {
            "" => errors.required(&at.child("namespace"), ""),
            name => errors.each(&at.child("namespace"), name, names::dns1123_label(name)),
        }
    }
}

fn csi_inline(source: &Value, at: &Path, errors: &mut ErrorList) {
    csi_driver(source.text("driver"), &at.child("driver"), errors);
    let secret = source.at("nodePublishSecretRef");
    if secret.is_object() {
        match secret.text("name") {
            "" => errors.required(&at.child("nodePublishSecretRef").child("name"), ""),
            name => errors.each(&at.child("name"), name, names::subdomain_name(name, false)),
        }
    }
}

/// A volume with a claim of its own.
pub(crate) fn ephemeral(source: &Value, at: &Path, errors: &mut ErrorList) {
    let template = source.at("volumeClaimTemplate");
    let at = at.child("volumeClaimTemplate");
    if !template.is_object() {
        return errors.required(&at, "");
    }
    volumes::template_meta(template.at("metadata"), &at.child("metadata"), errors);
    claim_spec(template.at("spec"), false, &at.child("spec"), errors);
}

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Access modes of claims and volumes.
pub(crate) fn access_modes(modes: &[Value], at: &Path, errors: &mut ErrorList) {
    let (mut once_pod, mut other) = (false, false);
    for mode in modes.iter().filter_map(Value::as_str) {
        errors.one_of(at, mode, ACCESS_MODES);
        once_pod |= mode == "ReadWriteOncePod";
        other |= mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode);
    }
    if once_pod && other {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a PersistentVolumeClaim; `lax_group`: an old object had a data source's group.
pub(crate) fn claim_spec(spec: &Value, lax_group: bool, at: &Path, errors: &mut ErrorList) {
    if spec.list("accessModes").is_empty() {
        errors.required(&at.child("accessModes"), "at least 1 access mode is required");
    }
    check::label_selector(spec.at("selector"), &at.child("selector"), errors);
    access_modes(spec.list("accessModes"), &at.child("accessModes"), errors);
    let size = spec.at("resources").at("requests").at("storage");
    let size_at = at.child("resources").key("storage");
    if size.is_null() {
        errors.required(&size_at, "");
    } else if quantity::of(size) <= 0 {
        errors.invalid(&size_at, size.clone(), "must be greater than zero");
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        errors.each(&at.child("storageClassName"), class, names::subdomain_name(class, false));
    }
    if spec.has("volumeMode") {
        errors.one_of(&at.child("volumeMode"), spec.text("volumeMode"), &["Block", "Filesystem"]);
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if source.is_object() {
        data_source(source, lax_group, &at.child("dataSource"), errors);
    }
    let namespace = reference.text("namespace");
    if reference.is_object() {
        data_source(reference, lax_group, &at.child("dataSourceRef"), errors);
        if !namespace.is_empty() {
            let at = at.child("dataSourceRef").child("namespace");
            errors.each(&at, namespace, names::label_name(namespace, false));
        }
    }
    // upstream shows the path itself, a struct without public fields
    if !namespace.is_empty() && source.is_object() {
        errors.invalid_shown(at, "{}", "may not be specified when dataSourceRef.namespace is specified");
    } else if namespace.is_empty() && source.is_object() && reference.is_object() {
        let equal = ["apiGroup", "kind", "name"].iter().all(|f| source.at(f) == reference.at(f));
        if !equal {
            errors.invalid_shown(at, "{}", "must match dataSourceRef");
        }
    }
    let class = spec.text("volumeAttributesClassName");
    if !class.is_empty() {
        errors.each(&at.child("volumeAttributesClassName"), class, names::subdomain_name(class, false));
    }
}

fn data_source(source: &Value, lax_group: bool, at: &Path, errors: &mut ErrorList) {
    for field in ["name", "kind"] {
        if source.text(field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(at, kind, detail);
    }
    if !group.is_empty() && !lax_group {
        errors.each(&at.child("apiGroup"), group, names::dns1123_subdomain(group));
    }
}
