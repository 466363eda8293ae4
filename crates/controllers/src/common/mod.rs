//! What several controllers need.

mod context;
mod discover;
mod own;
mod percent;
mod pods;
mod selector;
#[cfg(test)]
pub mod test;

pub use context::{Context, message, nonzero, seen};
pub use discover::{Resource, discover};
pub use own::{controller_of, controller_ref, is_controlled_by};
pub use percent::{scaled_down, scaled_up};
pub use pods::*;
pub use selector::{matches, matches_labels};
