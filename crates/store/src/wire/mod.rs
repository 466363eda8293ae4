//! The etcd v3 API on the wire, as far as it is spoken here: messages, and the way between them and the port's types.

pub mod convert;
pub mod proto;
