//! Owner references with `controller: true`.

use client::{Change, Key};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The `S` that controls an object, if it is one.
pub fn owner<S: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller_of(meta)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let ours = owner.kind == S::kind(&()) && group == S::group(&());
    ours.then(|| Key::new(meta.namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// The `S`s that a change of what they control concerns: its controller before and after.
pub fn owners<S: Resource<DynamicType = ()>, K: Resource>(
    change: &Change<'_, K>,
) -> impl Iterator<Item = Key> {
    let before_and_after = [change.old, change.new].into_iter().flatten();
    before_and_after.filter_map(|object| owner::<S>(object.meta())).collect::<Vec<_>>().into_iter()
}

/// The reference that makes `owner` the controller and holds up its foreground deletion.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
