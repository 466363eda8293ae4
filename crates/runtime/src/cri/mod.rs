//! The CRI seam: messages, the two service traits, a gRPC client for other runtimes and a gRPC server for ours.

mod calls;
mod error;
mod remote;
mod serve;
mod service;
#[allow(clippy::all)]
pub mod v1;

pub use error::{Code, Error};
pub use remote::{ConnectError, Remote};
pub use serve::{ServeError, serve};
pub use service::{Answer, ImageService, Result, RuntimeService, Stream};
