//! A provider: its discovery document, which is asked for until it is there, and its keys, which are read when a token
//! comes that none of those known has signed.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderMap;
use machinery::{Get, Value};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::remote::{Client, Settings};

/// Between two tries to find a provider; a token of it hurries the next one, which still keeps some distance.
const AGAIN: Duration = Duration::from_secs(10);
const APART: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys are read again so long before they expire.
const BEFORE: Duration = Duration::from_secs(30);
/// Redirections that are followed.
const REDIRECTS: usize = 10;

/// The authorities of a provider's certificate; none for those of the host.
#[derive(Clone, Debug, Default)]
pub struct Trust(Option<String>);

impl Trust {
    /// `pem`: "" for the host's.
    pub fn new(pem: &str) -> Result<Self, String> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        if pem.is_empty() {
            return Ok(Self(None));
        }
        if !CertificateDer::pem_slice_iter(pem.as_bytes()).any(|c| c.is_ok()) {
            return Err("data does not contain any valid RSA or ECDSA certificates".to_owned());
        }
        Ok(Self(Some(pem.to_owned())))
    }

    /// GETs a document. `token`: for the `Authorization` header.
    pub async fn get(&self, url: &str, token: Option<&str>) -> Result<(HeaderMap, bytes::Bytes), String> {
        let answer = tokio::time::timeout(TIMEOUT, self.follow(url, token)).await;
        answer.map_err(|_| {
            format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
        })?
    }

    async fn follow(&self, url: &str, token: Option<&str>) -> Result<(HeaderMap, bytes::Bytes), String> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let settings = Settings {
                url: url.clone(),
                ca_pem: self.0.clone(),
                authorization: token.map(|t| format!("Bearer {t}")),
                ..Settings::default()
            };
            let answer = Client::new(&settings)?.fetch().await.map_err(|e| e.to_string())?;
            let next = answer.headers.get(http::header::LOCATION).and_then(|l| l.to_str().ok());
            match (answer.status, next) {
                (301 | 302 | 303 | 307 | 308, Some(next)) => url = joined(&url, next),
                (200, _) => return Ok((answer.headers, answer.body)),
                (status, _) => return Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body))),
            }
        }
        Err(format!("Get {url:?}: stopped after {REDIRECTS} redirects"))
    }
}

/// Where a redirection leads: an address of its own, or a path at the same server.
fn joined(url: &str, next: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|_| next.starts_with('/')) else {
        return next.to_owned();
    };
    format!("{scheme}://{}{next}", rest.split('/').next().unwrap_or(""))
}

pub struct Provider {
    issuer: String,
    discovery: String,
    trust: Trust,
    /// Where its keys are, once it was found.
    jwks: OnceLock<String>,
    state: watch::Sender<State>,
    hurry: Notify,
    keys: Mutex<Arc<Keys>>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Unasked,
    /// Why it was not found when it was looked for last.
    Failed(String),
    Found,
}

/// The outcome of the last reading.
#[derive(Default)]
struct Keys {
    set: pki::Verifier,
    expire: Option<Instant>,
    read: Option<Instant>,
    error: String,
}

