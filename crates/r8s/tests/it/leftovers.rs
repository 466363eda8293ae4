//! What a cluster has on its host besides files, seen from outside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use testkit::Cluster;

/// Processes that were started with a path of the cluster (the server, the pods' shims).
pub fn processes(cluster: &Cluster) -> Vec<String> {
    let root = cluster.root().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&root) && line.parse::<u32>().is_err() {
            found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// The pods' shims: process ids.
pub fn shims(cluster: &Cluster) -> Vec<String> {
    let word = format!("dir={}", cluster.root().display());
    let of = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    processes(cluster).into_iter().filter(|line| line.contains(&word)).map(of).collect()
}

pub fn mounts(cluster: &Cluster) -> Vec<String> {
    let root = cluster.root().display().to_string();
    let all = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let points =
        all.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&root));
    points.map(str::to_owned).collect()
}

/// Links of the host but for its own card.
pub fn links(cluster: &Cluster) -> Vec<String> {
    let text = output(cluster, "ip", &["-o", "link", "show"]);
    let names = text.lines().filter_map(|line| line.split(": ").nth(1));
    let names = names.map(|name| name.split('@').next().unwrap_or(name).to_owned());
    names.filter(|name| !["lo", "eth0", "eth0-far"].contains(&name.as_str())).collect()
}

pub fn tables(cluster: &Cluster) -> Vec<String> {
    output(cluster, "nft", &["list", "tables"]).lines().map(str::to_owned).collect()
}

/// The cluster's cgroup by name: of one of its shims.
pub fn cgroup(cluster: &Cluster) -> Option<String> {
    let pid = shims(cluster).into_iter().next()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut parts = text.lines().flat_map(|line| line.split('/'));
    parts.find(|part| part.starts_with("r8s-")).map(str::to_owned)
}

/// Where groups of this name are, in all hierarchies.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    let all: BTreeSet<PathBuf> = below.chain([top.join(name)]).filter(|dir| dir.is_dir()).collect();
    all.into_iter().collect()
}

fn output(cluster: &Cluster, program: &str, arguments: &[&str]) -> String {
    let output = cluster.host().command(program).args(arguments).output().expect(program);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
