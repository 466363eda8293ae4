//! The server in process: a memory store, requests and kube clients over the in-process service.

mod access;
mod aggregation;
mod audit;
mod encodings;
mod hook;
mod https;
mod objects;
mod oidc;
mod policies;
mod reads;
mod removed;
mod shared;
mod support;
mod webhooks;
mod wire;
