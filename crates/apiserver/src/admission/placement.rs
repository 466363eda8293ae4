//! PodTopologyLabels (a pod bears the zone and region of its node), and three that are off unless asked for:
//! PodNodeSelector, LimitPodHardAntiAffinityTopology and ExtendedResourceToleration.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use machinery::{Get, Map, Status, Value, json, meta};

use super::{Attributes, Operation, Plugin, cached};
use crate::registry::Call;

pub static TOPOLOGY: Plugin = Plugin {
    name: "PodTopologyLabels",
    mutate: Some(|call, attributes| async move { topology(call, attributes) }.boxed()),
    validate: None,
};

pub static SELECTOR: Plugin = Plugin {
    name: "PodNodeSelector",
    mutate: Some(|call, attributes| async move { selector(call, attributes) }.boxed()),
    validate: None,
};

pub static ANTI_AFFINITY: Plugin = Plugin {
    name: "LimitPodHardAntiAffinityTopology",
    mutate: None,
    validate: Some(|_, attributes| async move { anti_affinity(attributes) }.boxed()),
};

pub static EXTENDED: Plugin = Plugin {
    name: "ExtendedResourceToleration",
    mutate: Some(|_, attributes| async move { extended(attributes) }.boxed()),
    validate: None,
};

const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

fn topology(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let pods = a.resource.group.is_empty() && matches!(&*a.resource.name, "pods" | "bindings");
    if !pods || a.operation != Operation::Create {
        return Ok(());
    }
    let object = a.object();
    let node = match a.subresource.as_str() {
        "" if a.resource.name == "pods" => object.at("spec").text("nodeName"),
        "binding" if object.at("target").text("kind") == "Node" => object.at("target").text("name"),
        _ => "",
    };
    if node.is_empty() {
        return Ok(());
    }
    let Some(node) = cached(call, "", "nodes", node) else { return Ok(()) };
    let found = TOPOLOGY_LABELS.iter().filter_map(|key| {
        let value = meta::labels(&node)?.get(*key)?;
        Some(((*key).to_owned(), value.clone()))
    });
    let found: Map<String, Value> = found.collect();
    if let Some(object) = a.object.as_mut().filter(|_| !found.is_empty()) {
        let metadata = object.child("metadata");
        if !metadata.at("labels").is_object() {
            metadata.set("labels", json!({}));
        }
        for (key, value) in found {
            metadata.child("labels").set(&key, value);
        }
    }
    Ok(())
}

fn is_pod_create(a: &Attributes) -> bool {
    a.is("", "pods") && a.operation == Operation::Create
}

/// `a=b,c=d`.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    text.split(',')
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(k, v)| (k.trim(), v.trim()))
        .collect()
}

/// The selector of the namespace by its annotation, else the cluster's by the plugin's configuration; and what the
/// cluster allows in this namespace.
fn selector(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !is_pod_create(a) {
        return Ok(());
    }
    let namespace = cached(call, "", "namespaces", &a.namespace).unwrap_or_default();
    let settings = call.core.admission.settings("PodNodeSelector").at("podNodeSelectorPluginConfig").clone();
    let annotation =
        meta::annotations(&namespace).and_then(|m| m.get("scheduler.alpha.kubernetes.io/node-selector"));
    let wanted = match annotation.and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => settings.text("clusterDefaultNodeSelector").to_owned(),
    };
    let allowed = settings.text(&a.namespace).to_owned();
    let about = a.resource.group_resource();
    let Some(pod) = &mut a.object else { return Ok(()) };
    let name = meta::name(pod).to_owned();
    let refuse = |why: &str| Err(Status::forbidden(&about, &name, why));
    let own = pod.at("spec").at("nodeSelector").clone();
    let conflicts = pairs(&wanted).iter().any(|(k, v)| own.has(k) && own.text(k) != *v);
    if conflicts {
        return refuse("pod node label selector conflicts with its namespace node label selector");
    }
    let mut merged = own.as_object().cloned().unwrap_or_default();
    merged.extend(pairs(&wanted).into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))));
    let allowed = pairs(&allowed);
    let fits =
        |(key, value): (&String, &Value)| allowed.iter().any(|(k, v)| k == key && value.as_str() == Some(v));
    if !allowed.is_empty() && !merged.iter().all(fits) {
        return refuse("pod node label selector labels conflict with its namespace whitelist");
    }
    if !merged.is_empty() {
        pod.child("spec").set("nodeSelector", Value::Object(merged));
    }
    Ok(())
}

fn anti_affinity(a: &Attributes) -> Result<(), Status> {
    const HOSTNAME: &str = "kubernetes.io/hostname";
    if !a.is("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let terms = a
        .object()
        .at("spec")
        .at("affinity")
        .at("podAntiAffinity")
        .list("requiredDuringSchedulingIgnoredDuringExecution");
    let Some(term) = terms.iter().find(|t| t.text("topologyKey") != HOSTNAME) else { return Ok(()) };
    let why = format!(
        "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {} but only key {HOSTNAME} is allowed",
        term.text("topologyKey")
    );
    Err(Status::forbidden(&a.resource.group_resource(), meta::name(a.object()), &why))
}

/// Named with a domain, and not one of Kubernetes'.
fn is_extended(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else { return false };
    !domain.ends_with("kubernetes.io") && !name.starts_with("requests.")
}

fn extended(a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let Some(pod) = &mut a.object else { return Ok(()) };
    let spec = pod.at("spec");
    let mut names: BTreeSet<String> = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for container in spec.list(list) {
            let requests = container.at("resources").map("requests").into_iter().flatten();
            names.extend(requests.map(|(name, _)| name.clone()).filter(|n| is_extended(n)));
        }
    }
    let mut tolerations = spec.list("tolerations").to_vec();
    for name in names {
        let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        let covers = tolerations.iter().any(|t| {
            (t.text("key").is_empty() || t.text("key") == name)
                && t.text("operator") == "Exists"
                && matches!(t.text("effect"), "" | "NoSchedule")
        });
        if !covers {
            tolerations.push(wanted);
        }
    }
    if tolerations.len() > pod.at("spec").list("tolerations").len() {
        pod.child("spec").set("tolerations", tolerations);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources() {
        assert!(is_extended("example.com/gpu"));
        assert!(!is_extended("cpu") && !is_extended("x.kubernetes.io/y"));
        assert_eq!(pairs("a=b, c=d"), [("a", "b"), ("c", "d")]);
    }
}
