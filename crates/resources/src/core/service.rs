//! Services. Their addresses and ports are given out between defaulting and validation: see [`super::service_ips`].

use jiff::Timestamp;
use machinery::field::{ErrorList, Path, go_quote};
use machinery::{Get, Value, json};

use super::service_ips as ips;
use crate::check::{self, Errors};
use crate::columns::{CREATED, NAME, age, labels, name};
use crate::gostruct::{Field, Zero, show};
use crate::objectmeta::keep;
use crate::pod::defaults::text;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, ip, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Service",
    default,
    prepare_create: |svc, _| svc.set("status", json!({"loadBalancer": {}})),
    prepare_update,
    validate: |svc, _| {
        let mut errors = objectmeta::validate(svc, true, names::label_name);
        service(svc, None, &mut errors);
        errors
    },
    validate_update,
    warnings,
    create_on_update: true,
    selectable: &["spec.clusterIP", "spec.type"],
    select: |svc, field| svc.at("spec").text(field.trim_start_matches("spec.")).to_owned(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Type",
        "string",
        "",
        0,
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. \"ClusterIP\" allocates a cluster-internal IP address for load-balancing to endpoints. Endpoints are determined by the selector or if that is not specified, by manual construction of an Endpoints object or EndpointSlice objects. If clusterIP is \"None\", no virtual IP is allocated and the endpoints are published as a set of endpoints rather than a virtual IP. \"NodePort\" builds on ClusterIP and allocates a port on every node which routes to the same endpoints as the clusterIP. \"LoadBalancer\" builds on NodePort and creates an external load-balancer (if supported in the current cloud) which routes to the same endpoints as the clusterIP. \"ExternalName\" aliases this service to the specified externalName. Several other fields do not apply to ExternalName services. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
    ),
    (
        "Cluster-IP",
        "string",
        "",
        0,
        "clusterIP is the IP address of the service and is usually assigned randomly. If an address is specified manually, is in-range (as per system configuration), and is not in use, it will be allocated to the service; otherwise creation of the service will fail. This field may not be changed through updates unless the type field is also being changed to ExternalName (which requires this field to be blank) or the type field is being changed from ExternalName (in which case this field may optionally be specified, as describe above).  Valid values are \"None\", empty string (\"\"), or a valid IP address. Setting this to \"None\" makes a \"headless service\" (no virtual IP), which is useful when direct endpoint connections are preferred and proxying is not required.  Only applies to types ClusterIP, NodePort, and LoadBalancer. If this field is specified when creating a Service of type ExternalName, creation will fail. This field will be wiped when updating a Service to type ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    (
        "External-IP",
        "string",
        "",
        0,
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.  These IPs are not managed by Kubernetes.  The user is responsible for ensuring that traffic arrives at a node with this IP.  A common example is external load-balancers that are not part of the Kubernetes system.",
    ),
    (
        "Port(s)",
        "string",
        "",
        0,
        "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    ("Age", "string", "", 0, CREATED),
    (
        "Selector",
        "string",
        "",
        1,
        "Route service traffic to pods with label keys and values matching this selector. If empty or not present, the service is assumed to have an external process managing its endpoints, which Kubernetes will not modify. Only applies to types ClusterIP, NodePort, and LoadBalancer. Ignored if type is ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/",
    ),
];

fn is(svc: &Value, kind: &str) -> bool {
    svc.at("spec").text("type") == kind
}

fn externally_accessible(svc: &Value) -> bool {
    is(svc, "LoadBalancer")
        || is(svc, "NodePort")
        || (is(svc, "ClusterIP") && !svc.at("spec").list("externalIPs").is_empty())
}

fn needs_health_check(svc: &Value) -> bool {
    is(svc, "LoadBalancer") && svc.at("spec").text("externalTrafficPolicy") == "Local"
}

