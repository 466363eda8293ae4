//! The TLS settings of the node's own API.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::agent::Server;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the node's serving certificate or client authority cannot be used: {0}")]
pub struct TlsError(String);

impl Server {
    /// Serves with a certificate chain and key (PEM); knows clients by certificates of `client_authority` (PEM), and
    /// lets those without one come with a bearer token.
    pub fn from_pem(
        address: SocketAddr,
        certificates: &str,
        key: &str,
        client_authority: &str,
    ) -> Result<Server, TlsError> {
        let wrong = |e: &dyn std::fmt::Display| TlsError(e.to_string());
        let parse = |pem: &str| {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| wrong(&e))
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in parse(client_authority)? {
            roots.add(certificate).map_err(|e| wrong(&e))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| wrong(&e))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong(&e))?;
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(parse(certificates)?, key)
            .map_err(|e| wrong(&e))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Server { address, tls: Arc::new(tls) })
    }
}
