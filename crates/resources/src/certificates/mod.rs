//! certificates.k8s.io.
//!
//! What is in certificates and requests (X.509) is not looked at, only their PEM frames.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

pub(crate) mod clustertrustbundle;
pub(crate) mod podcertificaterequest;
pub(crate) mod signingrequest;

/// The types of the PEM blocks in a text, and the bytes in them.
fn pem_blocks(text: &str) -> Vec<(&str, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once("-----BEGIN ") {
        let Some((kind, body)) = tail.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {kind}-----")) else { break };
        let code: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        if let Ok(bytes) = BASE64_STANDARD.decode(code) {
            out.push((kind, bytes));
        }
        rest = after;
    }
    out
}