impl Provider {
    /// `discovery`: the URL of the discovery document, "" for the issuer's own.
    pub fn new(issuer: &str, discovery: &str, trust: Trust) -> Arc<Self> {
        let own = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        Arc::new(Self {
            issuer: issuer.to_owned(),
            discovery: if discovery.is_empty() { own } else { discovery.to_owned() },
            trust,
            jwks: OnceLock::new(),
            state: watch::Sender::new(State::Unasked),
            hurry: Notify::new(),
            keys: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Looks for the provider until it is found or forgotten. Needs a runtime.
    pub fn start(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(provider) = weak.upgrade() {
                let Err(error) = provider.find().await else { return };
                tracing::error!(issuer = provider.issuer, %error, "oidc authenticator: initializing plugin");
                provider.state.send_replace(State::Failed(error));
                let began = Instant::now();
                let _ = tokio::time::timeout(AGAIN, provider.hurry.notified()).await;
                tokio::time::sleep(APART.saturating_sub(began.elapsed())).await;
            }
        });
    }

    async fn find(&self) -> Result<(), String> {
        let (_, body) = self.trust.get(&self.discovery, None).await?;
        let document: Value = serde_json::from_slice(&body)
            .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
        let says = document.text("issuer");
        if says != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {says:?}",
                self.issuer
            ));
        }
        let jwks = document.text("jwks_uri");
        if jwks.is_empty() {
            return Err("provider did not return JWKS URL".to_owned());
        }
        let _ = self.jwks.set(jwks.to_owned());
        self.state.send_replace(State::Found);
        Ok(())
    }

    /// Resolves when the provider was found.
    pub async fn found(&self) {
        // the sender lives as long as this
        let _ = self.state.subscribe().wait_for(|state| *state == State::Found).await;
    }

    /// Resolves when it was looked for at least once.
    pub async fn tried(&self) {
        let _ = self.state.subscribe().wait_for(|state| *state != State::Unasked).await;
    }

    /// Why the provider is of no use, if so.
    pub fn sick(&self) -> Option<String> {
        let why = match &*self.state.borrow() {
            State::Found => return None,
            State::Unasked => format!("oidc: authenticator for issuer {:?} is not initialized", self.issuer),
            State::Failed(why) => why.clone(),
        };
        Some(format!("oidc: authenticator for issuer {:?} is not healthy: {why}", self.issuer))
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The claims of a token that one of the provider's keys signed; what is wrong with it.
    ///
    /// # Errors
    /// The outer one if the provider was not found yet.
    pub async fn verify(&self, token: &str) -> Result<Result<Value, String>, String> {
        let Some(jwks) = self.jwks.get() else {
            self.hurry.notify_one();
            return Err("oidc: authenticator not initialized".to_owned());
        };
        let unsigned = || Err("failed to verify signature: failed to verify id token signature".to_owned());
        let keys = self.keys.lock().clone();
        if let Some(claims) = keys.set.verify(token) {
            return Ok(Ok(claims));
        }
        let now = Instant::now();
        if keys.expire.is_some_and(|at| now + BEFORE <= at) {
            return Ok(unsigned());
        }
        let keys = self.reread(jwks, now).await;
        if !keys.error.is_empty() {
            return Ok(Err(format!("failed to verify signature: fetching keys {}", keys.error)));
        }
        Ok(keys.set.verify(token).map_or_else(unsigned, Ok))
    }

    /// The keys as of `asked` or later. One reading serves all who wait for it.
    async fn reread(&self, jwks: &str, asked: Instant) -> Arc<Keys> {
        let _turn = self.reading.lock().await;
        let known = self.keys.lock().clone();
        if known.read.is_some_and(|at| at >= asked) {
            return known;
        }
        let read = match self.trust.get(jwks, None).await {
            Ok((headers, body)) => serde_json::from_slice::<Value>(&body)
                .map(|set| (pki::Verifier::from_jwks(&set), fresh(&headers)))
                .map_err(|e| format!("oidc: failed to decode keys: {e} {}", String::from_utf8_lossy(&body))),
            Err(e) => Err(format!("oidc: get keys failed: {e}")),
        };
        let read_at = Some(Instant::now());
        let keys = match read {
            Ok((set, life)) => {
                Keys { set, expire: Some(Instant::now() + life), read: read_at, error: String::new() }
            }
            // the old ones stay
            Err(error) => Keys { set: known.set.clone(), expire: known.expire, read: read_at, error },
        };
        let keys = Arc::new(keys);
        *self.keys.lock() = keys.clone();
        keys
    }
}

/// How long a shared cache may keep an answer (RFC 9111); zero if nothing says so.
fn fresh(headers: &HeaderMap) -> Duration {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let (mut max_age, mut shared) = (None, None);
    for directive in text(http::header::CACHE_CONTROL).split(',') {
        let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        let seconds = value.trim_matches('"').parse().ok();
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" | "private" => return Duration::ZERO,
            "max-age" => max_age = seconds,
            "s-maxage" => shared = seconds,
            _ => {}
        }
    }
    if let Some(seconds) = shared.or(max_age) {
        let age = text(http::header::AGE).parse().unwrap_or(0);
        // no longer than a century: what is added to now must be a time
        return Duration::from_secs(u64::min(seconds, 3_155_760_000).saturating_sub(age));
    }
    let at = |name| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text(name)).ok();
    match (at(http::header::EXPIRES), at(http::header::DATE)) {
        (Some(expires), date) => {
            let from = date.unwrap_or_else(jiff::Timestamp::now);
            Duration::from_secs(u64::try_from(expires.as_second() - from.as_second()).unwrap_or(0))
                .min(Duration::from_secs(3_155_760_000))
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_how_long_they_hold() {
        let check = |headers: &[(&'static str, &str)], want: u64| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            assert_eq!(fresh(&map), Duration::from_secs(want), "{headers:?}");
        };
        check(&[], 0);
        check(&[("cache-control", "public, max-age=3600")], 3600);
        check(&[("cache-control", "max-age=60, s-maxage=\"90\""), ("age", "30")], 60);
        check(&[("cache-control", "private, max-age=60")], 0);
        check(&[("cache-control", "no-store")], 0);
        let (date, expires) = ("Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:01:00 GMT");
        check(&[("date", date), ("expires", expires)], 60);
        check(&[("date", expires), ("expires", date)], 0);
        check(&[("expires", "0")], 0);
    }

    #[test]
    fn redirections_lead_somewhere() {
        assert_eq!(joined("https://a:1/x/y", "/z"), "https://a:1/z");
        assert_eq!(joined("https://a/x", "https://b/z"), "https://b/z");
    }
}
