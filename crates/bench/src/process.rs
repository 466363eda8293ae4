//! CPU time and memory of the server's processes, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// A process and, when asked for, all its descendants.
#[derive(Clone, Debug)]
pub struct Process(pub u32);

/// Where a process stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, milliseconds.
    pub cpu_ms: f64,
    /// Resident set, bytes.
    pub resident: u64,
}

impl Process {
    pub fn usage(&self) -> Result<Usage> {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.0)).context("the server's process is gone")?;
        // The second field, the name, may hold blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        // Clock ticks are 100 a second on every Linux that we run on.
        let cpu_ms = (ticks(11) + ticks(12)) * 10.0;
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let resident = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
            .unwrap_or(0);
        Ok(Usage { cpu_ms, resident: resident * 1024 })
    }
}

/// Several processes as one (a server and its store).
pub fn total(processes: &[Process]) -> Result<Usage> {
    let mut sum = Usage::default();
    for process in processes {
        let Usage { cpu_ms, resident } = process.usage()?;
        sum.cpu_ms += cpu_ms;
        sum.resident += resident;
    }
    Ok(sum)
}
