//! Container logs in CRI format: reading lines, finding the tail, following.

mod line;
mod tail;

pub use line::{Line, Stream, parse};
pub use tail::{last_text, tail_offset};
