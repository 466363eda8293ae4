//! One file per command.

pub mod completion;
pub mod image;
pub mod kubectl;
pub mod server;
