//! Cgroups, whichever hierarchy the machine has: v1, v2, or hybrid (v1 controllers beside an empty v2 tree).
//!
//! [`Hierarchy`] says where controllers are mounted; [`Cgroup`] is one group in all of them, named by its
//! path below the roots (`kubepods/burstable/podUID`). The files are written directly, no daemon is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod limits;
mod usage;

pub use limits::{HugepageLimit, Limits};
pub use usage::Usage;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    #[error("cgroup {path}")]
    Io { path: PathBuf, source: io::Error },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + '_ {
    move |source| CgroupError::Io { path: path.to_owned(), source }
}

/// Where this machine's cgroup controllers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1 mounts by controller; `cpu` and `cpuacct` may share one. Named ones are `name=…`.
    v1: BTreeMap<String, PathBuf>,
    /// The v2 mount, on a hybrid machine beside v1.
    v2: Option<PathBuf>,
}

impl Hierarchy {
    /// Reads `/proc/self/mountinfo`.
    pub fn detect() -> Result<Arc<Hierarchy>, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read_to_string(path).map_err(failed(path))?;
        let hierarchy = Hierarchy::parse(&text);
        if hierarchy.v1.is_empty() && hierarchy.v2.is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        Ok(Arc::new(hierarchy))
    }

    fn parse(mountinfo: &str) -> Hierarchy {
        let mut hierarchy = Hierarchy { v1: BTreeMap::new(), v2: None };
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else { continue };
            let (mount, fs): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), fs.split(' ').collect());
            let (Some(root), Some(point), Some(kind)) = (mount.get(3), mount.get(4), fs.first()) else {
                continue;
            };
            // Mounts of a part of a tree are containers' views, not the machine's.
            if *root != "/" {
                continue;
            }
            match *kind {
                "cgroup2" if hierarchy.v2.is_none() => hierarchy.v2 = Some(PathBuf::from(*point)),
                "cgroup" => {
                    for option in fs.get(2).unwrap_or(&"").split(',') {
                        if !matches!(option, "rw" | "ro" | "xattr" | "clone_children" | "noprefix") {
                            hierarchy.v1.entry(option.to_owned()).or_insert_with(|| PathBuf::from(*point));
                        }
                    }
                }
                _ => {}
            }
        }
        hierarchy
    }

    /// Controllers are in the v2 tree only.
    pub fn is_unified(&self) -> bool {
        !self.v1.contains_key("memory") && !self.v1.contains_key("cpu") && self.v2.is_some()
    }

    /// The controllers that limits can be set for.
    pub fn controllers(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> =
            self.v1.keys().filter(|name| !name.starts_with("name=")).cloned().collect();
        if let Some(v2) = &self.v2 {
            let names = std::fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
            all.extend(names.split_whitespace().map(str::to_owned));
        }
        all
    }

    fn roots(&self) -> BTreeSet<&PathBuf> {
        self.v1.values().chain(&self.v2).collect()
    }

    /// The group `path` (leading `/` or not) below the roots. Nothing is made.
    pub fn cgroup(self: &Arc<Self>, path: impl AsRef<Path>) -> Cgroup {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Cgroup { hierarchy: Arc::clone(self), path }
    }
}

/// One cgroup, in every hierarchy there is.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchy: Arc<Hierarchy>,
    path: PathBuf,
}

