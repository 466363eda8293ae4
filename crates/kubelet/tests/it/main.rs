//! Flows of a whole agent: objects in, CRI calls and statuses out. The API and the runtime are small stand-ins.

mod api;
mod cri;
mod flow;
mod harness;
mod server;
