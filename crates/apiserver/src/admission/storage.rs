//! StorageObjectInUseProtection (with the like for PodGroups) and DefaultStorageClass.

use futures_util::FutureExt;
use machinery::quantity::Quantity;
use machinery::{Get, Status, Value, json, meta};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static IN_USE: Plugin = Plugin {
    name: "StorageObjectInUseProtection",
    mutate: Some(|_, attributes| async move { protect(attributes) }.boxed()),
    validate: None,
};

pub static DEFAULT_CLASS: Plugin = Plugin {
    name: "DefaultStorageClass",
    mutate: Some(|call, attributes| async move { default_class(call, attributes) }.boxed()),
    validate: None,
};

pub static RESIZE: Plugin = Plugin {
    name: "PersistentVolumeClaimResize",
    mutate: None,
    validate: Some(|call, attributes| async move { resize(call, attributes) }.boxed()),
};

/// (group, resource, the finalizer that its controller takes off when nothing uses the object)
const PROTECTED: &[(&str, &str, &str)] = &[
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
    ("scheduling.k8s.io", "podgroups", "scheduling.k8s.io/podgroup-protection"),
];

fn protect(a: &mut Attributes) -> Result<(), Status> {
    if a.operation != Operation::Create {
        return Ok(());
    }
    let Some((.., finalizer)) = PROTECTED.iter().find(|(g, r, _)| a.is(g, r)) else { return Ok(()) };
    let Some(object) = &mut a.object else { return Ok(()) };
    if meta::finalizers(object).any(|f| f == *finalizer) {
        return Ok(());
    }
    let mut list = object.at("metadata").list("finalizers").to_vec();
    list.push((*finalizer).into());
    object.child("metadata").set("finalizers", list);
    Ok(())
}

/// The newest object with an annotation that makes it the default; by name among those of the same age.
pub fn default_of(call: &Call, group: &str, resource: &str, annotations: &[&str]) -> Option<Value> {
    let home = call.core.kinds.now().preferred(group, resource)?.home.clone()?;
    let (snapshot, _) = home.cache.snapshot();
    let is_default = |o: &Value| {
        annotations
            .iter()
            .any(|a| meta::annotations(o).and_then(|m| m.get(*a)).and_then(Value::as_str) == Some("true"))
    };
    let mut all: Vec<Value> = snapshot.values().map(|e| e.parse()).filter(is_default).collect();
    all.sort_by(|a, b| {
        let age = |o: &Value| o.at("metadata").text("creationTimestamp").to_owned();
        age(b).cmp(&age(a)).then_with(|| meta::name(a).cmp(meta::name(b)))
    });
    all.into_iter().next()
}

fn default_class(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "persistentvolumeclaims") || a.operation != Operation::Create {
        return Ok(());
    }
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let Some(claim) = &mut a.object else { return Ok(()) };
    let old = "volume.beta.kubernetes.io/storage-class";
    if claim.at("spec").has("storageClassName")
        || meta::annotations(claim).is_some_and(|m| m.contains_key(old))
    {
        return Ok(());
    }
    if let Some(class) = default_of(call, "storage.k8s.io", "storageclasses", &annotations) {
        claim.child("spec").set("storageClassName", json!(meta::name(&class)));
    }
    Ok(())
}

/// A claim may grow only while it is bound, and only if its class says so.
fn resize(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if !a.is("", "persistentvolumeclaims") || a.operation != Operation::Update {
        return Ok(());
    }
    let (new, old) = (a.object(), a.old());
    let size = |claim: &Value| Quantity::of(claim.at("spec").at("resources").at("requests").at("storage"));
    if !size(new).compare(&size(old)).is_gt() {
        return Ok(());
    }
    if old.at("status").text("phase") != "Bound" {
        return Err(forbidden(a, "Only bound persistent volume claims can be expanded"));
    }
    let class = |claim: &Value| {
        let annotation =
            meta::annotations(claim).and_then(|m| m.get("volume.beta.kubernetes.io/storage-class"));
        let named = annotation.and_then(Value::as_str).unwrap_or_default();
        if named.is_empty() { claim.at("spec").text("storageClassName").to_owned() } else { named.to_owned() }
    };
    let name = class(new);
    let allows = !name.is_empty()
        && name == class(old)
        && cached(call, "storage.k8s.io", "storageclasses", &name)
            .is_some_and(|c| c.flag("allowVolumeExpansion") == Some(true));
    if allows {
        return Ok(());
    }
    Err(forbidden(
        a,
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
