//! Persistent volumes: binding claims to volumes, and holding up the deletion of what is in use.

mod binder;
mod claim;
mod pods;
mod protection;
mod terms;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use binder::CONTROLLER as BINDER;
pub(crate) use protection::{
    CLAIMS as CLAIM_PROTECTION, CLASSES as CLASS_PROTECTION, VOLUMES as VOLUME_PROTECTION,
};
