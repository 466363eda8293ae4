//! One file per command.

pub mod completion;
pub mod kubectl;
pub mod server;
