//! Who owns which field: server-side apply and `metadata.managedFields`, as `k8s.io/apimachinery/pkg/util/managedfields`
//! over `structured-merge-diff` does it. <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
//!
//! [`FieldManager`] is the entry: [`FieldManager::update`] after every create, update and (other) patch,
//! [`FieldManager::apply`] for an apply patch. Objects are in the API version of the request and in normal form
//! ([`crate::schema::normalize`]). Entries made at other versions need a [`Convert`].
//!
//! [`Set`] is a set of field paths (`FieldsV1`); [`Filter`] says which fields an operation may own (status and spec
//! apart). [`scale`] maps entries between an object and its scale. Not here: validation, defaulting, storage.

mod compare;
mod manager;
mod managers;
mod merge;
mod node;
pub mod scale;
mod set;
mod walk;

pub use manager::{Convert, ConvertError, Error, FieldManager, OneVersion, Typed, keep_times_if_same};
pub use managers::Conflict;
pub use set::{Element, Filter, Set};

#[cfg(test)]
mod tests;

/// Merges a configuration into an object as server-side apply does, but nobody comes to own anything: what an admission
/// policy's `applyConfiguration` asks for. Atomic lists and objects can't be touched.
/// <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>
///
/// # Errors
/// Upstream's words, without the object.
pub fn merge_unowned(
    schema: &crate::schema::Schema,
    live: &serde_json::Value,
    configuration: &serde_json::Value,
) -> Result<serde_json::Value, String> {
    let node = node::Node::of(schema);
    walk::validate(node, configuration, false)
        .map_err(|wrong| format!("failed to convert patch object to typed object: {}", walk::show(&wrong)))?;
    let mut atomics = Vec::new();
    merge::atomics(node, configuration, "", &mut atomics);
    if !atomics.is_empty() {
        let places = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        ));
    }
    merge::merge(node, live, configuration).map_err(|e| format!("failed to merge patch: {}", walk::show(&e)))
}
