//! What only Windows pods have, and what they may not have.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::each_container;
use crate::check::Errors;
use crate::names;

/// `windowsOptions` of a pod or a container.
pub(crate) fn options(options: &Value, at: &Path, errors: &mut ErrorList) {
    let text = |name: &str| options.at(name).as_str();
    if let Some(name) = text("gmsaCredentialSpecName") {
        errors.each(&at.child("gmsaCredentialSpecName"), name, names::dns1123_subdomain(name));
    }
    if let Some(spec) = text("gmsaCredentialSpec") {
        let at = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            errors.invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = text("runAsUserName") {
        user_name(name, &at.child("runAsUserName"), errors);
    }
}

fn user_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.invalid(at, name, "runAsUserName cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return errors.invalid(at, name, "runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return errors.invalid(at, name, "runAsUserName cannot contain more than one backslash"),
    };
    if domain.is_some_and(|d| d.len() >= 256) {
        errors.invalid(at, name, "runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !net_bios(d) && !dns(d)) {
        errors.invalid(at, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        errors.invalid(at, name, "runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        errors.invalid(at, name, "runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        errors.invalid(at, name, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let detail = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        errors.invalid(at, name, detail);
    }
}

fn net_bios(domain: &str) -> bool {
    let bad = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    let count = domain.chars().count();
    (1..=15).contains(&count) && !domain.contains(bad) && !domain.starts_with('.')
}

fn dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

/// If one container is a HostProcess container, all are, and the pod is on the host's network.
pub(crate) fn host_process(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let flag = |context: &Value| context.at("windowsOptions").flag("hostProcess");
    let pod = flag(spec.at("securityContext"));
    let (mut all, mut host) = (0, 0);
    each_container(spec, at, |container, at| {
        all += 1;
        let own = flag(container.at("securityContext"));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid(&at, own, detail);
        }
        host += usize::from(own.or(pod) == Some(true));
    });
    if host == 0 {
        return;
    }
    if host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(at, "", detail);
    }
    if spec.flag("hostNetwork") != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&at.child("hostNetwork"), false, detail);
    }
}

/// `spec.os`, and what does not fit it.
pub(crate) fn os(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let os = spec.at("os");
    if !os.is_object() {
        return;
    }
    let context = at.child("securityContext");
    match os.text("name") {
        "" => errors.required(&at.child("os").child("name"), ""),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            if spec.at("securityContext").has("windowsOptions") {
                errors.forbidden(&context.child("windowsOptions"), detail);
            }
            each_container(spec, at, |container, at| {
                if container.at("securityContext").has("windowsOptions") {
                    errors.forbidden(&at.child("securityContext").child("windowsOptions"), detail);
                }
            });
        }
        "windows" => not_for_windows(spec, at, errors),
        other => errors.unsupported(&at.child("os"), other, &["linux", "windows"]),
    }
}

fn not_for_windows(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let detail = "cannot be set for a windows pod";
    let context = spec.at("securityContext");
    let context_at = at.child("securityContext");
    // in upstream's order; the flag says that the field stands in spec itself
    let fields = [
        ("appArmorProfile", false),
        ("seLinuxOptions", false),
        ("hostUsers", true),
        ("hostPID", true),
        ("hostIPC", true),
        ("seccompProfile", false),
        ("fsGroup", false),
        ("fsGroupChangePolicy", false),
        ("sysctls", false),
        ("shareProcessNamespace", true),
        ("runAsUser", false),
        ("runAsGroup", false),
        ("supplementalGroups", false),
        ("supplementalGroupsPolicy", false),
        ("seLinuxChangePolicy", false),
    ];
    for (field, in_spec) in fields {
        let value = if in_spec { spec.at(field) } else { context.at(field) };
        let plain_flag = matches!(field, "hostPID" | "hostIPC") && value == &Value::Bool(false);
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || plain_flag;
        if !empty {
            errors.forbidden(&if in_spec { at.child(field) } else { context_at.child(field) }, detail);
        }
    }
    each_container(spec, at, |container, at| {
        let context = container.at("securityContext");
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if context.has(field) {
                errors.forbidden(&at.child("securityContext").child(field), detail);
            }
        }
    });
}
