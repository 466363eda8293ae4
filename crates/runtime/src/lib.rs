//! The CRI runtime: images, snapshots, sandboxes, containers, shim; and the client for other CRI runtimes.
