//! The controllers of the controller manager, one module each.
//!
//! [`run`] starts every controller of the [`table`] that the configuration selects. A controller watches through
//! shared informers and writes through a client of its own, as its own service account. Each is a pure
//! `decide(view, now) -> plan` and a thin part that carries the plan out; a reconcile gets a key and nothing else,
//! and ends when the informers have seen what it wrote.
//!
//! It does not know HTTP, the store, nor how pods run.

mod certificates;
mod clusterrole;
mod common;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslicemirroring;
mod garbage;
mod job;
mod manager;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod podgc;
mod policystatus;
mod quota;
mod replicaset;
mod rootca;
mod serviceaccount;
mod servicecidrs;
mod statefulset;
mod table;
mod tainteviction;
mod ttlafterfinished;
mod volumes;

pub use manager::{Config, Error, run};
pub use table::{Controller, TABLE};
