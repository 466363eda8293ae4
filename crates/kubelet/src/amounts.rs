//! Requests and limits in the kernel's terms: CPU shares, CPU quota, bytes.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use crate::quantity::{milli_of, value_of};

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// The period over which a CPU quota counts, in microseconds.
pub const CPU_PERIOD: i64 = 100_000;
/// No quota is set below this many microseconds.
const MIN_QUOTA: i64 = 1000;

/// Kernel-side amounts of a container or pod. Zero: not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Amounts {
    pub cpu_shares: i64,
    pub cpu_quota: i64,
    pub memory: i64,
}

/// CPU shares (1024 for a core) of a request in millicores.
pub fn shares_of_milli(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// Millicores of CPU shares, rounded up as upstream does.
pub fn milli_of_shares(shares: i64) -> i64 {
    (shares * 1000 + 1023) / 1024
}

/// Microseconds per [`CPU_PERIOD`] of a limit in millicores; 0 for none.
pub fn quota_of_milli(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

pub fn milli_of_quota(quota: i64) -> i64 {
    quota * 1000 / CPU_PERIOD
}

impl Amounts {
    /// What a container's resources come to. A missing CPU request follows the limit.
    pub fn of(resources: Option<&ResourceRequirements>) -> Self {
        let limits = resources.and_then(|r| r.limits.as_ref());
        let requests = resources.and_then(|r| r.requests.as_ref());
        let limit = milli_of(limits, "cpu").unwrap_or(0);
        Amounts {
            cpu_shares: shares_of_milli(milli_of(requests, "cpu").unwrap_or(limit)),
            cpu_quota: quota_of_milli(limit),
            memory: value_of(limits, "memory").unwrap_or(0),
        }
    }
}

/// How a container is to take a change of one resource: without (`false`) or with (`true`) a restart.
pub fn needs_restart(container: &Container, resource: &str) -> bool {
    container
        .resize_policy
        .iter()
        .flatten()
        .any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kernel_terms() {
        for (resources, shares, quota, memory) in [
            (json!({}), 2, 0, 0),
            (json!({"limits": {"cpu": "1", "memory": "64Mi"}}), 1024, 100_000, 64 << 20),
            (json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}}), 256, 50_000, 0),
            (json!({"limits": {"cpu": "1m"}}), 2, 1000, 0),
        ] {
            let parsed: ResourceRequirements = serde_json::from_value(resources).unwrap();
            assert_eq!(Amounts::of(Some(&parsed)), Amounts { cpu_shares: shares, cpu_quota: quota, memory });
        }
        assert_eq!(milli_of_shares(shares_of_milli(250)), 250);
    }
}
