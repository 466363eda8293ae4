//! The server in process: a memory store, requests and kube clients over the in-process service.

mod access;
mod objects;
mod reads;
mod shared;
mod support;
