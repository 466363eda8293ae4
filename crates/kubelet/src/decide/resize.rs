//! Changes of CPU and memory on running containers (KEP-1287).

use k8s_openapi::api::core::v1::Container;

use super::Plan;
use crate::amounts::{Amounts, needs_restart};
use crate::observed::Container as Seen;

/// A container whose kernel-side amounts are to change while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    pub id: String,
    pub name: String,
    pub from: Amounts,
    pub to: Amounts,
}

/// Adds a change where spec and runtime differ; `true` where the container asks to be restarted for it.
pub(super) fn plan(container: &Container, seen: &Seen, plan: &mut Plan) -> bool {
    let Some(from) = seen.applied else { return false };
    let to = Amounts::of(container.resources.as_ref());
    let cpu = from.cpu_shares != to.cpu_shares || from.cpu_quota != to.cpu_quota;
    let memory = from.memory != to.memory;
    if (cpu && needs_restart(container, "cpu")) || (memory && needs_restart(container, "memory")) {
        return true;
    }
    if cpu || memory {
        plan.resize.push(Resize { id: seen.id.clone(), name: seen.name.clone(), from, to });
    }
    false
}
