//! Variables that name services, as links between containers once did.
//!
//! Source: <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.

use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

const MASTER_NAMESPACE: &str = "default";
const MASTER_SERVICE: &str = "kubernetes";

/// Variables for a pod of `namespace`: always those of `default/kubernetes`, and with `links` those of all services
/// of the namespace that have an address.
pub fn service_env(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let (Some(ns), Some(name)) = (meta.namespace.as_deref(), meta.name.as_deref()) else { continue };
        let has_address = service
            .spec
            .as_ref()
            .and_then(|s| s.cluster_ip.as_deref())
            .is_some_and(|ip| !ip.is_empty() && ip != "None");
        if !has_address {
            continue;
        }
        if ns == namespace && links {
            chosen.insert(name, service);
        } else if ns == MASTER_NAMESPACE && name == MASTER_SERVICE {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut env = BTreeMap::new();
    for (name, service) in chosen {
        add(name, service, &mut env);
    }
    env
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn add(name: &str, service: &Service, env: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref() else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable(name);
    env.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    env.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (i, port) in ports.iter().enumerate() {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            env.insert(format!("{prefix}_SERVICE_PORT_{}", variable(port_name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{}", port.port);
        if i == 0 {
            env.insert(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        env.insert(format!("{port_prefix}_PROTO"), lower);
        env.insert(format!("{port_prefix}_PORT"), port.port.to_string());
        env.insert(format!("{port_prefix}_ADDR"), ip.to_owned());
        env.insert(port_prefix, url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}, {"name": "d-n-s", "port": 53, "protocol": "UDP"}]}
            }))
            .unwrap(),
        )
    }

    #[test]
    fn variables() {
        let all = [
            service("default", "kubernetes", "10.0.0.1"),
            service("x", "my-svc", "10.0.0.2"),
            service("x", "headless", "None"),
            service("y", "other", "10.0.0.3"),
        ];
        let env = service_env(&all, "x", true);
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("MY_SVC_SERVICE_PORT", "80"),
            ("MY_SVC_SERVICE_PORT_D_N_S", "53"),
            ("MY_SVC_PORT", "tcp://10.0.0.2:80"),
            ("MY_SVC_PORT_53_UDP", "udp://10.0.0.2:53"),
            ("MY_SVC_PORT_53_UDP_PROTO", "udp"),
            ("MY_SVC_PORT_53_UDP_ADDR", "10.0.0.2"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.keys().any(|k| k.starts_with("HEADLESS") || k.starts_with("OTHER")));
        let env = service_env(&all, "x", false);
        assert!(env.keys().all(|k| k.starts_with("KUBERNETES")));
    }
}
