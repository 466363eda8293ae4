//! The server in process: a memory store, requests and kube clients over the in-process service.

mod access;
mod aggregation;
mod asking;
mod audit;
mod encodings;
mod hook;
mod https;
mod instruments;
mod objects;
mod oidc;
mod policies;
mod reads;
mod removed;
mod shared;
mod slow;
mod support;
mod webhooks;
mod wire;
