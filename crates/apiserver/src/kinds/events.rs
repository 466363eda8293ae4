//! Events are served by two groups in two shapes, and stored once, in the core shape.

use machinery::{Get, Value};

/// Core name and its name in `events.k8s.io/v1`.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The core shape always has these; the other leaves them out when empty.
const ALWAYS: &[(&str, &str)] =
    &[("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

/// `from_core`: from the core shape to the other, else back.
pub fn convert(object: &mut Value, from_core: bool) {
    for (core, other) in NAMES {
        let (from, to) = if from_core { (core, other) } else { (other, core) };
        if let Some(value) = object.unset(from) {
            object.set(to, value);
        }
    }
    for (core, other) in ALWAYS {
        if !from_core {
            object.set_default(core, "");
        } else if object.text(other).is_empty() {
            object.unset(other);
        }
    }
}
