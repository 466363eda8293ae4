//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch, with upstream's limits and
//! error messages.
//!
//! [`json::Patch::decode`], [`merge::decode`] and [`strategic::decode`] read the body of a request; with `strict` they
//! report duplicate and unknown fields of the patch itself (as [`crate::codec::json::Decoded::strict`]). `apply` makes
//! the patched object, which then is read by schema ([`crate::codec::json::convert`] for strategic merge patch).

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

use crate::status::Status;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch is no patch.
    #[error("{0}")]
    Bad(String),
    /// 413
    #[error("{0}")]
    TooLarge(String),
    /// 422: the patch does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
    /// 500: upstream returns these errors bare.
    #[error("{0}")]
    Internal(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Bad(_) => Status::bad_request(message),
            Error::TooLarge(_) => Status::new(413, "RequestEntityTooLarge", message),
            Error::Unprocessable(_) => Status::new(422, "Invalid", message),
            Error::Internal(_) => Status::new(500, "", message),
        }
    }
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`, null as `<nil>`.
pub fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_print(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
