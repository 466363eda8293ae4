//! Custom resources: definitions become served kinds.

mod columns;
mod conversion;
mod definition;
mod names;
pub mod prune;
mod publish;
mod version;

pub use columns::age;
pub use conversion::{Conversion, convert_objects, prepare as prepare_versions, to_storage};
pub use definition::plan_delete;
pub use publish::start;
pub use version::CustomVersion;

use machinery::Status;

use crate::cache::Entry;
use crate::front::RequestInfo;
use crate::front::respond::Answer;
use crate::registry::Call;
use crate::server::Core;

/// The answer for a resource whose definition is there but not yet established.
pub fn not_yet(_core: &Core, _info: &RequestInfo) -> Option<Result<Answer, Status>> {
    None
}

/// A write went through: when a definition was written, the answer waits until what it says is served.
pub async fn after_write(call: &Call, entry: &Entry) {
    if call.resource.group == "apiextensions.k8s.io" {
        let _ = call.core.caught_up(entry.revision).await;
    }
}

/// What an applied configuration leaves open: defaults, as of any other write.
pub fn default_applied(call: &Call, object: &mut machinery::Value) {
    if let Some(custom) = &call.resource.custom {
        custom.default(object);
    }
}
