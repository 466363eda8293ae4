//! Security contexts of pods and containers, and the annotations that came before them.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{each_container, paths, windows};
use crate::check::Errors;
use crate::gostruct::{Field, Zero, show, show_with};
use crate::names;

const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// `spec.securityContext`, with what stands beside it in `spec`.
pub(crate) fn pod(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let context = spec.at("securityContext");
    let at = at.child("securityContext");
    if !context.is_object() {
        return;
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = context.int(field) {
            errors.each(&at.child(field), id, names::unix_id(id));
        }
    }
    for (i, gid) in context.list("supplementalGroups").iter().enumerate() {
        let gid = gid.as_i64().unwrap_or(0);
        errors.each(&at.child("supplementalGroups").index(i), gid, names::unix_id(gid));
    }
    if spec.flag("shareProcessNamespace") == Some(true) && spec.flag("hostPID") == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.child("shareProcessNamespace"), true, detail);
    }
    sysctls(spec, context, &at.child("sysctls"), errors);
    if context.has("fsGroupChangePolicy") {
        let supported = ["Always", "OnRootMismatch"];
        errors.one_of(&at.child("fsGroupChangePolicy"), context.text("fsGroupChangePolicy"), &supported);
    }
    seccomp(context.at("seccompProfile"), &at.child("seccompProfile"), errors);
    windows::options(context.at("windowsOptions"), &at.child("windowsOptions"), errors);
    apparmor(context.at("appArmorProfile"), &at.child("appArmorProfile"), errors);
    if context.has("supplementalGroupsPolicy") {
        let supported = ["Merge", "Strict"];
        errors.one_of(
            &at.child("supplementalGroupsPolicy"),
            context.text("supplementalGroupsPolicy"),
            &supported,
        );
    }
    if context.has("seLinuxChangePolicy") {
        // `MountOption` comes with a gate that is off
        let supported = ["Recursive"];
        errors.one_of(&at.child("seLinuxChangePolicy"), context.text("seLinuxChangePolicy"), &supported);
    }
}

fn sysctls(spec: &Value, context: &Value, at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in context.list("sysctls").iter().enumerate() {
        let at = at.index(i).child("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if !good_sysctl(name) {
            let pattern = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, format!("must have at most 253 characters and match regex {pattern}"));
        } else if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        let host = |flag: &str| spec.flag(flag) == Some(true);
        let dotted = dotted_sysctl(name);
        if host("hostNetwork") && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if host("hostIPC") && is_ipc_sysctl(&dotted) {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
        seen.push(name);
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
}

/// With dots as separators, whichever the first separator is.
fn dotted_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn good_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|b| edge(*b))
                && bytes.last().is_some_and(|b| edge(*b))
                && bytes.iter().all(|b| edge(*b) || matches!(b, b'-' | b'_'))
        })
}

const SECCOMP: &[Field] =
    &[("Type", "type", Zero::Text), ("LocalhostProfile", "localhostProfile", Zero::Null)];

fn seccomp(profile: &Value, at: &Path, errors: &mut ErrorList) {
    if !profile.is_object() {
        return;
    }
    profile_type(profile, "type is required when seccompProfile is set", at, errors);
    let at = at.child("localhostProfile");
    if profile.text("type") == "Localhost" {
        match profile.at("localhostProfile").as_str() {
            None => errors.required(&at, "must be set when seccomp type is Localhost"),
            Some(path) => paths::local_descending(path, &at, errors),
        }
    } else if profile.has("localhostProfile") {
        errors.invalid_shown(&at, show(profile, SECCOMP), "can only be set when seccomp type is Localhost");
    }
}

