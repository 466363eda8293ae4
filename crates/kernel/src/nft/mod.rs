//! nftables without the command: a ruleset as data, as text, as netlink batches, and walked by a packet.
//!
//! A [`Table`] says what should be; [`Batch`] carries it out in one atomic transaction (`nfnetlink` batch);
//! [`diff`] makes the batch that leads from one table to another; [`trace`] walks a packet through a table
//! without a kernel. `Display` prints a table in `nft`'s own language.
//!
//! Source: `nft(8)`, the kernel's `include/uapi/linux/netfilter/nf_tables.h`.

pub mod batch;
pub mod diff;
mod encode;
mod model;
mod text;
pub mod trace;
mod uapi;

pub use batch::{Batch, Nft};
pub use model::{
    Chain, Family, Field, Hook, HookKind, HookPoint, Key, Name, Op, Remember, Set, SetKind, Stmt, Table,
    Type, Value, Verdict,
};

#[cfg(test)]
mod tests;