impl Cgroup {
    /// Without a leading `/`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn child(&self, name: impl AsRef<Path>) -> Cgroup {
        Cgroup { hierarchy: Arc::clone(&self.hierarchy), path: self.path.join(name) }
    }

    pub fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    fn v1(&self, controller: &str) -> Option<PathBuf> {
        Some(self.hierarchy.v1.get(controller)?.join(&self.path))
    }

    fn v2(&self) -> Option<PathBuf> {
        Some(self.hierarchy.v2.as_ref()?.join(&self.path))
    }

    /// Where a controller's files of this group are, on v2 all in one directory.
    pub fn directory(&self, controller: &str) -> Option<PathBuf> {
        self.v1(controller).or_else(|| self.v2())
    }

    /// On v1: the controllers by name with this group's directory in each, named ones without `name=`.
    pub fn v1_directories(&self) -> Vec<(String, PathBuf)> {
        let v1 = self.hierarchy.v1.iter();
        v1.map(|(name, root)| (name.trim_start_matches("name=").to_owned(), root.join(&self.path))).collect()
    }

    /// Whether the kernel can limit swap here.
    pub fn limits_swap(&self) -> bool {
        match (self.hierarchy.v1.get("memory"), &self.hierarchy.v2) {
            (Some(v1), _) => v1.join("memory.memsw.limit_in_bytes").exists(),
            (None, Some(_)) => std::fs::exists("/proc/swaps").unwrap_or(false),
            (None, None) => false,
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.hierarchy.roots().into_iter().map(|root| root.join(&self.path)).collect()
    }

    pub fn exists(&self) -> bool {
        self.directories().iter().any(|dir| dir.is_dir())
    }

    /// Makes the group and its parents where they are missing; on v2 with all controllers handed down to
    /// it, on v1 with cpusets that are not empty.
    pub fn create(&self) -> Result<(), CgroupError> {
        for dir in self.directories() {
            std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        }
        if let Some(v2) = &self.hierarchy.v2 {
            self.hand_down_controllers(v2);
        }
        if let Some(root) = self.hierarchy.v1.get("cpuset") {
            self.inherit_cpuset(root)?;
        }
        Ok(())
    }

    /// A controller that can't be handed down (processes in the parent) is noticed when a limit is set.
    fn hand_down_controllers(&self, root: &Path) {
        let mut dir = root.to_owned();
        for part in &self.path {
            let offered = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
            for name in
                offered.split_whitespace().filter(|name| !enabled.split_whitespace().any(|e| e == *name))
            {
                let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{name}"));
            }
            dir.push(part);
        }
    }

    /// A new v1 cpuset is empty and takes no process.
    fn inherit_cpuset(&self, root: &Path) -> Result<(), CgroupError> {
        let mut dir = root.to_owned();
        for part in &self.path {
            let parent = dir.clone();
            dir.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = dir.join(file);
                if std::fs::read_to_string(&own).map_err(failed(&own))?.trim().is_empty() {
                    let value = std::fs::read_to_string(parent.join(file)).map_err(failed(&parent))?;
                    std::fs::write(&own, value.trim()).map_err(failed(&own))?;
                }
            }
        }
        Ok(())
    }

    /// Moves a process (all its threads) into the group, in all hierarchies that have it (a v1 runtime makes
    /// none in the empty v2 tree beside). In none: an error.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let mut missing = None;
        let mut added = false;
        for dir in self.directories() {
            let file = dir.join("cgroup.procs");
            match std::fs::write(&file, pid.to_string()) {
                Ok(()) => added = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing = Some(failed(&file)(error)),
                Err(error) => return Err(failed(&file)(error)),
            }
        }
        match missing {
            Some(error) if !added => Err(error),
            _ => Ok(()),
        }
    }

    /// The processes in the group and in those below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = BTreeSet::new();
        for dir in self.directories() {
            collect_processes(&dir, &mut pids);
        }
        pids.into_iter().collect()
    }

    /// Sends SIGKILL to all processes in the group and below, once. Those that fork meanwhile may escape
    /// on v1: repeat until [`Cgroup::processes`] is empty.
    pub fn kill(&self) {
        if let Some(dir) = self.v2()
            && std::fs::write(dir.join("cgroup.kill"), "1").is_ok()
            && self.hierarchy.is_unified()
        {
            return;
        }
        for pid in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes the group and those below it. Fails with EBUSY while a process is in one, for a moment also
    /// after the last has ended. Nothing there is success.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for dir in self.directories() {
            remove_tree(&dir).map_err(failed(&dir))?;
        }
        Ok(())
    }

    /// The names of the groups directly below.
    pub fn children(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for dir in self.directories() {
            names.extend(
                subdirectories(&dir).iter().filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())),
            );
        }
        names.into_iter().collect()
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn collect_processes(dir: &Path, pids: &mut BTreeSet<u32>) {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for child in subdirectories(dir) {
        collect_processes(&child, pids);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subdirectories(dir) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
             31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             90 24 0:29 /kubepods/x /run/ct/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchy::parse(hybrid);
        assert!(!found.is_unified());
        assert_eq!(found.v1["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found.v1["memory"], Path::new("/sys/fs/cgroup/memory"));
        assert!(found.v1.contains_key("name=systemd"));
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));

        let unified = Hierarchy::parse("33 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(unified.is_unified());
    }
}
