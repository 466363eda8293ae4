//! Objects as bytes and back.
//!
//! Every decoder gives a [`Value`](crate::Value) in the form that upstream would write after decoding into its Go
//! types: quantities canonical, times in UTC, zero values present or absent as their types have it. Every encoder takes
//! that form; [`crate::schema::normalize`] restores it after changes, and makes the stored form of it.

pub mod cbor;
pub mod json;
pub mod proto;
pub(crate) mod time;
pub mod yaml;
