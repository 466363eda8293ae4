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

/// Where a process's memory stands (`smaps_rollup`), bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub resident: u64,
    /// Pages shared with others count in part.
    pub proportional: u64,
    /// Of `proportional`, what no file backs.
    pub anonymous: u64,
}

impl Process {
    pub fn memory(&self) -> Result<Memory> {
        let text =
            fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).context("the process is gone")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
            kilobytes.unwrap_or(0) * 1024
        };
        Ok(Memory { resident: field("Rss:"), proportional: field("Pss:"), anonymous: field("Pss_Anon:") })
    }
}

/// The processes of which one argument is like this.
pub fn with_argument(like: impl Fn(&str) -> bool) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if arguments.split(|byte| *byte == 0).any(|word| std::str::from_utf8(word).is_ok_and(&like)) {
            found.push(Process(pid));
        }
    }
    Ok(found)
}

/// Several processes as one (a server and its store); none if there are none.
pub fn total(processes: &[Process]) -> Result<Option<Usage>> {
    let mut sum = Usage::default();
    for process in processes {
        let Usage { cpu_ms, resident } = process.usage()?;
        sum.cpu_ms += cpu_ms;
        sum.resident += resident;
    }
    Ok((!processes.is_empty()).then_some(sum))
}
