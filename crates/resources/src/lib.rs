//! What differs by kind: one strategy file per built-in kind, assembled into a table.
//!
//! Entry type: [`Strategy`]; [`strategy`] finds one. What this crate deliberately does not know: HTTP, the store,
//! tokio, who asks.

mod check;
mod columns;
mod declared;
mod godiff;
mod gojson;
mod gostruct;
mod image;
mod internal;
mod intstr;
mod ip;
pub mod names;
pub mod objectmeta;
mod pod;
mod quantity;
pub mod quota;
mod registry;
pub mod removed;
mod signer;
mod strategy;

pub mod admissionregistration;
pub mod apiextensions;
mod apiregistration;
mod apiserverinternal;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
pub mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;
mod storagemigration;

pub use batch::schedule as cron;
pub use core::event::{convert as convert_event, core_field as core_event_field};
pub use core::service_ips;

pub use strategy::{Column, Columns, Context, Strategy, User, strategy};
