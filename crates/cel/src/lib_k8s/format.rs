//! Named formats (`format.named("dns1123Label")`).

/// One of them, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(pub u8);
