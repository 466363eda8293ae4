//! What the node does for itself with each heartbeat: watch its memory, disk and process ids, remove images nobody uses, rotate logs. Rides on the lease's renewal, so that nothing else ticks.

use jiff::Timestamp;
use runtime::cri::v1;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::machine::{disk, threshold};
use super::{Agent, Pressure, evict};

/// A condition lasts at least this long after its cause.
const PRESSURE_LASTS: Duration = Duration::from_secs(300);
/// Between looks at images.
const IMAGE_GC_EVERY: Duration = Duration::from_secs(300);

/// An image stays at least this long after it was first seen without a user: one that was just imported will get one.
const IMAGE_MIN_AGE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(super) struct Housekeeping {
    seen: HashMap<&'static str, Instant>,
    images_looked_at: Option<Instant>,
    /// Images without a user, and since when.
    unused: HashMap<String, Instant>,
}

/// What is left of one signal, and how much there must be.
pub(super) struct Signal {
    pub name: &'static str,
    pub condition: &'static str,
    pub available: i64,
    pub threshold: i64,
}

fn signals(agent: &Agent) -> Vec<Signal> {
    let mut out = vec![];
    let mut add = |name: &'static str, condition, available: i64, capacity: i64| {
        if let Some(text) = agent.config.eviction_hard.get(name) {
            out.push(Signal { name, condition, available, threshold: threshold(text, capacity) });
        }
    };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| {
        let line = memory.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0) * 1024
    };
    add("memory.available", "MemoryPressure", kib("MemAvailable"), kib("MemTotal"));
    if let Some(d) = disk(&agent.config.root) {
        add("nodefs.available", "DiskPressure", d.available, d.capacity);
        add("nodefs.inodesFree", "DiskPressure", d.inodes_free, d.inodes);
        add("imagefs.available", "DiskPressure", d.available, d.capacity);
        add("imagefs.inodesFree", "DiskPressure", d.inodes_free, d.inodes);
    }
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i64>().ok());
    let running = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|t| t.split_whitespace().nth(3)?.split_once('/')?.1.parse::<i64>().ok());
    if let (Some(max), Some(running)) = (number("/proc/sys/kernel/pid_max"), running) {
        add("pid.available", "PIDPressure", max - running, max);
    }
    out
}

/// The signals that are below their thresholds now, memory first, as upstream sorts them.
fn too_low(agent: &Agent) -> Vec<Signal> {
    // File systems that do not count inodes say 0 of 0.
    signals(agent).into_iter().filter(|s| s.threshold > 0 && s.available < s.threshold).collect()
}

