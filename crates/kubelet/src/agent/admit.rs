//! Whether this node takes a pod: enough room, the right labels, no taint against it.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use std::collections::BTreeMap;

use super::Agent;
use super::dispatch::active;
use crate::pod::{PodExt, SpecExt, is_critical, is_sidecar};
use crate::quantity::{ResourceList, add, nano};
use client::Key;

/// (reason, message) of a refusal.
pub type Refusal = (String, String);

impl Agent {
    pub(super) fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let others: Vec<_> = active(&self.entries()).into_iter().filter(|p| p.uid() != pod.uid()).collect();
        let node = self.node.get(&Key::cluster(&self.config.node_name));
        let labels = node.as_ref().and_then(|n| n.metadata.labels.clone());
        let pressure = self.pressure();
        if pressure.memory || pressure.disk || pressure.pids {
            let best_effort = crate::qos::of_pod(pod) == crate::qos::Qos::BestEffort;
            let only_memory = pressure.memory && !pressure.disk && !pressure.pids;
            if !is_critical(pod) && (!only_memory || best_effort) {
                let kinds = [
                    ("MemoryPressure", pressure.memory),
                    ("DiskPressure", pressure.disk),
                    ("PIDPressure", pressure.pids),
                ];
                let names: Vec<&str> = kinds.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
                let message = format!("The node had condition: [{}]. ", names.join(" "));
                return Err(("Evicted".into(), message));
            }
        }
        fits(pod, others.iter().map(|p| &**p), &self.facts.allocatable)?;
        matches_node(pod, labels.as_ref(), node.as_deref())?;
        free_ports(pod, others.iter().map(|p| &**p))
    }
}

/// The host ports of a pod: protocol, address ("0.0.0.0": all) and port.
fn host_ports(pod: &Pod) -> impl Iterator<Item = (&str, &str, i32)> {
    let spec = pod.spec();
    let sidecars = spec.init_containers().iter().filter(|c| is_sidecar(c));
    spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|n| *n > 0)?;
        let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
        Some((port.protocol.as_deref().unwrap_or("TCP"), ip, number))
    })
}

fn free_ports<'a>(pod: &Pod, mut others: impl Iterator<Item = &'a Pod>) -> Result<(), Refusal> {
    let wanted: Vec<_> = host_ports(pod).collect();
    let clash = |(protocol, ip, port): (&str, &str, i32)| {
        wanted
            .iter()
            .any(|(p, i, n)| *p == protocol && *n == port && (*i == ip || *i == "0.0.0.0" || ip == "0.0.0.0"))
    };
    if !wanted.is_empty() && others.any(|other| host_ports(other).any(clash)) {
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(("NodePorts".into(), message.into()));
    }
    Ok(())
}

/// What a pod asks for, in units of 10⁻⁹: the most that is needed at once, with overhead.
pub fn requests(pod: &Pod) -> BTreeMap<String, i128> {
    let spec = pod.spec();
    let of =
        |c: &k8s_openapi::api::core::v1::Container| c.resources.as_ref().and_then(|r| r.requests.clone());
    let mut total = BTreeMap::new();
    for c in &spec.containers {
        add(&mut total, of(c).as_ref());
    }
    let mut sidecars = BTreeMap::new();
    let mut init_most: BTreeMap<String, i128> = BTreeMap::new();
    for c in spec.init_containers() {
        let mut now = sidecars.clone();
        add(&mut now, of(c).as_ref());
        if is_sidecar(c) {
            sidecars = now.clone();
            add(&mut total, of(c).as_ref());
        }
        for (name, amount) in now {
            let most = init_most.entry(name).or_default();
            *most = (*most).max(amount);
        }
    }
    for (name, amount) in init_most {
        let sum = total.entry(name).or_default();
        *sum = (*sum).max(amount);
    }
    if let Some(own) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        for (name, amount) in own {
            total.insert(name.clone(), nano(&amount.0).unwrap_or(0));
        }
    }
    add(&mut total, spec.overhead.as_ref());
    total
}

