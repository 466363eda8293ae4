//! Raw Linux: namespaces, mounts, cgroups, netlink, nftables. The only crate with unsafe code.
