//! Small plugins that are off unless asked for: AlwaysPullImages, NamespaceExists, NamespaceAutoProvision,
//! DenyServiceExternalIPs.

use futures_util::FutureExt;
use machinery::field::{Error, Path};
use machinery::{Get, Status, Value, json};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static PULL: Plugin = Plugin {
    name: "AlwaysPullImages",
    mutate: Some(|_, attributes| async move { pull(attributes) }.boxed()),
    validate: Some(|_, attributes| async move { pulls(attributes) }.boxed()),
};

pub static EXISTS: Plugin = Plugin {
    name: "NamespaceExists",
    mutate: None,
    validate: Some(|call, attributes| async move { exists(call, attributes) }.boxed()),
};

pub static PROVISION: Plugin = Plugin {
    name: "NamespaceAutoProvision",
    mutate: Some(|call, attributes| provision(call, attributes).boxed()),
    validate: None,
};

pub static EXTERNAL_IPS: Plugin = Plugin {
    name: "DenyServiceExternalIPs",
    mutate: None,
    validate: Some(|_, attributes| async move { external_ips(attributes) }.boxed()),
};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Does the write bring images that have not been looked at?
fn brings_images(a: &Attributes) -> bool {
    if !a.is("", "pods") {
        return false;
    }
    let images = |pod: &Value| -> Vec<String> {
        let of = |list: &&str| pod.at("spec").list(list).iter().map(|c| c.text("image").to_owned()).collect();
        CONTAINERS.iter().flat_map(|list| -> Vec<String> { of(list) }).collect()
    };
    match a.operation {
        Operation::Create => true,
        Operation::Update => {
            let known = images(a.old());
            images(a.object()).iter().any(|image| !known.contains(image))
        }
        _ => false,
    }
}

fn pull(a: &mut Attributes) -> Result<(), Status> {
    if !brings_images(a) {
        return Ok(());
    }
    let Some(pod) = &mut a.object else { return Ok(()) };
    let spec = pod.child("spec");
    for list in CONTAINERS {
        for container in spec.list_mut(list) {
            container.set("imagePullPolicy", "Always");
        }
    }
    for volume in spec.list_mut("volumes") {
        if volume.at("image").is_object() {
            volume.child("image").set("pullPolicy", "Always");
        }
    }
    Ok(())
}

fn pulls(a: &Attributes) -> Result<(), Status> {
    if !brings_images(a) {
        return Ok(());
    }
    let spec = a.object().at("spec");
    for list in CONTAINERS {
        for (n, container) in spec.list(list).iter().enumerate() {
            let policy = container.text("imagePullPolicy");
            if policy != "Always" {
                let at = Path::new("spec").child(list).index(n).child("imagePullPolicy");
                return Err(forbidden(a, &Error::not_supported(&at, policy, &["Always"]).to_string()));
            }
        }
    }
    Ok(())
}

fn in_namespace(a: &Attributes) -> bool {
    let is_namespace = a.resource.group.is_empty() && a.resource.name == "namespaces";
    !a.namespace.is_empty() && !is_namespace
}

fn exists(call: &Call, a: &Attributes) -> Result<(), Status> {
    if !in_namespace(a) || cached(call, "", "namespaces", &a.namespace).is_some() {
        return Ok(());
    }
    Err(Status::not_found(&machinery::GroupResource::new("", "namespaces"), &a.namespace))
}

async fn provision(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    let missing = in_namespace(a) && cached(call, "", "namespaces", &a.namespace).is_none();
    if !missing || a.dry_run || a.operation != Operation::Create {
        return Ok(());
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": a.namespace}});
    let made = crate::bootstrap::ensure(&call.core, "", "namespaces", object).await;
    made.map_err(|status| forbidden(a, &status.message))?;
    call.core.fresh().await.map(drop)
}

fn external_ips(a: &Attributes) -> Result<(), Status> {
    if !a.is("", "services") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let (new, old) = (a.object().at("spec").list("externalIPs"), a.old().at("spec").list("externalIPs"));
    if new.iter().all(|ip| old.contains(ip)) {
        return Ok(());
    }
    Err(forbidden(a, "Use of external IPs is denied by admission control"))
}
