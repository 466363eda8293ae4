//! Who is asking: client certificates, front proxies, tokens, anonymous; and on whose behalf.

mod bootstrap_token;
mod impersonate;
pub mod oidc;
mod peer;
pub mod token;
mod user;

pub use impersonate::impersonate;
pub use peer::Peer;
pub use user::{MASTERS, User};

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use machinery::Status;

use crate::config::Config;
use crate::server::{Core, Error};

/// Keys and what follows from them.
pub struct Authn {
    pub signer: Option<pki::Signer>,
    pub verifier: pki::Verifier,
}

impl Authn {
    pub fn new(config: &Config) -> Result<Self, Error> {
        let wrong = |e: pki::Error| Error::Config(format!("service account keys: {e}"));
        let signer =
            config.signing_key_pem.as_deref().map(pki::Signer::from_pem).transpose().map_err(wrong)?;
        let mut keys = Vec::new();
        for pem in &config.verifying_keys_pem {
            keys.extend(pki::PublicKey::all_from_pem(pem).map_err(wrong)?);
        }
        if keys.is_empty() {
            keys.extend(signer.as_ref().map(pki::Signer::public));
        }
        Ok(Self { signer, verifier: pki::Verifier::new(keys) })
    }
}

/// Tries every way in upstream's order: front proxy, certificate, token; then anonymous.
pub async fn authenticate(core: &Arc<Core>, peer: &Peer, headers: &mut HeaderMap) -> Result<User, Status> {
    if let Some(user) = peer.proxied_user(headers) {
        headers.remove(AUTHORIZATION);
        return Ok(user.authenticated());
    }
    if let Some(user) = &peer.certificate_user {
        headers.remove(AUTHORIZATION);
        return Ok(user.clone().authenticated());
    }
    if let Some(text) = bearer(headers) {
        let user = token::authenticate(core, &text, core.config.api_audiences()).await;
        headers.remove(AUTHORIZATION);
        return match user {
            Some(user) => Ok(user.authenticated()),
            None => Err(Status::unauthorized()),
        };
    }
    if core.config.anonymous { Ok(User::anonymous()) } else { Err(Status::unauthorized()) }
}

/// The token of an `Authorization: Bearer` header, or of a WebSocket subprotocol
/// (`base64url.bearer.authorization.k8s.io.TOKEN`).
fn bearer(headers: &mut HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let mut words = value.trim().split(' ');
        if words.next()?.eq_ignore_ascii_case("bearer") {
            return words.next().filter(|t| !t.is_empty()).map(str::to_owned);
        }
    }
    let protocols = headers.get("sec-websocket-protocol")?.to_str().ok()?.to_owned();
    let prefix = "base64url.bearer.authorization.k8s.io.";
    let mut found = None;
    let mut rest = Vec::new();
    for protocol in protocols.split(',').map(str::trim) {
        match protocol.strip_prefix(prefix) {
            Some(encoded) => found = Some(encoded.to_owned()),
            None => rest.push(protocol),
        }
    }
    use base64::Engine;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(found?).ok()?;
    if let Ok(value) = rest.join(", ").parse() {
        headers.insert("sec-websocket-protocol", value);
    }
    String::from_utf8(token).ok()
}
