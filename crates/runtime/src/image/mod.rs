//! Images: names, the store, archives, unpacking.

pub mod archive;
pub mod build;
pub mod manifest;
pub mod pull;
mod reference;
mod store;
mod unpack;

pub use reference::{Reference, ReferenceError};
pub(crate) use store::write_atomically;
pub use store::{Image, ImageError, ImageRecord, ImageStore};
pub use unpack::{UnpackError, Unpacked, decompress, unpack};
pub(crate) use unpack::{digest_of, hex};

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
