//! Validation of a pod's metadata and spec (`pkg/apis/core/validation/validation.go`).

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::containers::{self, Pod};
use super::{each_container, env, requirements, scheduling, security, volumes, windows};
use crate::check::{self, Errors};
use crate::{Context, ip, names, objectmeta};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What differs by where the spec stands and by what is switched on.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// A pod, not a template.
    pub pod: bool,
    /// Tolerations may compare numbers.
    pub lt_gt_tolerations: bool,
    /// Pods in user namespaces may use the host's network.
    pub user_namespaces_host_network: bool,
}

impl Options {
    pub(crate) fn pod(context: &Context) -> Self {
        Self {
            pod: true,
            lt_gt_tolerations: context.enabled("TaintTolerationComparisonOperators"),
            user_namespaces_host_network: context.enabled("UserNamespacesHostNetworkSupport"),
        }
    }

    pub(crate) fn template(context: &Context) -> Self {
        Self { pod: false, ..Self::pod(context) }
    }
}

/// A pod to be created.
pub(crate) fn create(pod: &Value, options: Options) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata_and_spec(pod, options, &mut errors);
    let at = Path::new("spec");
    let spec = pod.at("spec");
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&at.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&at.child("nodeName"), detail);
    }
    security::annotations_match(pod.at("metadata").at("annotations"), spec, &at, &mut errors);
    errors
}

pub(crate) fn metadata_and_spec(pod: &Value, options: Options, errors: &mut ErrorList) {
    let (meta, spec) = (pod.at("metadata"), pod.at("spec"));
    let meta_at = Path::new("metadata");
    objectmeta::validate_at(meta, true, names::subdomain_name, &meta_at, errors);
    annotations(meta.at("annotations"), spec, options, &meta_at.child("annotations"), errors);
    let at = Path::new("spec");
    self::spec(spec, Some(meta), options, &at, errors);
    if spec.text("serviceAccountName").is_empty() {
        for (i, volume) in spec.list("volumes").iter().enumerate() {
            for (j, source) in volume.at("projected").list("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let at = at.child("volumes").index(i).child("projected").child("sources").index(j);
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&at.child("serviceAccountToken"), detail);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in spec.list(list).iter().enumerate() {
            containers::image_only_in_pods(container, &at.child(list).index(i), errors);
        }
    }
}

/// Annotations that pods give a meaning to.
pub(crate) fn annotations(
    annotations: &Value,
    spec: &Value,
    options: Options,
    at: &Path,
    errors: &mut ErrorList,
) {
    if annotations.has(MIRROR) && spec.text("nodeName").is_empty() {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&at.key(MIRROR), annotations.text(MIRROR), detail);
    }
    let key = "scheduler.alpha.kubernetes.io/tolerations";
    if let Ok(Value::Array(tolerations)) = serde_json::from_str(annotations.text(key)) {
        scheduling::tolerations(&tolerations, options.lt_gt_tolerations, &at.child(key), errors);
    }
    let key = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(cost) = annotations.at(key).as_str() {
        let odd =
            cost.starts_with('+') || (cost.starts_with('0') && cost.len() > 1) || cost.starts_with("-0");
        if odd || cost.parse::<i32>().is_err() {
            errors.invalid(&at.key(key), cost, "must be a 32bit integer");
        }
    }
    security::annotations(annotations, spec, at, errors);
}

pub(crate) fn is_mirror(meta: &Value) -> bool {
    meta.at("annotations").has(MIRROR)
}

/// `meta`: the pod's metadata; None in templates.
pub(crate) fn spec(spec: &Value, meta: Option<&Value>, options: Options, at: &Path, errors: &mut ErrorList) {
    let grace = spec.int("terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.required(&at.child("terminationGracePeriodSeconds"), "");
    }
    let pod_name = meta.map_or("", |m| m.text("name"));
    let claims = spec.list("resourceClaims");
    let pod = Pod {
        spec,
        volumes: volumes::volumes(spec.list("volumes"), pod_name, options.pod, &at.child("volumes"), errors),
        claims: claims.iter().map(|c| c.text("name")).filter(|n| !n.is_empty()).collect(),
        grace,
        host_users: spec.flag("hostUsers") != Some(false),
    };
    let mirror = meta.is_some_and(is_mirror);
    containers::resource_claims(claims, mirror, &at.child("resourceClaims"), errors);
    containers::all(&pod, at, errors);
    requirements::pod_level(spec, &pod.claims, at, errors);
    host_network_ports(spec, options, at, errors);
    choices(spec, at, errors);
    check::labels(spec.at("nodeSelector"), &at.child("nodeSelector"), errors);
    security::pod(spec, at, errors);
    scheduling::affinity(spec.at("affinity"), &at.child("affinity"), errors);
    dns(spec, &at.child("dnsConfig"), errors);
    for (i, gate) in spec.list("readinessGates").iter().enumerate() {
        let at = at.child("readinessGates").index(i).child("conditionType");
        check::label_name(gate.text("conditionType"), &at, errors);
    }
    scheduling_gates(spec.list("schedulingGates"), &at.child("schedulingGates"), errors);
    let constraints = spec.list("topologySpreadConstraints");
    scheduling::spread(constraints, &at.child("topologySpreadConstraints"), errors);
    windows::host_process(spec, at, errors);
    host_users(spec, options, at, errors);
    hostname_override(spec, at, errors);
    names_of_things(spec, options, at, errors);
    windows::os(spec, at, errors);
    if spec.at("schedulingGroup").is_object() {
        let at = at.child("schedulingGroup").child("podGroupName");
        match spec.at("schedulingGroup").at("podGroupName").as_str() {
            None => errors.invalid(&at, Value::Null, "must specify one of: `podGroupName`"),
            Some(name) => errors.each(&at, name, names::subdomain_name(name, false)),
        }
    }
    env::file_volumes(spec, at, errors);
}

