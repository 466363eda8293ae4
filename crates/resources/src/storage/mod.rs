//! storage.k8s.io.

use machinery::Value;
use machinery::field::{ErrorList, Path};

use crate::check::Errors;
use crate::names;

pub(crate) mod csidriver;
pub(crate) mod csinode;
pub(crate) mod csistoragecapacity;
pub(crate) mod storageclass;
pub(crate) mod volumeattachment;
pub(crate) mod volumeattributesclass;

const TEXT_MAX: usize = 256 << 10;

/// The name of a driver or provisioner.
fn provisioner(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    errors.each(at, name.to_lowercase(), names::qualified_name(&name.to_lowercase()));
}

/// Parameters of a class.
fn parameters(parameters: &Value, may_be_empty: bool, at: &Path, errors: &mut ErrorList) {
    const COUNT_MAX: usize = 512;
    let all: Vec<_> = parameters.as_object().into_iter().flatten().collect();
    if all.len() > COUNT_MAX {
        return errors.too_long(at, COUNT_MAX);
    }
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.invalid(at, "", "field can not be empty.");
    }
    if size(parameters) > TEXT_MAX {
        errors.too_long(at, TEXT_MAX);
    }
    if !may_be_empty && all.is_empty() {
        errors.required(at, "must contain at least one key/value pair");
    }
}

/// Bytes of all keys and values.
fn size(map: &Value) -> usize {
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum()
}
