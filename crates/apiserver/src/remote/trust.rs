//! Whose certificates are believed. As Go has it, a certificate that is itself among the authorities is good for the names
//! in it, also when it is no authority or is one and serves: what `openssl req -x509` makes is used like that.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

#[derive(Debug)]
pub struct Trust {
    /// None where there are no authorities: nobody is believed.
    chains: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// `pem`: the authorities. `strict`: all of them must be understood, as is asked of those that somebody configured.
    pub fn new(pem: &[u8], strict: bool) -> Result<Arc<Self>, String> {
        let mut roots = rustls::RootCertStore::empty();
        let mut authorities = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| e.to_string())?;
            let added = roots.add(certificate.clone());
            if strict {
                added.map_err(|e| e.to_string())?;
                authorities.push(certificate);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chains = (!roots.is_empty()).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|e| e.to_string())
        });
        Ok(Arc::new(Self { chains: chains.transpose()?, provider, authorities }))
    }

    /// Is it one of the authorities itself, in its time, and for that name?
    fn itself(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
        if !self.authorities.iter().any(|known| known == certificate) {
            return false;
        }
        let at = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
        let in_time = X509Certificate::from_der(certificate)
            .is_ok_and(|(_, read)| at.is_some_and(|at| read.validity().is_valid_at(at)));
        let named = ParsedCertificate::try_from(certificate)
            .and_then(|read| rustls::client::verify_server_name(&read, name));
        in_time && named.is_ok()
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chains) = &self.chains else { return Err(CertificateError::UnknownIssuer.into()) };
        match chains.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(_) if self.itself(certificate, name, now) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=hook -addext
    /// subjectAltName=IP:127.0.0.1 -days 36500`: an authority that serves.
    const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBhjCCASygAwIBAgIUJHDTp692nuyQKMEChPkHOWZstTEwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEaG9vazAgFw0yNjExMjEyMTMyMzBaGA8yMTI2MTAyODIxMzIz\n\
        MFowDzENMAsGA1UEAwwEaG9vazBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABO95\n\
        45KN2xGK7U5x2tI0+sDbFAUdk/liawtLGmftDmNemKBY67dQ01aoj6VKY/KYiCOr\n\
        +tlowA61JF2xiUomLaqjZDBiMB0GA1UdDgQWBBTc+DWwehhtNiGkrFbXyI1mu+Rw\n\
        MzAfBgNVHSMEGDAWgBTc+DWwehhtNiGkrFbXyI1mu+RwMzAPBgNVHRMBAf8EBTAD\n\
        AQH/MA8GA1UdEQQIMAaHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIhAKeUQ9C5Zqq7\n\
        9eqQIsFSCcGQtxRbFmMkhxeWjg8J1IdSAiBdWlrHRfWGzUdAz24buB84e0i/haCo\n\
        RfTKEcKSzAZ2Rw==\n\
        -----END CERTIFICATE-----";

    #[test]
    fn an_authority_may_serve() {
        let trust = Trust::new(SELF_SIGNED.as_bytes(), true).unwrap();
        let leaf = CertificateDer::from_pem_slice(SELF_SIGNED.as_bytes()).unwrap();
        let check = |name: &str, at: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            trust.verify_server_cert(
                &leaf,
                &[],
                &name,
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(at)),
            )
        };
        assert!(check("127.0.0.1", 1_900_000_000).is_ok());
        assert!(check("127.0.0.2", 1_900_000_000).is_err(), "another name");
        assert!(check("127.0.0.1", 1_000_000_000).is_err(), "before its time");
        let nobody = Trust::new(&[], true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        assert!(nobody.verify_server_cert(&leaf, &[], &name, &[], now).is_err());
    }
}
