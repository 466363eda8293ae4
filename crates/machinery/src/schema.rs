//! What an object of a kind looks like: one [`Schema`] type for the built-in kinds and for custom resources.
//!
//! * Built-in types come from a compact table of text compiled in (`cargo xtask codegen` writes it). Nothing of it is
//!   read before the first use; a type is parsed when first asked for and then stays. Ask by kind ([`of_kind`]) or by
//!   type name ([`of_type`], `core/v1.Pod` or `io.k8s.api.core.v1.Pod`).
//! * Custom resources: [`structural::parse`] makes a [`Schema`] from a CRD's OpenAPI schema; the caller owns it.
//! * Everything that walks objects takes `&Schema` and looks at [`Schema::shape`], which follows references to
//!   built-in types, so both sorts go through the same code.
//! * [`resources`] is the table of the group-versions and resources that the API serves, in upstream's order.
//!
//! In a [`Struct`] the fields stand in wire order, fields of structs that are inline in JSON among them.

mod builtin;
mod node;
pub mod resources;
pub mod structural;
mod walk;

#[cfg(test)]
mod tests;

pub use builtin::{TypeId, kinds, of_kind, of_type};
pub(crate) use builtin::{go_element, go_type};
pub(crate) use node::Wire;
pub use node::{Field, Inline, List, ListType, Map, MapType, Other, Schema, Shape, Struct};
pub use walk::{Zero, apply_defaults, normalize, normalize_unstored, prune, zero};
pub(crate) use walk::{fill, is_empty, zero_of};
