//! Custom resources: definitions become served kinds.

mod columns;
mod version;

pub use version::CustomVersion;

use std::sync::Arc;

use machinery::Status;

use crate::cache::Entry;
use crate::front::RequestInfo;
use crate::front::respond::Answer;
use crate::registry::Call;
use crate::server::Core;

/// Follows the definitions from now on.
pub fn start(_core: &Arc<Core>) {}

/// The answer for a resource whose definition is there but not yet established.
pub fn not_yet(_core: &Core, _info: &RequestInfo) -> Option<Result<Answer, Status>> {
    None
}

/// A write went through: a definition may have changed.
pub async fn after_write(_call: &Call, _entry: &Entry) {}

/// OpenAPI documents of custom groups: path and what their hash is made of.
pub fn openapi_paths(_core: &Core) -> Vec<(String, String)> {
    Vec::new()
}

pub fn openapi_document(_core: &Core, _path: &str) -> Option<String> {
    None
}
