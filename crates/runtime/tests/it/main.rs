//! The runtime's integration tests.

mod cri_socket;
