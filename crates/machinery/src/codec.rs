//! Objects as bytes and back.
//!
//! Every decoder gives a [`Value`](crate::Value) in the form that upstream would write after decoding into its Go
//! types: quantities canonical, times in UTC, zero values present or absent as their types have it
//! ([`crate::schema::normalize`]). Every encoder takes that form.

pub mod json;
pub(crate) mod time;
