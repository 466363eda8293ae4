//! How components are made out of settings and credentials, and by whom they are known to the API. One file each.

pub mod apiserver;
pub mod controllers;
pub mod dns;
pub mod identity;
pub mod node;
pub mod proxy;
pub mod scheduler;
