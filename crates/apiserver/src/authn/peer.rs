//! What a connection proves by itself: its certificate.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::HeaderMap;

use super::User;
use crate::config::Config;

/// The other end of a connection.
pub struct Peer {
    pub address: SocketAddr,
    /// The user that the client certificate names, unless it is a front proxy's.
    pub certificate_user: Option<User>,
    /// The certificate is one of a front proxy, whose headers are believed.
    is_proxy: bool,
}

impl Peer {
    /// `certificate` is DER, and has been verified against the client and front-proxy CAs.
    pub fn new(address: SocketAddr, certificate: Option<&[u8]>, config: &Config) -> Self {
        let identity = certificate.and_then(|der| pki::identity(der).ok());
        let Some(identity) = identity else {
            return Self { address, certificate_user: None, is_proxy: false };
        };
        let allowed = &config.front_proxy_names;
        let is_proxy = config.front_proxy_ca_pem.is_some()
            && !allowed.is_empty()
            && allowed.contains(&identity.common_name);
        let extra = BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![identity.credential_id.clone()],
        )]);
        let user = User {
            name: identity.common_name.clone(),
            groups: identity.organizations.clone(),
            ..User::default()
        }
        .with_extra(extra);
        let certificate_user = (!is_proxy && !identity.common_name.is_empty()).then_some(user);
        Self { address, certificate_user, is_proxy }
    }

    /// The user that a front proxy vouches for in its headers, which are taken out.
    pub fn proxied_user(&self, headers: &mut HeaderMap) -> Option<User> {
        if !self.is_proxy {
            return None;
        }
        let text = |v: &http::HeaderValue| v.to_str().ok().map(str::to_owned);
        let name = headers.remove("x-remote-user").as_ref().and_then(text).filter(|n| !n.is_empty())?;
        let groups = headers.get_all("x-remote-group").iter().filter_map(text).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in headers.iter() {
            if let (Some(key), Some(value)) = (key.as_str().strip_prefix("x-remote-extra-"), text(value)) {
                let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().push(value);
            }
        }
        let uid = headers.get("x-remote-uid").and_then(text).unwrap_or_default();
        Some(User { name, uid, groups, ..User::default() }.with_extra(extra))
    }
}
