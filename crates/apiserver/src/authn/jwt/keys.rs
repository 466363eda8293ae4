//! A provider's keys: found by its discovery document when the first token comes, read again when a token names one that is
//! not known.

use std::time::{Duration, Instant};

use machinery::{Get, Value};
use tokio::sync::Mutex;

use crate::remote::{Client, Settings};

/// A provider is not asked more often than this.
const APART: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Keys {
    issuer: String,
    discovery: String,
    ca_pem: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    set: Option<pki::Verifier>,
    asked: Option<Instant>,
    error: String,
}

impl Keys {
    /// `discovery`: the URL of the discovery document, "" for the issuer's own.
    pub fn new(issuer: &str, discovery: &str, ca_pem: Option<String>) -> Self {
        let own = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery = if discovery.is_empty() { own } else { discovery.to_owned() };
        Self { issuer: issuer.to_owned(), discovery, ca_pem, state: Mutex::default() }
    }

    /// The claims of a token that one of the provider's keys signed.
    pub async fn verify(&self, token: &str, algorithms: &[String]) -> Result<Value, String> {
        let unsigned = "oidc: verify token: failed to verify signature: failed to verify id token signature";
        let algorithm = pki::token::algorithm(token).unwrap_or_default();
        if !algorithms.contains(&algorithm) {
            return Err(format!(
                "oidc: verify token: oidc: malformed jwt: unexpected signature algorithm {algorithm:?}; expected [{}]",
                algorithms.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(" ")
            ));
        }
        let mut state = self.state.lock().await;
        if let Some(claims) = state.set.as_ref().and_then(|set| set.verify(token)) {
            return Ok(claims);
        }
        if state.asked.is_none_or(|at| at.elapsed() >= APART) {
            state.asked = Some(Instant::now());
            match self.read().await {
                Ok(set) => state.set = Some(set),
                Err(error) => {
                    tracing::warn!(issuer = %self.issuer, %error, "can't read the keys of an OpenID provider");
                    state.error = error;
                }
            }
        }
        let Some(set) = &state.set else { return Err("oidc: authenticator not initialized".to_owned()) };
        set.verify(token).ok_or_else(|| unsigned.to_owned())
    }

    async fn read(&self) -> Result<pki::Verifier, String> {
        let document = self.fetch(&self.discovery).await?;
        let says = document.text("issuer");
        if says != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {says:?}",
                self.issuer
            ));
        }
        let set = self.fetch(document.text("jwks_uri")).await?;
        Ok(pki::Verifier::from_jwks(&set))
    }

    async fn fetch(&self, url: &str) -> Result<Value, String> {
        let settings = Settings { url: url.to_owned(), ca_pem: self.ca_pem.clone(), ..Settings::default() };
        let client = Client::new(&settings)?;
        let uri: http::Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let answer = tokio::time::timeout(TIMEOUT, client.get(path)).await;
        let bytes = answer.map_err(|_| format!("{url}: no answer in time"))?.map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|e| format!("{url}: {e}"))
    }
}
