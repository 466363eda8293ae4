//! apiextensions.k8s.io.
//!
//! What a definition may say is checked in upstream's order: [`spec`] (names, versions, conversion), [`version`] (what
//! belongs to one version), [`schema`] (a version's OpenAPI schema), which first asks [`structural`] and [`defaults`].
//! [`lax`] says what an update need not put right. Upstream checks an internal form in which whatever is the same in all
//! versions stands at the top, so that is where its errors point; [`version::Common`] finds out what that is.

mod approval;
mod cost;
pub(crate) mod customresourcedefinition;
mod defaults;
mod fieldpath;
mod lax;
mod rules;
mod schema;
mod shown;
mod spec;
mod structural;
mod version;

pub use approval::{Approval, is_protected, state as approval};
pub use fieldpath::{FoundField, field_path};
pub use rules::{Findings, Rules};
