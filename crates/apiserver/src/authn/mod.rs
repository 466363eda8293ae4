//! Who is asking: client certificates, front proxies, tokens, anonymous; and on whose behalf.

mod anonymous;
mod bootstrap_token;
mod impersonate;
mod jwt;
mod legacy_token;
pub mod oidc;
mod peer;
mod sources;
pub mod token;
mod token_file;
mod token_webhook;
pub mod user;

pub use impersonate::impersonate;
pub use peer::{Authorities, Peer};
pub use sources::{Proof, Sources};
pub use user::{MASTERS, User};

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use machinery::Status;

use crate::authz::aggregate;
use crate::config::Config;
use crate::server::{Core, Error};

/// What a token that nobody knows is answered with.
const INVALID: &str = "invalid bearer token";

/// Keys, the ways to prove who one is, and what follows from them.
pub struct Authn {
    pub signer: Option<pki::Signer>,
    pub verifier: pki::Verifier,
    pub authorities: Authorities,
    pub sources: Sources,
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
        Ok(Self {
            signer,
            verifier: pki::Verifier::new(keys),
            authorities: Authorities::new(config).map_err(Error::Config)?,
            sources: Sources::new(config).map_err(Error::Config)?,
        })
    }
}

/// Tries every way in upstream's order: front proxy, certificate, token; then anonymous, unless something was wrong.
/// Warnings about the credentials go to the client.
pub async fn authenticate(
    core: &Arc<Core>,
    peer: &Peer,
    headers: &mut HeaderMap,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<User, Status> {
    let mut errors = Vec::new();
    for (found, own) in [
        (peer.proxied_user(&core.authn.authorities, &core.config, headers), false),
        (peer.certificate_user(&core.authn.authorities), true),
    ] {
        match found {
            Ok(Some(user)) => {
                headers.remove(AUTHORIZATION);
                if let Some(until) = peer.expires().filter(|_| own) {
                    core.metrics.access.certificate((until - jiff::Timestamp::now().as_second()) as f64);
                }
                return Ok(user.authenticated());
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    let sources = &core.authn.sources;
    if let Some(text) = bearer(headers) {
        match sources.check(core, &text, core.config.api_audiences(), warnings).await {
            Ok(Some(proof)) => {
                headers.remove(AUTHORIZATION);
                return Ok(proof.user.authenticated());
            }
            Ok(None) => errors.push(INVALID.to_owned()),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        // the client is not told why
        tracing::info!(error = %aggregate(&errors), "unable to authenticate the request");
        return Err(Status::unauthorized());
    }
    if sources.anonymous.allows(path) { Ok(User::anonymous()) } else { Err(Status::unauthorized()) }
}

/// What a TokenReview says of a token: whose it is and for whom, or why not.
pub async fn review(core: &Arc<Core>, token: &str, audiences: &[String]) -> Result<Proof, String> {
    let mut warnings = Vec::new();
    // upstream's server asks itself first, who knows nothing of it
    let mut errors = vec![INVALID.to_owned()];
    // a header is cut at blanks
    let token = token.split(' ').next().unwrap_or("");
    match core.authn.sources.check(core, token, audiences, &mut warnings).await {
        Ok(Some(proof)) => return Ok(Proof { user: proof.user.authenticated(), ..proof }),
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    Err(aggregate(&errors))
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
