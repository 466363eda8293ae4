//! The CRI runtime: images, snapshots, sandboxes, containers, shim; and the client for other CRI runtimes.
//!
//! The seam is in [`cri`]: two traits, [`cri::RuntimeService`] and [`cri::ImageService`], with the messages
//! of CRI v1. [`Runtime`] is our own implementation, in this process; [`cri::Remote`] is one over a unix
//! socket. A pod's network comes through [`network`].
//!
//! The binary must call [`helper_main`] before anything else when its first argument is `runtime-create`.
//!
//! This crate knows no Kubernetes objects: only what CRI messages say.

mod confine;
pub mod cri;
mod helper;
pub mod image;
pub mod network;
mod own;
mod shim;
mod streaming;

pub use helper::helper_main;
pub use own::{Config, OpenError, Runtime};
