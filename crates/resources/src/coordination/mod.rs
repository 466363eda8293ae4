//! `coordination.k8s.io`: leases.

use machinery::field::{ErrorList, Path};

use crate::check::Errors;
use crate::names;

pub(crate) mod lease;
pub(crate) mod leasecandidate;

/// Upstream's path says `strategy` twice.
fn election(strategy: &str, at: &Path, errors: &mut ErrorList) {
    let at = at.child("strategy");
    if strategy.contains('/') {
        errors.each(&at, strategy, names::qualified_name(strategy));
    } else {
        errors.one_of(&at, strategy, &["OldestEmulationVersion"]);
    }
}
