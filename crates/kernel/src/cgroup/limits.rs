//! Limits of a cgroup, given in v1 terms as CRI and OCI do, written in the terms of the hierarchy.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Cgroup, CgroupError, failed};

/// `None` (and empty) leaves a value as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// CPU time per period in microseconds; -1: no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// Lists as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes; -1: no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1: no limit.
    pub memory_and_swap: Option<i64>,
    /// Number of tasks; -1: no limit.
    pub pids: Option<i64>,
    pub hugepages: Vec<HugepageLimit>,
    /// v2 files and their contents, written last; ignored on v1.
    pub unified: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepageLimit {
    /// As in file names: `2MB`, `1GB`.
    pub page_size: String,
    pub bytes: u64,
}

/// The v2 weight (1 to 10000) of v1 shares (2 to 262144), by the formula runc has used since 1.3.2 (so
/// that the default 1024 shares are the default weight 100): see opencontainers/cgroups.
pub fn weight_of_shares(shares: u64) -> u64 {
    if shares == 0 {
        return 0;
    }
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

impl Cgroup {
    /// Writes the limits. A controller that is missing is an error only if a limit needs it, except
    /// hugepages of 0 bytes.
    pub fn set(&self, limits: &Limits) -> Result<(), CgroupError> {
        if self.hierarchy().is_unified() { self.set_v2(limits) } else { self.set_v1(limits) }
    }

    fn set_v1(&self, limits: &Limits) -> Result<(), CgroupError> {
        let put = |controller: &str, file: &str, value: String| match self.directory(controller) {
            Some(dir) => write(&dir.join(file), &value),
            None => Err(missing(controller)),
        };
        if let Some(shares) = limits.cpu_shares.filter(|shares| *shares > 0) {
            put("cpu", "cpu.shares", shares.to_string())?;
        }
        if let Some(period) = limits.cpu_period.filter(|period| *period > 0) {
            put("cpu", "cpu.cfs_period_us", period.to_string())?;
        }
        if let Some(quota) = limits.cpu_quota.filter(|quota| *quota != 0) {
            put("cpu", "cpu.cfs_quota_us", quota.to_string())?;
        }
        if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
            put("cpuset", "cpuset.cpus", cpus.clone())?;
        }
        if let Some(mems) = limits.cpuset_mems.as_ref().filter(|mems| !mems.is_empty()) {
            put("cpuset", "cpuset.mems", mems.clone())?;
        }
        if let Some(memory) = limits.memory.filter(|memory| *memory != 0) {
            // memsw may not be below memory: raise it first, or lower it last.
            let memsw = limits.memory_and_swap.filter(|memsw| *memsw != 0);
            let set_memsw = || match memsw {
                Some(memsw) => put("memory", "memory.memsw.limit_in_bytes", memsw.to_string()),
                None => Ok(()),
            };
            let set_memory = || put("memory", "memory.limit_in_bytes", memory.to_string());
            if set_memory().is_err() {
                ignore_missing(set_memsw())?;
                set_memory()?;
            } else {
                ignore_missing(set_memsw())?;
            }
        }
        if let Some(pids) = limits.pids.filter(|pids| *pids != 0) {
            put("pids", "pids.max", max_or(pids))?;
        }
        for limit in &limits.hugepages {
            let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
            tolerate_zero(limit, put("hugetlb", &file, limit.bytes.to_string()))?;
        }
        Ok(())
    }

    fn set_v2(&self, limits: &Limits) -> Result<(), CgroupError> {
        let Some(dir) = self.directory("") else { return Err(missing("cgroup2")) };
        let put = |file: &str, value: String| write(&dir.join(file), &value);
        if let Some(shares) = limits.cpu_shares.filter(|shares| *shares > 0) {
            put("cpu.weight", weight_of_shares(shares).to_string())?;
        }
        match (limits.cpu_quota.filter(|quota| *quota != 0), limits.cpu_period.filter(|period| *period > 0)) {
            (None, None) => {}
            (quota, period) => {
                let quota =
                    quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
                put("cpu.max", format!("{quota} {}", period.unwrap_or(100_000)))?;
            }
        }
        if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
            put("cpuset.cpus", cpus.clone())?;
        }
        if let Some(mems) = limits.cpuset_mems.as_ref().filter(|mems| !mems.is_empty()) {
            put("cpuset.mems", mems.clone())?;
        }
        if let Some(memory) = limits.memory.filter(|memory| *memory != 0) {
            if let Some(both) = limits.memory_and_swap.filter(|both| *both != 0) {
                let swap = if both < 0 { -1 } else { (both - memory.max(0)).max(0) };
                ignore_missing(put("memory.swap.max", max_or(swap)))?;
            }
            put("memory.max", max_or(memory))?;
        }
        if let Some(pids) = limits.pids.filter(|pids| *pids != 0) {
            put("pids.max", max_or(pids))?;
        }
        for limit in &limits.hugepages {
            tolerate_zero(limit, put(&format!("hugetlb.{}.max", limit.page_size), limit.bytes.to_string()))?;
        }
        for (file, value) in &limits.unified {
            if file.contains('/') {
                return Err(failed(Path::new(file))(io::ErrorKind::InvalidInput.into()));
            }
            put(file, value.clone())?;
        }
        Ok(())
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    std::fs::write(path, value).map_err(failed(path))
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn missing(controller: &str) -> CgroupError {
    let source = io::Error::new(io::ErrorKind::NotFound, "controller not available");
    CgroupError::Io { path: controller.into(), source }
}

/// Swap accounting is off on many machines.
fn ignore_missing(result: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match result {
        Err(CgroupError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn tolerate_zero(limit: &HugepageLimit, result: Result<(), CgroupError>) -> Result<(), CgroupError> {
    if limit.bytes == 0 { ignore_missing(result) } else { result }
}

#[cfg(test)]
mod tests {
    use super::weight_of_shares;

    #[test]
    fn shares_to_weight() {
        for (shares, weight) in [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (500_000, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!((1..262_144).is_sorted_by_key(weight_of_shares));
    }
}