fn profile_type(profile: &Value, missing: &str, at: &Path, errors: &mut ErrorList) {
    match profile.text("type") {
        "" => errors.required(&at.child("type"), missing),
        kind => errors.one_of(&at.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn apparmor(profile: &Value, at: &Path, errors: &mut ErrorList) {
    if !profile.is_object() {
        return;
    }
    let local = profile.at("localhostProfile").as_str();
    let local_at = at.child("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match profile.text("type") {
        "Localhost" => match local {
            None => errors.required(&local_at, missing),
            Some(name) => {
                if name.trim() != name {
                    errors.invalid(&local_at, name, "must not be padded with whitespace");
                } else if name.is_empty() {
                    errors.required(&local_at, missing);
                }
                if name.len() > 4095 {
                    errors.too_long(&local_at, 4095);
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = local {
                errors.invalid(&local_at, name, "can only be set when AppArmor type is Localhost");
            }
        }
        _ => profile_type(profile, "type is required when appArmorProfile is set", at, errors),
    }
}

const CONTEXT: &[Field] = &[
    ("Capabilities", "capabilities", Zero::Null),
    ("Privileged", "privileged", Zero::Null),
    ("SELinuxOptions", "seLinuxOptions", Zero::Null),
    ("WindowsOptions", "windowsOptions", Zero::Null),
    ("RunAsUser", "runAsUser", Zero::Null),
    ("RunAsGroup", "runAsGroup", Zero::Null),
    ("RunAsNonRoot", "runAsNonRoot", Zero::Null),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", Zero::Null),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", Zero::Null),
    ("ProcMount", "procMount", Zero::Null),
    ("SeccompProfile", "seccompProfile", Zero::Null),
    ("AppArmorProfile", "appArmorProfile", Zero::Null),
];

fn context_shown(context: &Value) -> String {
    const CAPABILITIES: &[Field] = &[("Add", "add", Zero::Null), ("Drop", "drop", Zero::Null)];
    const SELINUX: &[Field] = &[
        ("User", "user", Zero::Text),
        ("Role", "role", Zero::Text),
        ("Type", "type", Zero::Text),
        ("Level", "level", Zero::Text),
    ];
    show_with(context, CONTEXT, |name, value| match name {
        "capabilities" => show(value, CAPABILITIES),
        "seLinuxOptions" => show(value, SELINUX),
        "seccompProfile" | "appArmorProfile" => show(value, SECCOMP),
        _ => value.to_string(),
    })
}

/// `securityContext` of a container.
pub(crate) fn container(context: &Value, host_users: bool, at: &Path, errors: &mut ErrorList) {
    if !context.is_object() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) = context.int(field) {
            errors.each(&at.child(field), id, names::unix_id(id));
        }
    }
    if context.has("procMount") {
        let kind = context.text("procMount");
        errors.one_of(&at.child("procMount"), kind, &["Default", "Unmasked"]);
        if host_users && kind == "Unmasked" {
            errors.invalid(&at.child("procMount"), kind, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(context.at("seccompProfile"), &at.child("seccompProfile"), errors);
    if context.flag("allowPrivilegeEscalation") == Some(false) {
        if context.flag("privileged") == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid_shown(at, context_shown(context), detail);
        }
        for cap in context.at("capabilities").list("add") {
            if cap == "CAP_SYS_ADMIN" {
                let detail =
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
                errors.invalid_shown(at, context_shown(context), detail);
            }
        }
    }
    windows::options(context.at("windowsOptions"), &at.child("windowsOptions"), errors);
    apparmor(context.at("appArmorProfile"), &at.child("appArmorProfile"), errors);
}

/// Annotations about seccomp and AppArmor.
pub(crate) fn annotations(annotations: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    if let Some(profile) = annotations.get(SECCOMP_POD).and_then(Value::as_str) {
        seccomp_name(profile, &at.child(SECCOMP_POD), errors);
    }
    let all = || annotations.as_object().into_iter().flatten();
    for (key, profile) in all().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        seccomp_name(profile.as_str().unwrap_or(""), &at.child(key), errors);
    }
    for (key, profile) in all() {
        let Some(name) = key.strip_prefix(APPARMOR) else { continue };
        let mut found = false;
        each_container(spec, &Path::root(), |container, _| found |= container.text("name") == name);
        if !found {
            errors.invalid(&at.key(key), name, "container not found");
        }
        let profile = profile.as_str().unwrap_or("");
        let good =
            matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !good {
            errors.invalid(&at.key(key), profile, format!("invalid AppArmor profile name: {profile:?}"));
        }
    }
}

fn seccomp_name(profile: &str, at: &Path, errors: &mut ErrorList) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(path) => paths::local_descending(path, at, errors),
        None => errors.invalid(at, profile, "must be a valid seccomp profile"),
    }
}

/// On creation annotations and fields must say the same.
pub(crate) fn annotations_match(annotations: &Value, spec: &Value, at: &Path, errors: &mut ErrorList) {
    let pod = spec.at("securityContext");
    let mut check = |annotation: Option<&str>, profile: &Value, at: &Path, docker: &str, what: &str| {
        let (Some(annotation), true) = (annotation, profile.is_object()) else { return };
        let kind = profile.text("type");
        let detail = format!("{what} type in annotation and field must match");
        match kind {
            "Unconfined" if annotation != "unconfined" => errors.forbidden(&at.child("type"), detail),
            "RuntimeDefault" if annotation != "runtime/default" && annotation != docker => {
                errors.forbidden(&at.child("type"), detail);
            }
            "Localhost" => match annotation.strip_prefix("localhost/") {
                None => errors.forbidden(&at.child("type"), detail),
                Some(name) if Some(name) != profile.at("localhostProfile").as_str() => {
                    let detail = format!("{what} profile in annotation and field must match");
                    errors.forbidden(&at.child("localhostProfile"), detail);
                }
                Some(_) => {}
            },
            _ => {}
        }
    };
    let annotation = |key: &str| annotations.get(key).and_then(Value::as_str);
    let pod_at = at.child("securityContext").child("seccompProfile");
    check(annotation(SECCOMP_POD), pod.at("seccompProfile"), &pod_at, "docker/default", "seccomp");
    each_container(spec, at, |container, at| {
        let key = format!("{SECCOMP_CONTAINER}{}", container.text("name"));
        let profile = container.at("securityContext").at("seccompProfile");
        let at = at.child("securityContext").child("seccompProfile");
        check(annotation(&key), profile, &at, "docker/default", "seccomp");
    });
    if spec.at("os").text("name") == "windows" {
        return;
    }
    each_container(spec, at, |container, at| {
        let key = format!("{APPARMOR}{}", container.text("name"));
        let own = container.at("securityContext").at("appArmorProfile");
        let profile = if own.is_object() { own } else { pod.at("appArmorProfile") };
        let at = at.child("securityContext").child("appArmorProfile");
        check(annotation(&key), profile, &at, "runtime/default", "apparmor");
    });
}
