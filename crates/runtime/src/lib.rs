//! The CRI runtime: images, snapshots, sandboxes, containers, shim; and the client for other CRI runtimes.
//!
//! The seam is in [`cri`]: two traits, [`cri::RuntimeService`] and [`cri::ImageService`], with the messages
//! of CRI v1. [`cri::Remote`] implements them over a unix socket. A pod's network comes through [`network`].
//!
//! This crate knows no Kubernetes objects: only what CRI messages say.

pub mod cri;
pub mod image;
pub mod network;
