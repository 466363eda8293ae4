//! managedFields: who owns what.

use machinery::{Status, Value};

use crate::registry::Call;

pub fn managed_update(_call: &Call, _live: Option<&Value>, _object: &mut Value, _manager: &str) {}

pub fn managed_apply(
    _call: &Call,
    live: &Value,
    patch: &Value,
    _manager: &str,
    _force: bool,
) -> Result<Value, Status> {
    Ok(machinery::patch::merge::apply(live, patch))
}

pub fn keep_times(_old: &Value, _new: &mut Value) {}
