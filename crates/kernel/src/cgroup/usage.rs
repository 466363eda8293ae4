//! What a cgroup uses, in the units of CRI's statistics.

use std::collections::BTreeMap;
use std::path::Path;

use super::Cgroup;

/// Zero where the hierarchy does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since the group was made.
    pub cpu_nanoseconds: u64,
    pub memory_bytes: u64,
    /// Memory less inactive page cache: what the kubelet's eviction and `kubectl top` go by.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// `None`: no limit.
    pub memory_limit: Option<u64>,
    pub swap_bytes: u64,
    /// Tasks.
    pub processes: u64,
    /// Processes the kernel killed because the group was out of memory.
    pub oom_kills: u64,
}

impl Cgroup {
    /// Reads what there is now. A group that is gone reads as zero.
    pub fn usage(&self) -> Usage {
        if self.hierarchy().is_unified() { self.usage_v2() } else { self.usage_v1() }
    }

    fn usage_v1(&self) -> Usage {
        let file = |controller: &str, file: &str| {
            let dir = self.directory(controller)?;
            std::fs::read_to_string(dir.join(file)).ok()
        };
        let number =
            |controller: &str, name: &str| file(controller, name).and_then(|text| text.trim().parse().ok());
        let stat = file("memory", "memory.stat").unwrap_or_default();
        let stat = keyed(&stat);
        let get = |key: &str| stat.get(key).copied().unwrap_or(0);
        let memory: u64 = number("memory", "memory.usage_in_bytes").unwrap_or(0);
        let oom = file("memory", "memory.oom_control").unwrap_or_default();
        let oom = keyed(&oom);
        Usage {
            cpu_nanoseconds: number("cpuacct", "cpuacct.usage").unwrap_or(0),
            memory_bytes: memory,
            working_set_bytes: memory.saturating_sub(get("total_inactive_file")),
            rss_bytes: get("total_rss"),
            page_faults: get("total_pgfault"),
            major_page_faults: get("total_pgmajfault"),
            memory_limit: number("memory", "memory.limit_in_bytes").filter(|limit: &u64| *limit < 1 << 62),
            swap_bytes: get("total_swap"),
            processes: number("pids", "pids.current").unwrap_or(0),
            oom_kills: oom.get("oom_kill").copied().unwrap_or(0),
        }
    }

    fn usage_v2(&self) -> Usage {
        let Some(dir) = self.directory("") else { return Usage::default() };
        let file = |name: &str| read(&dir, name);
        let number = |name: &str| file(name).trim().parse::<u64>().ok();
        let texts = [file("cpu.stat"), file("memory.stat"), file("memory.events")];
        let [cpu, stat, events] = [keyed(&texts[0]), keyed(&texts[1]), keyed(&texts[2])];
        let get = |key: &str| stat.get(key).copied().unwrap_or(0);
        let memory = number("memory.current").unwrap_or(0);
        Usage {
            cpu_nanoseconds: cpu.get("usage_usec").copied().unwrap_or(0) * 1000,
            memory_bytes: memory,
            working_set_bytes: memory.saturating_sub(get("inactive_file")),
            rss_bytes: get("anon"),
            page_faults: get("pgfault"),
            major_page_faults: get("pgmajfault"),
            memory_limit: number("memory.max"),
            swap_bytes: number("memory.swap.current").unwrap_or(0),
            processes: number("pids.current").unwrap_or(0),
            oom_kills: events.get("oom_kill").copied().unwrap_or(0),
        }
    }
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn keyed(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(k, v)| Some((k, v.trim().parse().ok()?)))
        .collect()
}
