//! Environment variables and the references they are made of.

use machinery::field::{Error, ErrorList, Path};
use machinery::{Get, Value};

use super::paths;
use crate::check::Errors;
use crate::{names, quantity};

pub(crate) fn env(vars: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, var) in vars.iter().enumerate() {
        let at = at.index(i);
        let name = var.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.each(&at.child("name"), name, names::env_var_name(name));
        }
        if var.at("valueFrom").is_object() {
            value_from(var, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(var: &Value, at: &Path, errors: &mut ErrorList) {
    let from = var.at("valueFrom");
    let mut sources = 0;
    if from.at("fieldRef").is_object() {
        sources += 1;
        field_ref(from.at("fieldRef"), ENV_FIELDS, &at.child("fieldRef"), errors);
    }
    if from.at("resourceFieldRef").is_object() {
        sources += 1;
        resource_ref(from.at("resourceFieldRef"), false, &at.child("resourceFieldRef"), errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        let key_ref = from.at(name);
        if key_ref.is_object() {
            sources += 1;
            let at = at.child(name);
            errors.each(
                &at.child("name"),
                key_ref.text("name"),
                names::subdomain_name(key_ref.text("name"), false),
            );
            let key = key_ref.text("key");
            if key.is_empty() {
                errors.required(&at.child("key"), "");
            } else {
                errors.each(&at.child("key"), key, names::config_map_key(key));
            }
        }
    }
    if from.at("fileKeyRef").is_object() {
        sources += 1;
        file_key(from.at("fileKeyRef"), &at.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(at, "", detail);
    } else if !var.text("value").is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(at, "", "may not have more than one field specified at a time");
    }
}

fn file_key(key_ref: &Value, at: &Path, errors: &mut ErrorList) {
    let (key, volume, path) = (key_ref.text("key"), key_ref.text("volumeName"), key_ref.text("path"));
    if key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.each(&at.child("key"), key, names::env_var_name(key));
    }
    if volume.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.each(&at.child("volumeName"), volume, names::dns1123_label(volume));
    }
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    } else {
        paths::no_backsteps(path, &at.child("path"), errors);
    }
}

/// Fields that environment variables can be made of.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that downward API files can be made of.
pub(crate) const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// An `ObjectFieldSelector`.
pub(crate) fn field_ref(field: &Value, allowed: &[&str], at: &Path, errors: &mut ErrorList) {
    let (version, path) = (field.text("apiVersion"), field.text("fieldPath"));
    if version.is_empty() {
        return errors.required(&at.child("apiVersion"), "");
    }
    if path.is_empty() {
        return errors.required(&at.child("fieldPath"), "");
    }
    let known = match version {
        "v1" => convert_label(path),
        other => Err(format!("unsupported pod version: {other}")),
    };
    let path = match known {
        Ok(known) => known,
        Err(why) => {
            return errors.invalid(
                &at.child("fieldPath"),
                path,
                format!("error converting fieldPath: {why}"),
            );
        }
    };
    match subscripted(path) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.each(at, key.as_str(), names::qualified_name(&key));
        }
        Some(("metadata.labels", key)) => errors.each(at, key, names::qualified_name(key)),
        Some((path, _)) => errors.invalid(at, path, "does not support subscript"),
        None => errors.one_of(&at.child("fieldPath"), path, allowed),
    }
}

fn convert_label(path: &str) -> Result<&str, String> {
    if let Some((path, _)) = subscripted(path)
        && !matches!(path, "metadata.annotations" | "metadata.labels")
    {
        return Err(format!("field label does not support subscript: {path}"));
    }
    match path {
        "spec.host" => Ok("spec.nodeName"),
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs" => Ok(path),
        _ if subscripted(path).is_some() => Ok(path),
        _ => Err(format!("field label not supported: {path}")),
    }
}

/// `metadata.labels['key']` as path and key.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (path, key) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A `ResourceFieldSelector`; in volumes the container must be named.
pub(crate) fn resource_ref(field: &Value, volume: bool, at: &Path, errors: &mut ErrorList) {
    let resource = field.text("resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if volume && field.text("containerName").is_empty() {
        errors.required(&at.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&at.child("resource"), "");
    } else if !huge {
        errors.one_of(&at.child("resource"), resource, RESOURCE_FIELDS);
    }
    divisor(field, huge, at, errors);
}

fn divisor(field: &Value, huge: bool, at: &Path, errors: &mut ErrorList) {
    let divisor = quantity::of(field.at("divisor"));
    let resource = field.text("resource");
    if divisor == 0 {
        return;
    }
    let milli = quantity::ONE / 1000;
    let sized = || {
        let decimal = (0..=6).map(|i| 1000_i128.pow(i));
        let binary = (1..=6).map(|i| 1024_i128.pow(i));
        decimal.chain(binary).any(|n| divisor == n * quantity::ONE)
    };
    let what = match resource {
        "limits.cpu" | "requests.cpu" => {
            if divisor != milli && divisor != quantity::ONE {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(&at.child("divisor"), resource, detail);
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !sized() {
        let detail = format!(
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {what} resource"
        );
        errors.invalid(&at.child("divisor"), resource, detail);
    }
}

pub(crate) fn env_from(sources: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, source) in sources.iter().enumerate() {
        let item = at.index(i);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.each(&item.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = source.at(name);
            if !reference.is_object() {
                continue;
            }
            count += 1;
            let at = item.child(name).child("name");
            let name = reference.text("name");
            if name.is_empty() {
                errors.required(&at, "");
            } else {
                errors.each(&at, name, names::subdomain_name(name, true));
            }
        }
        match count {
            0 => errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(at, "", "may not have more than one field specified at a time"),
        }
    }
}

/// Variables read from files must name an emptyDir volume of the pod.
pub(crate) fn file_volumes(spec: &Value, at: &Path, errors: &mut ErrorList) {
    super::each_container(spec, at, |container, at| {
        for (i, var) in container.list("env").iter().enumerate() {
            let key_ref = var.at("valueFrom").at("fileKeyRef");
            if !key_ref.is_object() {
                continue;
            }
            let name = key_ref.text("volumeName");
            let at = at.child("env").index(i).child("valueFrom").child("fileKeyRef").child("volumeName");
            match spec.list("volumes").iter().rev().find(|v| v.text("name") == name) {
                None => errors.push(Error::not_found(&at, name)),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(&at, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}
