//! What a connection proves by itself: its certificate, held against the authorities of clients and of front proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::User;
use crate::config::Config;

type Verifier = Option<Arc<dyn ClientCertVerifier>>;

/// Who may sign certificates of clients, and of front proxies whose headers are believed. The former can be replaced while
/// the server runs.
pub struct Authorities {
    clients: RwLock<Verifier>,
    proxies: Verifier,
    proxy_names: Vec<String>,
    /// Grows with every replacement.
    generation: AtomicU64,
}

impl Authorities {
    pub fn new(config: &Config) -> Result<Self, String> {
        let of = |pem: &Option<String>| pem.as_deref().map(verifier).transpose().map(Option::flatten);
        Ok(Self {
            clients: RwLock::new(of(&config.client_ca_pem).map_err(|e| format!("client CA: {e}"))?),
            proxies: of(&config.front_proxy_ca_pem).map_err(|e| format!("front proxy CA: {e}"))?,
            proxy_names: config.front_proxy_names.clone(),
            generation: AtomicU64::new(0),
        })
    }

    /// Is there anybody whose certificates are believed?
    pub fn any(&self) -> bool {
        self.proxies.is_some() || self.clients.read().is_some()
    }

    /// Believes these authorities (PEM) of clients from now on.
    pub fn replace_clients(&self, pem: &str) -> Result<(), String> {
        let new = verifier(pem)?;
        *self.clients.write() = new;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn verifier(pem: &str) -> Result<Verifier, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Some(built.map_err(|e| e.to_string())?))
}

/// The other end of a connection.
pub struct Peer {
    pub address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    identity: Option<pki::Identity>,
    /// What was found, by which generation of authorities.
    verdicts: Mutex<Option<(u64, Verdicts)>>,
}

#[derive(Clone)]
struct Verdicts {
    client: Option<Result<(), String>>,
    proxy: Option<Result<(), String>>,
}

impl Peer {
    /// `chain`: the certificates that the client sent, its own first; that it has the key is proven, nothing more.
    pub fn new(address: SocketAddr, chain: &[CertificateDer<'_>]) -> Self {
        let identity = chain.first().and_then(|der| pki::identity(der).ok());
        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
        Self { address, chain, identity, verdicts: Mutex::default() }
    }

    fn verdicts(&self, authorities: &Authorities) -> Verdicts {
        let generation = authorities.generation.load(Ordering::Acquire);
        let mut known = self.verdicts.lock();
        if let Some((of, verdicts)) = &*known
            && *of == generation
        {
            return verdicts.clone();
        }
        let hold = |verifier: &Verifier| {
            let (leaf, rest) = self.chain.split_first()?;
            let verified = verifier.as_ref()?.verify_client_cert(leaf, rest, UnixTime::now());
            Some(verified.map(drop).map_err(|e| format!("x509: {e}")))
        };
        let verdicts =
            Verdicts { client: hold(&authorities.clients.read()), proxy: hold(&authorities.proxies) };
        *known = Some((generation, verdicts.clone()));
        verdicts
    }

    /// The user that the client's certificate names.
    pub fn certificate_user(&self, authorities: &Authorities) -> Result<Option<User>, String> {
        let Some(verdict) = self.verdicts(authorities).client else { return Ok(None) };
        verdict?;
        let Some(identity) = self.identity.as_ref().filter(|i| !i.common_name.is_empty()) else {
            return Ok(None);
        };
        let uid = match &identity.uids[..] {
            [] => String::new(),
            [one] if one.is_empty() => return Err("UID cannot be an empty string".to_owned()),
            [one] => one.clone(),
            many => return Err(format!("expected 1 UID, but found multiple: [{}]", many.join(" "))),
        };
        let extra = BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![identity.credential_id.clone()],
        )]);
        let user = User {
            name: identity.common_name.clone(),
            uid,
            groups: identity.organizations.clone(),
            ..User::default()
        };
        Ok(Some(user.with_extra(extra)))
    }

    /// Until when the client's certificate is good, in seconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        self.identity.as_ref().map(|identity| identity.not_after)
    }

    /// The user that a front proxy vouches for in its headers, which are taken out.
    pub fn proxied_user(
        &self,
        authorities: &Authorities,
        config: &Config,
        headers: &mut HeaderMap,
    ) -> Result<Option<User>, String> {
        let Some(verdict) = self.verdicts(authorities).proxy else { return Ok(None) };
        verdict?;
        let name = self.identity.as_ref().map_or("", |i| &i.common_name);
        let allowed = &authorities.proxy_names;
        if !allowed.is_empty() && !allowed.iter().any(|a| a == name) {
            return Err(format!("x509: subject with cn={name} is not in the allowed list"));
        }
        Ok(vouched(&config.access.request_headers, headers))
    }
}

fn vouched(names: &crate::config::RequestHeaders, headers: &mut HeaderMap) -> Option<User> {
    let text = |v: &http::HeaderValue| v.to_str().ok().filter(|t| !t.is_empty()).map(str::to_owned);
    let first = |list: &[String]| list.iter().find_map(|name| headers.get(name).and_then(text));
    let name = first(&names.username)?;
    let uid = first(&names.uid).unwrap_or_default();
    let groups: Vec<String> =
        names.group.iter().flat_map(|name| headers.get_all(name).iter().filter_map(text)).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut spent: Vec<HeaderName> = Vec::new();
    for prefix in &names.extra_prefixes {
        let prefix = prefix.to_ascii_lowercase();
        for (key, value) in headers.iter() {
            if let Some(rest) = key.as_str().strip_prefix(&prefix) {
                let key_text = percent_encoding::percent_decode_str(rest).decode_utf8_lossy().into_owned();
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                extra.entry(key_text).or_default().push(value);
                spent.push(key.clone());
            }
        }
    }
    for list in [&names.username, &names.uid, &names.group] {
        spent.extend(list.iter().filter_map(|name| name.parse().ok()));
    }
    for name in spent {
        headers.remove(name);
    }
    Some(User { name, uid, groups, ..User::default() }.with_extra(extra))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Access;

    #[test]
    fn headers_of_proxies_are_read_and_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "jane"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-uid", "7"),
            ("x-remote-extra-example.com%2fscopes", "one"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let user = vouched(&Access::default().request_headers, &mut headers).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra_value().unwrap()["example.com/scopes"][0], "one");
        assert_eq!(headers.len(), 1);
        assert!(vouched(&Access::default().request_headers, &mut HeaderMap::new()).is_none());
    }
}