fn host_network_ports(spec: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    if spec.flag("hostNetwork") != Some(true) {
        return;
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        for (j, port) in container.list("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or(0);
            let same = host == port.int("containerPort").unwrap_or(0);
            if (options.pod || host != 0) && !same {
                let at = at.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.invalid(&at, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

/// `restartPolicy` and `dnsPolicy`.
fn choices(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let choices = [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        ("dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"][..]),
    ];
    for (field, supported) in choices {
        match spec.text(field) {
            "" => errors.required(&at.child(field), ""),
            value => errors.one_of(&at.child(field), value, supported),
        }
    }
}

fn dns(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let config = spec.at("dnsConfig");
    let servers = config.list("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if !config.is_object() {
            return errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&at.child("nameservers"), detail);
        }
    }
    if servers.len() > 3 {
        errors.invalid(&at.child("nameservers"), servers.to_vec(), "must not have more than 3 nameservers");
    }
    for (i, server) in servers.iter().enumerate() {
        ip::legacy(&at.child("nameservers").index(i), server.as_str().unwrap_or(""), &[], errors);
    }
    let searches: Vec<&str> = config.list("searches").iter().filter_map(Value::as_str).collect();
    let searches_at = at.child("searches");
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.invalid(&searches_at, searches.iter().map(|s| Value::from(*s)).collect::<Vec<_>>(), detail);
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&searches_at, searches.iter().map(|s| Value::from(*s)).collect::<Vec<_>>(), detail);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| **s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.each(&searches_at.index(i), search, names::dns1123_subdomain_with_underscore(search));
    }
    for (i, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&at.child("options").index(i), "must not be empty");
        }
    }
}

fn scheduling_gates(gates: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, gate) in gates.iter().enumerate() {
        let at = at.index(i);
        let name = gate.text("name");
        check::label_name(name, &at, errors);
        if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
    }
}

fn host_users(spec: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    if spec.flag("hostUsers") != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        let allowed = field == "hostNetwork" && options.user_namespaces_host_network;
        if spec.flag(field) == Some(true) && !allowed {
            errors.forbidden(&at.child(shown), detail);
        }
    }
    each_container(spec, at, |container, at| {
        if !container.list("volumeDevices").is_empty() {
            errors.forbidden(&at.child("volumeDevices"), detail);
        }
    });
}

fn hostname_override(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(name) = spec.at("hostnameOverride").as_str() else { return };
    let at = at.child("hostnameOverride");
    if spec.flag("setHostnameAsFQDN") == Some(true) {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.flag("hostNetwork") == Some(true) {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&at, 64);
    }
    errors.each(&at, name, names::dns1123_subdomain(name));
}

/// References by name, and what little else is left.
fn names_of_things(spec: &Value, options: Options, at: &Path, errors: &mut ErrorList) {
    let named = |field: &str, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList| {
        let name = spec.text(field);
        if !name.is_empty() {
            errors.each(&at.child(field), name, rule(name));
        }
    };
    named("serviceAccountName", names::dns1123_subdomain, errors);
    named("nodeName", names::dns1123_subdomain, errors);
    if let Some(seconds) = spec.int("activeDeadlineSeconds") {
        let messages = names::in_range(seconds, 1, i64::from(i32::MAX));
        errors.each(&at.child("activeDeadlineSeconds"), seconds, messages);
    }
    named("hostname", names::dns1123_label, errors);
    named("subdomain", names::dns1123_label, errors);
    let tolerations = spec.list("tolerations");
    scheduling::tolerations(tolerations, options.lt_gt_tolerations, &at.child("tolerations"), errors);
    for (i, alias) in spec.list("hostAliases").iter().enumerate() {
        let at = at.child("hostAliases").index(i);
        ip::legacy(&at.child("ip"), alias.text("ip"), &[], errors);
        for (j, name) in alias.list("hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or("");
            errors.each(&at.child("hostnames").index(j), name, names::dns1123_subdomain(name));
        }
    }
    named("priorityClassName", names::dns1123_subdomain, errors);
    if let Some(name) = spec.at("runtimeClassName").as_str() {
        errors.each(&at.child("runtimeClassName"), name, names::dns1123_subdomain(name));
    }
    if let Some(policy) = spec.at("preemptionPolicy").as_str() {
        match policy {
            "" => errors.required(&at.child("preemptionPolicy"), ""),
            _ => errors.one_of(&at.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]),
        }
    }
    if spec.has("overhead") {
        let limits = serde_json::json!({"limits": spec.at("overhead")});
        requirements::container(&limits, &[], &at.child("overhead"), errors);
    }
}