impl Housekeeping {
    pub async fn run(&mut self, agent: &Arc<Agent>) {
        let now = Instant::now();
        let mut short = too_low(agent);
        for signal in &short {
            if self.seen.insert(signal.condition, now).is_none() {
                tracing::warn!(
                    signal = signal.name,
                    available = crate::quantity::from_bytes(signal.available).0,
                    threshold = crate::quantity::from_bytes(signal.threshold).0,
                    "the node runs short and takes no more pods: free some, or change --eviction-hard"
                );
            }
        }
        self.seen.retain(|_, at| now.duration_since(*at) < PRESSURE_LASTS);
        let pressure = Pressure {
            memory: self.seen.contains_key("MemoryPressure"),
            disk: self.seen.contains_key("DiskPressure"),
            pids: self.seen.contains_key("PIDPressure"),
        };
        let changed = {
            let mut held = agent.pressure.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, pressure) != pressure
        };
        if changed {
            agent.node_wake.notify_one();
        }
        let disk_short = short.iter().any(|s| s.condition == "DiskPressure");
        let due = self.images_looked_at.is_none_or(|at| now.duration_since(at) >= IMAGE_GC_EVERY);
        if due || disk_short {
            self.images_looked_at = Some(now);
            self.collect_images(agent, disk_short, now).await;
        }
        if disk_short {
            // Images were the cheaper thing to lose: perhaps that was enough.
            short = too_low(agent);
        }
        evict::over_limits(agent).await;
        if let Some(signal) = short.first() {
            evict::one(agent, signal).await;
        }
        rotate_logs(agent).await;
    }

    /// Removes unused images, longest unused first, while the disk is fuller than the settings allow.
    async fn collect_images(&mut self, agent: &Agent, forced: bool, now: Instant) {
        let Ok(images) = agent.runtime.list_images(v1::ListImagesRequest { filter: None }).await else {
            return;
        };
        let Ok(containers) = agent.runtime.list_containers(v1::ListContainersRequest { filter: None }).await
        else {
            return;
        };
        let mut used: HashSet<String> = HashSet::new();
        for c in containers.containers {
            used.extend([c.image_ref, c.image_id]);
            used.extend(c.image.map(|i| i.image));
        }
        let is_used = |i: &v1::Image| {
            i.pinned
                || used.contains(&i.id)
                || i.repo_tags.iter().chain(&i.repo_digests).any(|n| used.contains(n))
        };
        let unused: Vec<&v1::Image> = images.images.iter().filter(|i| !is_used(i)).collect();
        self.unused.retain(|id, _| unused.iter().any(|i| i.id == *id));
        for image in &unused {
            self.unused.entry(image.id.clone()).or_insert(now);
        }
        let (high, low) = agent.config.image_gc;
        let Some(d) = disk(&agent.config.root).filter(|d| d.capacity > 0) else { return };
        let usage = 100 - 100 * d.available / d.capacity;
        if !forced && usage < i64::from(high) {
            return;
        }
        let mut to_free = d.capacity / 100 * i64::from(100 - low) - d.available;
        let old_enough = |since: &Instant| now.duration_since(*since) >= IMAGE_MIN_AGE;
        let mut oldest: Vec<(&String, &Instant)> =
            self.unused.iter().filter(|(_, since)| old_enough(since)).collect();
        oldest.sort_by_key(|(_, since)| **since);
        let ids: Vec<String> = oldest.into_iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            if to_free <= 0 {
                break;
            }
            let size =
                images.images.iter().find(|i| i.id == id).map_or(0, |i| i64::try_from(i.size).unwrap_or(0));
            let image = Some(v1::ImageSpec { image: id.clone(), ..Default::default() });
            if agent.runtime.remove_image(v1::RemoveImageRequest { image }).await.is_ok() {
                self.unused.remove(&id);
                to_free -= size;
            }
        }
    }
}

/// Moves logs that have grown too big aside and has the runtime begin new ones.
async fn rotate_logs(agent: &Agent) {
    let dirs: Vec<PathBuf> = agent.entries().values().map(|e| agent.facts.pod_logs(&e.pod())).collect();
    let big: Vec<PathBuf> = dirs
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .flat_map(|container| fs::read_dir(container.path()).into_iter().flatten().flatten())
        .filter(|f| f.path().extension().is_some_and(|e| e == "log"))
        .filter(|f| f.metadata().is_ok_and(|m| m.is_file() && m.len() > agent.config.log_max_size))
        .map(|f| f.path())
        .collect();
    if big.is_empty() {
        return;
    }
    let running = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let request = v1::ListContainersRequest { filter: Some(running) };
    let Ok(list) = agent.runtime.list_containers(request).await else { return };
    for container in list.containers {
        let request = v1::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = agent.runtime.container_status(request).await.ok().and_then(|a| a.status);
        let Some(path) = status.map(|s| PathBuf::from(s.log_path)).filter(|p| big.contains(p)) else {
            continue;
        };
        if let Err(error) = rotate(agent, &container.id, &path).await {
            tracing::warn!(path = %path.display(), %error, "rotating a log failed");
        }
    }
}

async fn rotate(agent: &Agent, id: &str, path: &Path) -> std::io::Result<()> {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &aside)?;
    let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(e) = agent.runtime.reopen_container_log(request).await {
        // The runtime still writes to the old file: it gets its name back.
        fs::rename(&aside, path)?;
        return Err(std::io::Error::other(e.to_string()));
    }
    prune(path, agent.config.log_max_files)
}

/// Keeps the newest rotated files, so that with the present one there are `max`.
fn prune(path: &Path, max: u32) -> std::io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut old: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .filter(|f| f.file_name().to_string_lossy().starts_with(&prefix))
        .map(|f| f.path())
        .collect();
    // Names end in the time: by name is by age.
    old.sort();
    let keep = usize::try_from(max.saturating_sub(1)).unwrap_or(0);
    for path in old.iter().take(old.len().saturating_sub(keep)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rotated_logs_stay() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        fs::write(&log, "").unwrap();
        for i in 0..5 {
            fs::write(dir.path().join(format!("0.log.2024010{i}-000000")), "").unwrap();
        }
        prune(&log, 3).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["0.log", "0.log.20240103-000000", "0.log.20240104-000000"]);
    }
}
