//! Limits of a container that change while it lives.

use kernel::cgroup::Limits;
use prost::Message;

use super::lifecycle::Inner;
use super::state::{Container, Phase};
use crate::cri::{self, Error, v1};
use crate::image::chain;

impl Inner {
    pub fn update_resources(
        &self,
        container: &Container,
        wanted: v1::LinuxContainerResources,
    ) -> cri::Result<()> {
        let mut merged = container.resources();
        merge(&mut merged, &wanted);
        if container.state().phase == Phase::Running {
            let cgroup = self.hierarchy.cgroup(container.state().cgroup.as_str());
            cgroup
                .set(&limits(&wanted))
                .map_err(|error| Error::unknown(format!("failed to update resources: {}", chain(&error))))?;
        } else if container.state().phase == Phase::Exited {
            return Err(Error::unknown(format!("container {:?} is not running", container.id)));
        }
        container
            .update(|state| state.resources = Some(merged.encode_to_vec()))
            .map_err(|error| Error::unknown(error.to_string()))
    }
}

/// Set values replace, unset ones stay.
fn merge(into: &mut v1::LinuxContainerResources, from: &v1::LinuxContainerResources) {
    let number = |into: &mut i64, from: i64| {
        if from != 0 {
            *into = from;
        }
    };
    number(&mut into.cpu_period, from.cpu_period);
    number(&mut into.cpu_quota, from.cpu_quota);
    number(&mut into.cpu_shares, from.cpu_shares);
    number(&mut into.memory_limit_in_bytes, from.memory_limit_in_bytes);
    number(&mut into.memory_swap_limit_in_bytes, from.memory_swap_limit_in_bytes);
    number(&mut into.oom_score_adj, from.oom_score_adj);
    for (into, from) in
        [(&mut into.cpuset_cpus, &from.cpuset_cpus), (&mut into.cpuset_mems, &from.cpuset_mems)]
    {
        if !from.is_empty() {
            into.clone_from(from);
        }
    }
    into.unified.extend(from.unified.clone());
}

pub fn limits(wanted: &v1::LinuxContainerResources) -> Limits {
    let set = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    Limits {
        cpu_shares: positive(wanted.cpu_shares),
        cpu_quota: set(wanted.cpu_quota),
        cpu_period: positive(wanted.cpu_period),
        cpuset_cpus: text(&wanted.cpuset_cpus),
        cpuset_mems: text(&wanted.cpuset_mems),
        memory: set(wanted.memory_limit_in_bytes),
        memory_and_swap: set(wanted.memory_swap_limit_in_bytes),
        pids: None,
        hugepages: Vec::new(),
        unified: wanted.unified.clone(),
    }
}
