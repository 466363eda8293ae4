//! Container logs in CRI format: reading lines, finding the tail, following.

mod follow;
mod line;
mod tail;

pub use follow::{LogOptions, LogReader};
pub use line::{Line, Stream, parse};
pub use tail::{last_text, tail_offset};
