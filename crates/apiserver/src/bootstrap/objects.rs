//! Priority classes, the `kubernetes` Service and where it leads, and what extension servers are told.

use std::net::IpAddr;

use machinery::{Value, json};

use crate::server::Core;

/// Objects that are made if they are not there.
pub fn all(core: &Core) -> Vec<(&'static str, &'static str, Value)> {
    let priority = |name: &str, value: i64, text: &str| {
        let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": text});
        ("scheduling.k8s.io", "priorityclasses", object)
    };
    let mut out = vec![
        priority(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        priority(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    let cidrs = json!(core.config.service_cidrs);
    out.push((
        "networking.k8s.io",
        "servicecidrs",
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}),
    ));
    let mut data = machinery::Map::new();
    if let Some(ca) = &core.config.client_ca_pem {
        data.insert("client-ca-file".into(), ca.as_str().into());
    }
    if let Some(ca) = &core.config.front_proxy_ca_pem {
        let list = |items: &[&str]| Value::from(json!(items).to_string());
        let names: Vec<&str> = core.config.front_proxy_names.iter().map(String::as_str).collect();
        data.insert("requestheader-client-ca-file".into(), ca.as_str().into());
        data.insert("requestheader-allowed-names".into(), list(&names));
        data.insert("requestheader-username-headers".into(), list(&["X-Remote-User"]));
        data.insert("requestheader-group-headers".into(), list(&["X-Remote-Group"]));
        data.insert("requestheader-extra-headers-prefix".into(), list(&["X-Remote-Extra-"]));
        data.insert("requestheader-uid-headers".into(), list(&["X-Remote-Uid"]));
    }
    out.push((
        "",
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}}),
    ));
    out.push(("", "services", kubernetes_service(core)));
    out
}

fn kubernetes_service(core: &Core) -> Value {
    let first = crate::subresource::services::first_address(&core.config);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": first, "sessionAffinity": "None",
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": core.config.secure_port}]}})
}

/// Where the `kubernetes` Service leads: to these API servers.
pub fn addresses(core: &Core, servers: &[IpAddr]) -> Vec<(&'static str, &'static str, Value)> {
    let port = core.config.secure_port;
    let of = |v4: bool| servers.iter().filter(move |a| a.is_ipv4() == v4).map(IpAddr::to_string);
    // The family of the server that writes, as EndpointSlices have one.
    let v4 = core.config.advertise_address.is_ipv4();
    let (family, own): (_, Vec<String>) = (if v4 { "IPv4" } else { "IPv6" }, of(v4).collect());
    let subset: Vec<Value> = own.iter().map(|ip| json!({"ip": ip})).collect();
    let endpoints: Vec<Value> =
        own.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    vec![
        (
            "",
            "endpoints",
            json!({"apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
                "subsets": [{"addresses": subset,
                    "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]}),
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "endpoints": endpoints,
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}),
        ),
    ]
}
