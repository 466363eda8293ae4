//! The machine the node is on: processors, memory, disk, names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Config;
use crate::quantity::{ResourceList, from_bytes, from_milli, milli, value};

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub cpus: i64,
    pub memory: i64,
    pub swap: i64,
    pub disk: i64,
    pub hugepages: BTreeMap<String, i64>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
}

fn word(path: &str) -> String {
    fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default()
}

fn meminfo(text: &str, key: &str) -> i64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0) * 1024
}

impl Machine {
    pub fn read(config: &Config) -> Machine {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let mut hugepages = BTreeMap::new();
        for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size = name
                .strip_prefix("hugepages-")
                .and_then(|n| n.strip_suffix("kB"))
                .and_then(|n| n.parse::<i64>().ok());
            let count = fs::read_to_string(entry.path().join("nr_hugepages"))
                .ok()
                .and_then(|n| n.trim().parse::<i64>().ok());
            if let (Some(size), Some(count)) = (size, count) {
                hugepages.insert(format!("hugepages-{}", from_bytes(size * 1024).0), size * 1024 * count);
            }
        }
        let machine_id = word("/etc/machine-id");
        // Firmware may have none, and may not be readable.
        let uuid = word("/sys/class/dmi/id/product_uuid");
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory: meminfo(&memory, "MemTotal"),
            swap: meminfo(&memory, "SwapTotal"),
            disk: disk(&config.root).map_or(0, |d| d.capacity),
            hugepages,
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: word("/proc/sys/kernel/random/boot_id"),
            kernel: word("/proc/sys/kernel/osrelease"),
            os_image: os.trim_matches('"').to_owned(),
        }
    }

    pub fn capacity(&self, config: &Config) -> ResourceList {
        let mut list = ResourceList::from([
            ("cpu".to_owned(), from_milli(self.cpus * 1000)),
            ("memory".to_owned(), kib(self.memory)),
            ("ephemeral-storage".to_owned(), kib(self.disk)),
            ("pods".to_owned(), from_milli(i64::from(config.max_pods) * 1000)),
        ]);
        list.extend(self.hugepages.iter().map(|(name, bytes)| (name.clone(), from_bytes(*bytes))));
        list
    }

    /// Capacity less what is reserved and what eviction keeps free.
    pub fn allocatable(&self, config: &Config) -> ResourceList {
        let reserved = |name: &str| config.reserved.get(name);
        let kept = |signal: &str, capacity: i64| {
            config.eviction_hard.get(signal).map_or(0, |t| threshold(t, capacity))
        };
        let huge: i64 = self.hugepages.values().sum();
        let memory =
            self.memory - huge - reserved("memory").map_or(0, value) - kept("memory.available", self.memory);
        let disk =
            self.disk - reserved("ephemeral-storage").map_or(0, value) - kept("nodefs.available", self.disk);
        let mut list = self.capacity(config);
        list.insert("cpu".into(), from_milli((self.cpus * 1000 - reserved("cpu").map_or(0, milli)).max(0)));
        list.insert("memory".into(), kib(memory.max(0)));
        list.insert("ephemeral-storage".into(), from_milli(disk.max(0).saturating_mul(1000)));
        list
    }
}

/// Bytes in Ki, as upstream shows memory and disk.
fn kib(bytes: i64) -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    k8s_openapi::apimachinery::pkg::api::resource::Quantity(format!("{}Ki", bytes / 1024))
}

/// A threshold of the eviction settings in units of its signal: a quantity, or a percentage of `capacity`.
pub(super) fn threshold(text: &str, capacity: i64) -> i64 {
    match text.strip_suffix('%').and_then(|p| p.trim().parse::<f64>().ok()) {
        Some(percent) => (capacity as f64 * percent / 100.0) as i64,
        None => value(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned())),
    }
}

/// A file system as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub capacity: i64,
    pub available: i64,
    pub inodes: i64,
    pub inodes_free: i64,
}

pub(super) fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Some(Disk {
        capacity: clamp(stat.f_blocks.saturating_mul(stat.f_frsize)),
        available: clamp(stat.f_bavail.saturating_mul(stat.f_frsize)),
        inodes: clamp(stat.f_files),
        inodes_free: clamp(stat.f_favail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_allocatable() {
        assert_eq!(threshold("10%", 1000), 100);
        assert_eq!(threshold("100Mi", 0), 100 << 20);
        let mut config = Config::new("n", "/x");
        config.reserved.insert("cpu".into(), from_milli(500));
        let machine = Machine { cpus: 2, memory: 1 << 30, disk: 1 << 30, ..Machine::default() };
        let list = machine.allocatable(&config);
        assert_eq!(milli(&list["cpu"]), 1500);
        assert_eq!(value(&list["memory"]), (1 << 30) - (100 << 20));
        assert_eq!(value(&list["pods"]), 110);
        assert!(disk(Path::new("/")).is_some_and(|d| d.capacity > 0));
        assert_eq!(meminfo("MemTotal:       16 kB\n", "MemTotal"), 16384);
    }
}
