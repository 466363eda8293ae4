//! Who has which address: one small file per sandbox, kept in memory too.
//!
//! The file is written before the address is used and removed after it is free, each in one step (rename,
//! unlink), so a crash leaves at most an entry whose sandbox is gone; [`Addresses::forget_dead`] finds those.
//! No fsync: a machine that lost power lost its sandboxes as well, and the directory may be on tmpfs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use kernel::net::Cidr;
use serde::{Deserialize, Serialize};

/// What one sandbox holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub sandbox: String,
    /// `namespace/name`, for people.
    pub pod: String,
    pub netns: PathBuf,
    /// At most one per family; the first is the pod's primary address.
    pub ips: Vec<IpAddr>,
    pub ports: Vec<HostPort>,
}

/// A port of the node that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// Only at this address of the node; all when absent.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub pod_port: u16,
}

#[derive(Debug)]
pub(crate) struct Addresses {
    dir: PathBuf,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<IpAddr>,
    /// The last address given out of each CIDR, so that a freed one rests for a while.
    last: BTreeMap<Cidr, u128>,
}

impl Addresses {
    /// Reads what is on disk. A file that can't be read as an entry is removed: its sandbox never got the address.
    pub(crate) fn load(dir: &Path) -> io::Result<Addresses> {
        fs::create_dir_all(dir)?;
        let mut found = Addresses {
            dir: dir.into(),
            entries: BTreeMap::new(),
            used: BTreeSet::new(),
            last: BTreeMap::new(),
        };
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            match fs::read(&path).map(|bytes| serde_json::from_slice::<Entry>(&bytes)) {
                Ok(Ok(entry)) if path == found.file(&entry.sandbox) => {
                    found.used.extend(&entry.ips);
                    found.entries.insert(entry.sandbox.clone(), entry);
                }
                _ => fs::remove_file(&path)?,
            }
        }
        Ok(found)
    }

    pub(crate) fn get(&self, sandbox: &str) -> Option<&Entry> {
        self.entries.get(sandbox)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Takes one free address of each CIDR and writes the entry down.
    pub(crate) fn allocate(&mut self, cidrs: &[Cidr], mut entry: Entry) -> io::Result<Entry> {
        entry.ips.clear();
        for cidr in cidrs {
            let Some((index, ip)) = self.free(cidr) else {
                let text = format!("no free address left in {}", cidr.network());
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            };
            self.last.insert(*cidr, index);
            entry.ips.push(ip);
        }
        let path = self.file(&entry.sandbox);
        let temporary = self.dir.join(format!(".{}", entry.sandbox));
        fs::write(&temporary, serde_json::to_vec(&entry).map_err(io::Error::other)?)?;
        fs::rename(&temporary, &path)?;
        self.used.extend(&entry.ips);
        self.entries.insert(entry.sandbox.clone(), entry.clone());
        Ok(entry)
    }

    /// Gives the addresses of a sandbox back; an unknown one is fine.
    pub(crate) fn release(&mut self, sandbox: &str) -> io::Result<Option<Entry>> {
        match fs::remove_file(self.file(sandbox)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let entry = self.entries.remove(sandbox);
        for ip in entry.iter().flat_map(|e| &e.ips) {
            self.used.remove(ip);
        }
        Ok(entry)
    }

    /// The sandboxes for which `alive` is false.
    pub(crate) fn dead(&self, alive: impl Fn(&Entry) -> bool) -> Vec<String> {
        self.entries.values().filter(|e| !alive(e)).map(|e| e.sandbox.clone()).collect()
    }

    /// The next free address after the last one given, around the end. The network address, the gateway (first)
    /// and for IPv4 the broadcast address are never given.
    fn free(&self, cidr: &Cidr) -> Option<(u128, IpAddr)> {
        let end = if cidr.is_ipv4() { cidr.size().saturating_sub(1) } else { cidr.size() };
        let span = end.checked_sub(2).filter(|n| *n > 0)?;
        let start = self.last.get(cidr).map_or(0, |last| last - 1);
        // Among used.len() + 1 candidates one is free.
        let tries = span.min(self.used.len() as u128 + 1);
        (0..tries).map(|n| 2 + (start + n) % span).find_map(|index| {
            let ip = cidr.nth(index)?;
            (!self.used.contains(&ip)).then_some((index, ip))
        })
    }

    fn file(&self, sandbox: &str) -> PathBuf {
        // Sandbox ids are ours or hexadecimal; a slash from elsewhere must not leave the directory.
        self.dir.join(format!("{}.json", sandbox.replace('/', "_")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sandbox: &str) -> Entry {
        Entry { sandbox: sandbox.into(), pod: "a/b".into(), netns: "/x".into(), ips: vec![], ports: vec![] }
    }

    #[test]
    fn addresses_are_given_once_and_rest_before_reuse() {
        let dir = tempfile::tempdir().unwrap();
        let cidrs = ["10.1.0.0/29".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let mut all = Addresses::load(dir.path()).unwrap();
        let first = all.allocate(&cidrs, entry("s0")).unwrap();
        assert_eq!(first.ips, ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        all.release("s0").unwrap();
        all.release("s0").unwrap();
        let given: Vec<_> = (1..6)
            .map(|n| all.allocate(&cidrs, entry(&format!("s{n}"))).unwrap().ips[0].to_string())
            .collect();
        assert_eq!(given, ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"]);
        let full = all.allocate(&cidrs, entry("s7")).unwrap_err();
        assert_eq!(full.to_string(), "no free address left in 10.1.0.0/29");
        // Another process sees the same.
        let again = Addresses::load(dir.path()).unwrap();
        assert_eq!((again.entries.len(), &again.used), (5, &all.used));
        assert_eq!(again.dead(|e| e.sandbox != "s3"), ["s3"]);
    }

    #[test]
    fn a_torn_file_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("s1.json"), "{\"sand").unwrap();
        fs::write(dir.path().join(".s2"), "").unwrap();
        let all = Addresses::load(dir.path()).unwrap();
        assert_eq!((all.entries.len(), fs::read_dir(dir.path()).unwrap().count()), (0, 0));
    }
}
