//! Published facts that tests compare against, where they are at hand.

use std::path::{Path, PathBuf};

/// A file or folder of the release's published facts; None, with a word, where they are absent.
pub fn facts(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kubernetes-1.36").join(name);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}
