//! Clusters for tests. [`Host`] is a network namespace that looks like a machine with one network card;
//! [`Cluster`] is a whole r8s (the real binary) on such a host, with a root directory of its own, so that many run
//! side by side and the machine stays untouched.
//!
//! Waiting is bounded and on state: [`wait_for`]. What this crate deliberately does not know: any crate of r8s.

mod cluster;
mod host;
mod wait;

pub use cluster::{Cluster, Options};
pub use host::Host;
pub use wait::wait_for;

/// Is this process root? If not, says so with the name of the test that is skipped.
pub fn root_or_skip(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test} needs root");
    }
    root
}
