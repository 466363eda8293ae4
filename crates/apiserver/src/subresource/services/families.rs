//! Which address families a Service has, inferred from what it says and what the cluster has.
//! <https://kubernetes.io/docs/concepts/services-networking/dual-stack/>

use machinery::{Status, Value, meta};
use resources::service_ips::init_families;

use super::invalid;
use super::pool::Allocators;

/// Fills `ipFamilyPolicy` and `ipFamilies`.
pub fn init(pools: &Allocators, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let errors = init_families(service, old, &pools.families());
    if errors.is_empty() { Ok(()) } else { Err(invalid(meta::name(service), &errors)) }
}
