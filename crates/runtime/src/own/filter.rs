//! List filters of CRI: by id (or its beginning), state, sandbox and labels.

use std::collections::BTreeMap;

pub fn labels_match(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// An empty filter matches all; else the id must begin with it.
pub fn id_matches(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}
