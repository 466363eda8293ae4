//! The controllers and the scheduler at work on a real API server in this process, with pretended nodes.

mod access;
mod daemonset;
mod deployment;
mod disruption;
mod garbage;
mod job;
mod namespace;
mod node;
mod policystatus;
mod quota;
mod replication;
mod scheduling;
mod service;
mod statefulset;
mod volumes;
mod world;
