//! What differs by kind: one strategy file per built-in kind, assembled into a table.
//!
//! Entry type: [`Strategy`]; [`strategy`] finds one. What this crate deliberately does not know: HTTP, the store,
//! tokio, who asks.

mod strategy;

pub use strategy::{Columns, Context, Strategy, strategy};