fn default(svc: &mut Value, _: &Context) {
    let spec = svc.child("spec");
    text(spec, "sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => {
            spec.unset("sessionAffinityConfig");
        }
        "ClientIP" => {
            if !spec.at("sessionAffinityConfig").at("clientIP").has("timeoutSeconds") {
                spec.set("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
            }
        }
        _ => {}
    }
    text(spec, "type", "ClusterIP");
    for port in spec.list_mut("ports") {
        text(port, "protocol", "TCP");
        let target = port.at("targetPort");
        if target.is_null() || target == 0 || target == "" {
            let number = port.int("port").unwrap_or(0);
            port.set("targetPort", number);
        }
    }
    if externally_accessible(svc) {
        text(svc.child("spec"), "externalTrafficPolicy", "Cluster");
    }
    let balanced = is(svc, "LoadBalancer");
    if balanced || is(svc, "NodePort") || is(svc, "ClusterIP") {
        svc.child("spec").set_default("internalTrafficPolicy", "Cluster");
    }
    if balanced {
        svc.child("spec").set_default("allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = svc.child_if("status").and_then(|s| s.child_if("loadBalancer")) {
            for ingress in balancer.list_mut("ingress") {
                if !ingress.text("ip").is_empty() {
                    ingress.set_default("ipMode", "VIP");
                }
            }
        }
    }
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        return keep(new, old, "spec");
    }
    keep(new, old, "status");
    drop_by_type(new, old);
}

/// What only the old type needed goes, if the client left it as it was.
fn drop_by_type(new: &mut Value, old: &Value) {
    let same = |new: &Value, field: &str| check::same(new.at("spec").at(field), old.at("spec").at(field));
    let needs_ip = |svc: &Value| !is(svc, "ExternalName");
    let needs_ports = |svc: &Value| is(svc, "NodePort") || is(svc, "LoadBalancer");
    if needs_ip(old) && !needs_ip(new) {
        if same(new, "clusterIP") && same(new, "clusterIPs") {
            new.child("spec").unset("clusterIP");
            new.child("spec").unset("clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, field) {
                new.child("spec").unset(field);
            }
        }
    }
    if needs_ports(old) && !needs_ports(new) {
        let ports = |svc: &Value| -> Vec<i64> {
            svc.at("spec")
                .list("ports")
                .iter()
                .filter_map(|p| p.int("nodePort").filter(|n| *n != 0))
                .collect()
        };
        let before = ports(old);
        if ports(new).iter().all(|p| before.contains(p)) {
            for port in new.child("spec").list_mut("ports") {
                port.unset("nodePort");
            }
        }
    }
    if needs_health_check(old) && !needs_health_check(new) && same(new, "healthCheckNodePort") {
        new.child("spec").unset("healthCheckNodePort");
    }
    if is(old, "LoadBalancer") && !is(new, "LoadBalancer") {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, field) {
                new.child("spec").unset(field);
            }
        }
    }
    if externally_accessible(old) && !externally_accessible(new) && same(new, "externalTrafficPolicy") {
        new.child("spec").unset("externalTrafficPolicy");
    }
    if !is(new, "LoadBalancer") {
        new.child("status").set("loadBalancer", json!({}));
    }
    if !needs_ip(new) && same(new, "internalTrafficPolicy") {
        new.child("spec").unset("internalTrafficPolicy");
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    if context.subresource == "status" {
        let at = Path::new("status").child("loadBalancer").child("ingress");
        load_balancer_status(new, old, &at, &mut errors);
        return errors;
    }
    ips::cluster_ips_change(new, old, &mut errors);
    ips::families_change(new, old, &mut errors);
    let at = Path::new("spec").child("loadBalancerClass");
    let class = |svc: &Value| svc.at("spec").at("loadBalancerClass").clone();
    if is(old, "LoadBalancer") && is(new, "LoadBalancer") && class(new) != class(old) {
        errors.invalid(&at, class(new), "may not change once set");
    }
    load_balancer_class(new, &at, &mut errors);
    if needs_health_check(old) && needs_health_check(new) {
        let port = |svc: &Value| svc.at("spec").int("healthCheckNodePort").unwrap_or(0);
        if port(new) != port(old) {
            errors.forbidden(&Path::new("spec").child("healthCheckNodePort"), check::IMMUTABLE);
        }
    }
    service(new, Some(old), &mut errors);
    errors
}

fn load_balancer_class(svc: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(class) = svc.at("spec").at("loadBalancerClass").as_str() else { return };
    if is(svc, "LoadBalancer") {
        errors.each(at, class, names::qualified_name(class));
    } else {
        errors.forbidden(at, "may only be used when `type` is 'LoadBalancer'");
    }
}

