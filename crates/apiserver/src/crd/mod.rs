//! Custom resources: definitions become served kinds.

mod columns;
mod definition;
mod publish;
mod version;

pub use columns::age;
pub use definition::{plan_delete, prepare};
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
