//! The kernel's network as a library: namespaces, links, addresses, routes, connection tracking, sysctls.
//!
//! Everything here is synchronous: the kernel answers a netlink request before `send` returns, so a request
//! is a function call, not something to await. Callers on an async runtime use its blocking pool.

pub mod cidr;
pub mod conntrack;
pub mod netlink;
pub mod netns;
pub mod rtnl;
pub mod sysctl;

pub use cidr::Cidr;
pub use netlink::Error;
pub use rtnl::Rtnl;
