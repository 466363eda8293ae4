//! What pods, pod templates and everything made of pods share.

use machinery::field::Path;
use machinery::{Get, Value};

pub(crate) mod columns;
mod containers;
pub(crate) mod defaults;
pub(crate) mod disabled;
mod env;
pub(crate) mod handlers;
pub(crate) use handlers::port;
mod paths;
pub(crate) mod plugins;
mod projected;
pub(crate) mod qos;
pub(crate) mod requirements;
pub(crate) mod resources;
pub(crate) mod scheduling;
mod security;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod template;
pub(crate) mod update;
pub(crate) mod volumes;
pub(crate) mod warnings;
mod windows;

/// Visits the containers of all kinds, with their paths, as upstream does: init, regular, ephemeral.
pub(crate) fn each_container(spec: &Value, at: &Path, mut visit: impl FnMut(&Value, &Path)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in spec.list(list).iter().enumerate() {
            visit(container, &at.child(list).index(i));
        }
    }
}