fn load_balancer_status(new: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    let list = |svc: &Value| svc.at("status").at("loadBalancer").list("ingress").to_vec();
    let ingress = list(new);
    if !is(new, "LoadBalancer") && !ingress.is_empty() {
        return errors.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    let before = list(old);
    let known: Vec<&str> = before.iter().map(|i| i.text("ip")).filter(|i| !i.is_empty()).collect();
    for (i, point) in ingress.iter().enumerate() {
        let at = at.index(i);
        let (address, host) = (point.text("ip"), point.text("hostname"));
        if !address.is_empty() {
            ip::legacy(&at.child("ip"), address, &known, errors);
        }
        match point.at("ipMode").as_str() {
            None if !address.is_empty() => {
                errors.required(&at.child("ipMode"), "must be specified when `ip` is set");
            }
            Some(_) if address.is_empty() => {
                errors.forbidden(&at.child("ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) => errors.one_of(&at.child("ipMode"), mode, &["Proxy", "VIP"]),
            None => {}
        }
        if !host.is_empty() {
            errors.each(&at.child("hostname"), host, names::dns1123_subdomain(host));
            if ip::sloppy(host).is_some() {
                errors.invalid(&at.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn service(svc: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let spec = svc.at("spec");
    let at = Path::new("spec");
    topology_annotations(svc, errors);
    let headless = ips::is_headless(svc);
    let ports = spec.list("ports");
    if ports.is_empty() && !headless && !is(svc, "ExternalName") {
        errors.required(&at.child("ports"), "");
    }
    by_type(svc, headless, &at, errors);
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, &mut seen, &at.child("ports").index(i), errors);
    }
    check::labels(spec.at("selector"), &at.child("selector"), errors);
    affinity(spec, &at, errors);
    ips::related_fields(svc, old, errors);
    external_ips(spec, old, &at.child("externalIPs"), errors);
    match spec.text("type") {
        "" => errors.required(&at.child("type"), ""),
        kind => {
            errors.one_of(
                &at.child("type"),
                kind,
                &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
            );
        }
    }
    unique_ports(svc, &at.child("ports"), errors);
    source_ranges(svc, old, errors);
    if spec.has("allocateLoadBalancerNodePorts") && !is(svc, "LoadBalancer") {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&at.child("allocateLoadBalancerNodePorts"), detail);
    }
    if is(svc, "LoadBalancer") && !spec.has("allocateLoadBalancerNodePorts") {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    load_balancer_class(svc, &at.child("loadBalancerClass"), errors);
    traffic(svc, &at, errors);
}

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

fn topology_annotations(svc: &Value, errors: &mut ErrorList) {
    let annotations = svc.at("metadata").at("annotations");
    if annotations.has(MODE) && annotations.has(HINTS) && annotations.text(MODE) != annotations.text(HINTS) {
        let at = Path::new("metadata").child("annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&at, annotations.text(MODE), detail);
    }
}

fn by_type(svc: &Value, headless: bool, at: &Path, errors: &mut ErrorList) {
    let spec = svc.at("spec");
    match spec.text("type") {
        kind @ ("LoadBalancer" | "NodePort") if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&at.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            for field in ["clusterIPs", "ipFamilies"] {
                if !spec.list(field).is_empty() {
                    errors.forbidden(&at.child(field), detail);
                }
            }
            if spec.has("ipFamilyPolicy") {
                errors.forbidden(&at.child("ipFamilyPolicy"), detail);
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&at.child("externalName"), "");
            } else {
                errors.each(&at.child("externalName"), name, names::dns1123_subdomain(name));
            }
        }
        _ => {}
    }
}

fn service_port<'a>(
    port: &'a Value,
    named: bool,
    seen: &mut Vec<&'a str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let name = port.text("name");
    if !name.is_empty() {
        errors.each(&at.child("name"), name, names::dns1123_label(name));
        if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            seen.push(name);
        }
    } else if named {
        errors.required(&at.child("name"), "");
    }
    let number = port.int("port").unwrap_or(0);
    errors.each(&at.child("port"), number, names::port_number(number));
    protocol(port, at, errors);
    crate::pod::port(port.at("targetPort"), &at.child("targetPort"), errors);
    if let Some(protocol) = port.at("appProtocol").as_str() {
        errors.each(&at.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

/// `protocol` of a port.
pub(super) fn protocol(port: &Value, at: &Path, errors: &mut ErrorList) {
    match port.text("protocol") {
        "" => errors.required(&at.child("protocol"), ""),
        protocol => errors.one_of(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]),
    }
}

fn affinity(spec: &Value, at: &Path, errors: &mut ErrorList) {
    let config = spec.at("sessionAffinityConfig");
    let config_at = at.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "" => errors.required(&at.child("sessionAffinity"), ""),
        "ClientIP" => {
            let missing = "when session affinity type is ClientIP";
            let client_at = config_at.child("clientIP");
            let client = config.at("clientIP");
            if !config.is_object() {
                return errors.required(&config_at, missing);
            }
            if !client.is_object() {
                return errors.required(&client_at, missing);
            }
            let at = client_at.child("timeoutSeconds");
            match client.int("timeoutSeconds") {
                None => errors.required(&at, missing),
                Some(n) if !(1..=86400).contains(&n) => {
                    errors.invalid(&at, n, "must be greater than 0 and less than 86400");
                }
                Some(_) => {}
            }
        }
        "None" => {
            if config.is_object() {
                errors.forbidden(&config_at, "must not be set when session affinity is None");
            }
        }
        other => errors.unsupported(&at.child("sessionAffinity"), other, &["ClientIP", "None"]),
    }
}

fn external_ips(spec: &Value, old: Option<&Value>, at: &Path, errors: &mut ErrorList) {
    let known: Vec<&str> =
        old.map_or(&[][..], |o| o.at("spec").list("externalIPs")).iter().filter_map(Value::as_str).collect();
    for (i, address) in spec.list("externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let before = errors.len();
        ip::legacy(&at.index(i), address, &known, errors);
        if errors.len() == before {
            ip::endpoint(&at.index(i), address, errors);
        }
    }
}

fn unique_ports(svc: &Value, at: &Path, errors: &mut ErrorList) {
    let ports = svc.at("spec").list("ports");
    let node = |p: &Value| p.int("nodePort").unwrap_or(0);
    if is(svc, "ClusterIP") {
        for (i, _) in ports.iter().enumerate().filter(|(_, p)| node(p) != 0) {
            errors.forbidden(&at.index(i).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let protocol = |p: &Value| p.text("protocol").to_owned();
    for (i, port) in ports.iter().enumerate().filter(|(_, p)| node(p) != 0) {
        if ports[..i].iter().any(|p| node(p) == node(port) && protocol(p) == protocol(port)) {
            errors.duplicate(&at.index(i).child("nodePort"), node(port));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &Value| p.int("port") == port.int("port") && protocol(p) == protocol(port);
        if ports[..i].iter().any(same) {
            const PORT: &[Field] = &[
                ("Name", "-", Zero::Text),
                ("Protocol", "protocol", Zero::Text),
                ("AppProtocol", "-", Zero::Null),
                ("Port", "port", Zero::Number),
                ("TargetPort", "-", Zero::Number),
                ("NodePort", "-", Zero::Number),
            ];
            let mut error = machinery::field::Error::duplicate(&at.index(i), Value::Null);
            error.value = None;
            error.detail = show(port, PORT);
            errors.push(error);
        }
    }
}

fn source_ranges(svc: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let ranges = svc.at("spec").list("loadBalancerSourceRanges");
    let detail = "may only be used when `type` is 'LoadBalancer'";
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    if !ranges.is_empty() {
        let at = Path::new("spec").child("LoadBalancerSourceRanges");
        if !is(svc, "LoadBalancer") {
            errors.forbidden(&at, detail);
        }
        let known: Vec<&str> = old
            .map_or(&[][..], |o| o.at("spec").list("loadBalancerSourceRanges"))
            .iter()
            .filter_map(|v| v.as_str().map(str::trim))
            .collect();
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            ip::legacy_cidr(&at.index(i), range.trim(), &known, errors);
        }
        return;
    }
    let annotation = |svc: &Value| svc.at("metadata").at("annotations").at(key).as_str().map(str::to_owned);
    if let Some(value) = annotation(svc) {
        let at = Path::new("metadata").child("annotations").key(key);
        if !is(svc, "LoadBalancer") {
            errors.forbidden(&at, detail);
        }
        if old.and_then(annotation).as_ref() != Some(&value) && !value.trim().is_empty() {
            for range in value.split(',') {
                ip::legacy_cidr(&at, range.trim(), &[], errors);
            }
        }
    }
}

fn traffic(svc: &Value, at: &Path, errors: &mut ErrorList) {
    let spec = svc.at("spec");
    let policy = spec.text("externalTrafficPolicy");
    let policy_at = at.child("externalTrafficPolicy");
    match (externally_accessible(svc), policy) {
        (false, "") => {}
        (false, _) => {
            errors.invalid(&policy_at, policy, "may only be set for externally-accessible services");
        }
        (true, "") => errors.required(&policy_at, ""),
        (true, _) => errors.one_of(&policy_at, policy, &["Cluster", "Local"]),
    }
    let port = spec.int("healthCheckNodePort").unwrap_or(0);
    let port_at = at.child("healthCheckNodePort");
    match (needs_health_check(svc), port) {
        (false, 0) => {}
        (false, _) => {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&port_at, port, detail);
        }
        (true, 0) => errors.required(&port_at, ""),
        (true, _) => errors.each(&port_at, port, names::port_number(port)),
    }
    let internal_at = at.child("internalTrafficPolicy");
    match spec.at("internalTrafficPolicy").as_str() {
        None if ["NodePort", "LoadBalancer", "ClusterIP"].iter().any(|t| is(svc, t)) => {
            errors.required(&internal_at, "");
        }
        Some(policy) => errors.one_of(&internal_at, policy, &["Cluster", "Local"]),
        None => {}
    }
    if let Some(distribution) = spec.at("trafficDistribution").as_str() {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.one_of(&at.child("trafficDistribution"), distribution, &supported);
    }
}

fn warnings(svc: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() && context.subresource == "status" {
        let at = Path::new("status").child("loadBalancer").child("ingress");
        for (i, point) in svc.at("status").at("loadBalancer").list("ingress").iter().enumerate() {
            out.extend(ip::warnings(&at.index(i), point.text("ip")));
        }
        return out;
    }
    let spec = svc.at("spec");
    let at = Path::new("spec");
    if svc.at("metadata").at("annotations").has(HINTS) {
        out.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    if !matches!(spec.text("clusterIP"), "" | "None") {
        for (i, address) in spec.list("clusterIPs").iter().filter_map(Value::as_str).enumerate() {
            out.extend(ip::warnings(&at.child("clusterIPs").index(i), address));
        }
    }
    let external = spec.list("externalIPs");
    let headless = is(svc, "ClusterIP") && spec.text("clusterIP") == "None";
    if headless {
        if !spec.text("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if spec.text("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    for (i, address) in external.iter().filter_map(Value::as_str).enumerate() {
        out.extend(ip::warnings(&at.child("externalIPs").index(i), address));
    }
    if !external.is_empty() && !headless && !is(svc, "ExternalName") {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    let balancer = spec.text("loadBalancerIP");
    if !balancer.is_empty() {
        out.extend(ip::warnings(&at.child("loadBalancerIP"), balancer));
    }
    for (i, range) in spec.list("loadBalancerSourceRanges").iter().filter_map(Value::as_str).enumerate() {
        out.extend(ip::cidr_warnings(&at.child("loadBalancerSourceRanges").index(i), range));
    }
    if is(svc, "ExternalName") && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !is(svc, "ExternalName") && !spec.text("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        let (old, new) = (go_quote("PreferClose"), go_quote("PreferSameZone"));
        out.push(format!("spec.trafficDistribution: {old} is deprecated; use {new}"));
    }
    out
}

fn cells(svc: &Value, now: Timestamp) -> Vec<Value> {
    let spec = svc.at("spec");
    let cluster = spec.list("clusterIPs").first().and_then(Value::as_str).unwrap_or("<none>");
    let ports: Vec<String> = spec
        .list("ports")
        .iter()
        .map(|p| {
            let (port, protocol) = (p.int("port").unwrap_or(0), p.text("protocol"));
            match p.int("nodePort").unwrap_or(0) {
                n if n > 0 => format!("{port}:{n}/{protocol}"),
                _ => format!("{port}/{protocol}"),
            }
        })
        .collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    vec![
        name(svc),
        spec.text("type").into(),
        cluster.into(),
        external_ip(svc).into(),
        ports.into(),
        age(svc, now),
        labels(spec.at("selector")).into(),
    ]
}

/// Addresses of a load balancer, sorted.
pub(crate) fn balancer_addresses(status: &Value) -> Vec<&str> {
    let mut out: Vec<&str> = status
        .at("loadBalancer")
        .list("ingress")
        .iter()
        .map(|i| if i.text("ip").is_empty() { i.text("hostname") } else { i.text("ip") })
        .filter(|a| !a.is_empty())
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn external_ip(svc: &Value) -> String {
    let spec = svc.at("spec");
    let external: Vec<&str> = spec.list("externalIPs").iter().filter_map(Value::as_str).collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut all = balancer_addresses(svc.at("status"));
            all.extend(external);
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => spec.text("externalName").into(),
        _ => "<unknown>".into(),
    }
}
