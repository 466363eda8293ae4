//! What several controllers need.

mod context;
mod discover;
mod hash;
mod nodes;
mod own;
mod percent;
mod podcontrol;
mod pods;
mod revisions;
mod selector;
#[cfg(test)]
pub mod test;

pub use context::{Context, gone, message, nonzero, seen};
pub use discover::{Resource, discover};
pub use hash::{data_hash, template_hash};
pub use nodes::{node_wanted, tolerates};
pub use own::{controller_of, controller_ref, is_controlled_by, owner, owners};
pub use percent::{scaled_down, scaled_up};
pub use podcontrol::PodControl;
pub use pods::*;
pub use revisions::{REVISION_LABEL, Revisions};
pub use selector::{matches, matches_labels};