fn fits<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &ResourceList,
) -> Result<(), Refusal> {
    const ONE: i128 = 1_000_000_000;
    let mut used: BTreeMap<String, i128> = BTreeMap::new();
    let mut count = 0;
    for other in others {
        count += 1;
        for (name, amount) in requests(other) {
            *used.entry(name).or_default() += amount;
        }
    }
    let mut wanted = requests(pod);
    wanted.insert("pods".into(), ONE);
    used.insert("pods".into(), count * ONE);
    for (name, amount) in &wanted {
        let capacity = allocatable.get(name).and_then(|q| nano(&q.0));
        // Extended resources that the node does not have at all are the scheduler's affair.
        let Some(capacity) = capacity.or((!name.contains('/')).then_some(0)) else { continue };
        let taken = used.get(name).copied().unwrap_or(0);
        if *amount > 0 && taken + amount > capacity {
            let unit = if name == "cpu" { ONE / 1000 } else { ONE };
            return Err((
                format!("OutOf{name}"),
                format!(
                    "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                    amount / unit,
                    taken / unit,
                    capacity / unit
                ),
            ));
        }
    }
    Ok(())
}

fn matches_node(
    pod: &Pod,
    labels: Option<&BTreeMap<String, String>>,
    node: Option<&Node>,
) -> Result<(), Refusal> {
    let Some(labels) = labels else { return Ok(()) };
    let refused = |reason: &str, message: &str| Err((reason.to_owned(), message.to_owned()));
    if let Some(selector) = &pod.spec().node_selector
        && selector.iter().any(|(k, v)| labels.get(k) != Some(v))
    {
        return refused(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    let untolerated = node
        .and_then(|n| n.spec.as_ref())
        .iter()
        .flat_map(|s| s.taints.iter().flatten())
        .filter(|t| t.effect == "NoExecute")
        .any(|taint| !pod.spec().tolerations.iter().flatten().any(|t| tolerates(t, taint)));
    if untolerated && !pod.is_static() {
        return refused(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
    }
    Ok(())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => value == taint.value.as_deref().unwrap_or_default(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn room() {
        let list: ResourceList =
            [("cpu", "2"), ("pods", "2")].map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into();
        let one = pod(json!({"containers": [asks("1")]}));
        let two = pod(json!({"containers": [asks("1500m")]}));
        assert!(fits(&two, [].into_iter(), &list).is_ok());
        let (reason, message) = fits(&two, [&one].into_iter(), &list).unwrap_err();
        assert_eq!(reason, "OutOfcpu");
        assert_eq!(
            message,
            "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
        );
        let none = pod(json!({"containers": []}));
        assert_eq!(fits(&none, [&none, &none].into_iter(), &list).unwrap_err().0, "OutOfpods");
    }

    #[test]
    fn host_ports_are_taken_once() {
        let with = |ip: &str, protocol: &str| {
            let port = json!({"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol});
            pod(json!({"containers": [{"name": "c", "ports": [port]}]}))
        };
        let all = with("", "TCP");
        let check = |ip, protocol, fits| {
            assert_eq!(free_ports(&with(ip, protocol), [&all].into_iter()).is_ok(), fits, "{ip} {protocol}");
        };
        check("", "TCP", false);
        check("10.0.0.1", "TCP", false);
        check("", "UDP", true);
        assert!(free_ports(&with("10.0.0.1", "TCP"), [&with("10.0.0.2", "TCP")].into_iter()).is_ok());
        let none = pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}));
        assert!(free_ports(&none, [&all].into_iter()).is_ok());
    }

    #[test]
    fn what_is_needed_at_once() {
        let p = pod(json!({
            "initContainers": [asks("3"), {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}, asks("1")],
            "containers": [asks("1")], "overhead": {"cpu": "500m"}}));
        assert_eq!(requests(&p)["cpu"], 3_500_000_000);
        let p = pod(json!({
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}, asks("3")],
            "containers": [asks("1")]}));
        assert_eq!(requests(&p)["cpu"], 4_000_000_000);
    }

    #[test]
    fn labels_and_taints() {
        let labels = [("a".to_owned(), "1".to_owned())].into();
        let node: Node =
            serde_json::from_value(json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}))
                .unwrap();
        let check = |spec: serde_json::Value| {
            matches_node(&pod(spec), Some(&labels), Some(&node)).map_err(|(r, _)| r)
        };
        assert_eq!(check(json!({"containers": [], "nodeSelector": {"a": "2"}})), Err("NodeAffinity".into()));
        assert_eq!(check(json!({"containers": []})), Err("TaintToleration".into()));
        let ok =
            json!({"containers": [], "nodeSelector": {"a": "1"}, "tolerations": [{"operator": "Exists"}]});
        assert_eq!(check(ok), Ok(()));
    }
}
