//! What others need to check service-account tokens: the discovery document and the keys.

use http::header::{CACHE_CONTROL, HeaderValue};
use machinery::{Status, json};

use crate::front::respond::{self, Answer};
use crate::server::Core;

pub fn answer(core: &Core, keys: bool, head: &http::request::Parts) -> Result<Answer, Status> {
    let accept = head.headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let document = if keys {
        let ok = accept.is_empty() || accept.contains("*/*") || accept.contains("application/jwk-set+json");
        if !ok {
            return Err(Status::new(
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/jwk-set+json",
            ));
        }
        core.authn.verifier.jwks()
    } else {
        let issuer = core.config.issuers.first().map_or("", String::as_str);
        let algorithm = core.authn.signer.as_ref().map_or("RS256", pki::Signer::algorithm);
        let own = || format!("https://{}/openid/v1/jwks", core.config.external_address());
        let jwks_uri = core.config.access.jwks_uri.clone().unwrap_or_else(own);
        json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
        })
    };
    let kind = if keys { "application/jwk-set+json" } else { "application/json" };
    let mut answer = respond::bytes(200, kind, respond::json(&document, false));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(answer)
}
