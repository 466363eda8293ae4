//! Images: names, the store, archives, unpacking.

pub mod archive;
pub mod build;
pub mod manifest;
mod reference;
mod store;
mod unpack;

pub use reference::{Reference, ReferenceError};
pub(crate) use store::write_atomically;
pub use store::{Image, ImageError, ImageRecord, ImageStore};
pub use unpack::{UnpackError, Unpacked, decompress, unpack};
pub(crate) use unpack::{digest_of, hex};
