//! Objects as upstream's messages show its internal types: Go's field names in the order of the structs, nothing left
//! out.

use machinery::Value;

/// On one line.
pub(crate) fn compact(_type_name: &str, value: &Value) -> String {
    value.to_string()
}
