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
