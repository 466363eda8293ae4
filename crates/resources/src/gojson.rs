//! What Go's `encoding/json` says of bytes that are not a JSON object.

/// The message; None if the bytes are a JSON object or null.
pub(crate) fn object_error(bytes: &[u8]) -> Option<String> {
    let error = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(serde_json::Value::Object(_) | serde_json::Value::Null) => return None,
        Ok(other) => {
            let kind = match other {
                serde_json::Value::Array(_) => "array",
                serde_json::Value::Bool(_) => "bool",
                serde_json::Value::Number(_) => "number",
                _ => "string",
            };
            return Some(format!(
                "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            ));
        }
        Err(error) => error,
    };
    if error.is_eof() {
        return Some("unexpected end of JSON input".into());
    }
    let at = bytes.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = at.get(error.column().saturating_sub(1)).copied().unwrap_or(b' ') as char;
    let before = bytes.iter().all(|b| b.is_ascii_whitespace() || *b as char == found);
    let place = if before || error.line() == 1 && error.column() <= 1 {
        "looking for beginning of value"
    } else {
        "looking for beginning of object key string"
    };
    Some(format!("invalid character '{found}' {place}"))
}
