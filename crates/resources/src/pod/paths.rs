//! Paths inside volumes.

use machinery::field::{ErrorList, Path};

use crate::check::Errors;

/// Relative, without `..`, not starting with two dots.
pub(crate) fn local_non_reserved(path: &str, at: &Path, errors: &mut ErrorList) {
    local_descending(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}

/// Relative, without `..`.
pub(crate) fn local_descending(path: &str, at: &Path, errors: &mut ErrorList) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errors);
}

pub(crate) fn no_backsteps(path: &str, at: &Path, errors: &mut ErrorList) {
    if has_backsteps(path) {
        errors.invalid(at, path, "must not contain '..'");
    }
}

pub(crate) fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}
