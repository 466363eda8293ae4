//! Continue tokens: where a list goes on, and at which revision.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};

use machinery::{Get, Status, json};

pub struct Token {
    /// -1: at the latest revision (an inconsistent continuation after the first one expired).
    pub revision: i64,
    /// The key to start after, relative to the listed prefix; ends in `\0`.
    pub start: String,
}

impl Token {
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD
            .encode(json!({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start}).to_string())
    }

    pub fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: String| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes = unpadded(text).map_err(|at| bad(format!("illegal base64 data at input byte {at}")))?;
        let value = machinery::codec::json::decode_any(&bytes).map_err(|e| bad(e.to_string()))?;
        let revision = value.int("rv").unwrap_or(0);
        match value.text("v") {
            "meta.k8s.io/v1" if revision == 0 => {
                Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()))
            }
            "meta.k8s.io/v1" => {
                let start = value.text("start");
                if start.is_empty() {
                    return Err(bad("encoded start key empty (version meta.k8s.io/v1)".to_owned()));
                }
                let clean = !start.split('/').any(|s| s == ".." || s == ".");
                if !clean {
                    return Err(bad(start.to_owned()));
                }
                Ok(Self { revision, start: start.to_owned() })
            }
            other => Err(bad(format!("server does not recognize this encoded version {other}"))),
        }
    }
}

/// Base64 without padding; the error is where it stops being that, as Go counts.
fn unpadded(text: &str) -> Result<Vec<u8>, usize> {
    // bits left over at the end are nobody's concern, as in Go
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let first = text.bytes().position(|b| !known(b));
    let decoded = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient).decode(text);
    decoded.map_err(|_| first.unwrap_or(text.len() - 1))
}

/// 410 for a token whose revision is no longer known, with a token that goes on at the latest one.
pub fn expired(start: &str) -> Status {
    let next = Token { revision: -1, start: start.to_owned() }.encode();
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let mut status = Status::expired(message);
    status.list_continue = next;
    status
}
