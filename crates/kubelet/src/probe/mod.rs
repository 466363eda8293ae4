//! One try of a probe or hook: http, tcp, grpc. Commands go through the runtime, not here.

pub mod grpc;
pub mod http;
pub mod port;
