//! The runtime's integration tests: real containers, each test with its own directories, cgroup parent and
//! namespaces. They need root and skip with a word without.
#![allow(clippy::unwrap_used)]

mod cri_socket;
mod figures;
mod foreign;
mod life;
mod limits;
mod pulls;
mod security;
mod streams;
mod userns;
mod world;
