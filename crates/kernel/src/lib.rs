//! Raw Linux: namespaces, mounts, cgroups, netlink, nftables. The only crate with unsafe code.
#![allow(unsafe_code)]

pub mod allocator;
pub mod cgroup;
pub mod devices;
pub mod fork;
pub mod idmap;
pub mod net;
pub mod nft;
pub mod rootdir;
pub mod seccomp;
