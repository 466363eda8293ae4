//! Whole clusters, each on a host of its own (a network namespace): the real binary, real containers, real packets.

mod adoption;
mod containerd;
mod crashes;
mod first_light;
mod images;
mod leftovers;
mod offline;
mod refusals;
mod reset;
mod web;

const BINARY: &str = env!("CARGO_BIN_EXE_r8s");
