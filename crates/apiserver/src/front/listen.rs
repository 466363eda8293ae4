//! Sockets: TLS, HTTP/1.1 and HTTP/2, each connection a task; graceful end.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::DistinguishedName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Socket, incoming};
use super::connection::{Activity, Counted, Guarded, Metered};
use super::pipeline::{Caller, answer};
use crate::authn::Peer;
use crate::config::Config;
use crate::server::{Core, Error};

/// How long connections may finish what they do at shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// Bytes of a request's line and headers; more is answered with 431.
const MAX_HEAD: usize = 1024 * 1024 + 4096;

/// Bytes of a request's body that are taken before somebody reads them, and of one HTTP/2 frame; as upstream.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The TLS side of the server: certificates of clients are asked for, not required, and judged by authentication, so that
/// a bad one is answered with a Status and not with a broken connection.
pub fn tls(config: &Config, ask_clients: bool) -> Result<TlsAcceptor, Error> {
    let wrong = |what: &str, e: &dyn std::fmt::Display| Error::Config(format!("{what}: {e}"));
    let missing = || Error::Config("serving over TLS needs a serving certificate and key".to_owned());
    let chain = config.serving_cert_pem.as_ref().ok_or_else(missing)?;
    let key = config.serving_key_pem.as_ref().ok_or_else(missing)?;
    let chain: Vec<CertificateDer> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| wrong("serving certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong("serving key", &e))?;
    let mut provider = rustls::crypto::ring::default_provider();
    let fast_aes = has_aes();
    if fast_aes {
        // as Go's server: 128 bits are enough and cost less, whatever the client has first
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    }
    let provider = Arc::new(provider);
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| wrong("TLS", &e))?;
    let builder = if ask_clients {
        builder.with_client_cert_verifier(Arc::new(AskOnly(provider)))
    } else {
        builder.with_no_client_auth()
    };
    let mut tls = builder.with_single_cert(chain, key).map_err(|e| wrong("serving certificate", &e))?;
    tls.ignore_client_order = fast_aes;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// Has this machine instructions for AES? ChaCha20 is better where there are none, and clients then ask for it.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Asks for a certificate and has the client prove that it has the key; whose it is, is not its business.
#[derive(Debug)]
struct AskOnly(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None are named: the authorities may change while the server runs.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts until `shutdown`; then lets connections finish, within bounds.
pub async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let connections = TaskTracker::new();
    let closing = CancellationToken::new();
    // those that ask whether it is ready learn it before they are turned away
    let end = async {
        shutdown.cancelled().await;
        core.ending.store(true, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(core.config.serving.shutdown_delay).await;
    };
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(pair) => pair,
            Err(error) => {
                // out of descriptors or a connection reset before it was taken: neither ends the server
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (core, acceptor, closing) = (core.clone(), acceptor.clone(), closing.clone());
        connections.spawn(async move {
            if let Err(error) = connection(core, socket, address, acceptor, closing).await {
                tracing::debug!(%error, %address, "connection ended");
            }
        });
    }
    drop(listener);
    closing.cancel();
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

/// Who sent a request, for those that hand it on. Not there for requests from within.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub std::net::IpAddr);

async fn connection(
    core: Arc<Core>,
    socket: TcpStream,
    address: std::net::SocketAddr,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) -> Result<(), super::body::BoxError> {
    socket.set_nodelay(true)?;
    keep_alive(&socket);
    let accepted = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(socket)).await;
    if !matches!(accepted, Ok(Ok(_))) {
        core.metrics.handshake_failed();
    }
    let stream = accepted??;
    let tls = stream.get_ref().1;
    let peer = Arc::new(Peer::new(address, tls.peer_certificates().unwrap_or_default()));
    let http1 = tls.alpn_protocol() != Some(b"h2");
    let limits = core.config.serving;
    let activity = Activity::new(limits, core.config.request_timeout);
    let (known, ending) = (activity.clone(), shutdown.clone());
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ClientAddress(address.ip()));
        let (core, caller) = (core.clone(), Caller::Remote(peer.clone()));
        let (entered, began) = (known.enter(), tokio::time::Instant::now());
        let chance = limits.goaway_chance;
        if chance > 0.0 && !http1 && crate::registry::fields::random_fraction() < chance {
            known.leave();
        }
        let ending = ending.clone();
        async move {
            let mut request = request.map(incoming);
            let http2 = request.version() == http::Version::HTTP_2;
            request.extensions_mut().insert(Socket { http2 });
            let answer = answer(core, caller, request).await;
            Ok::<_, std::convert::Infallible>(Counted::answer(answer, entered, began, &ending))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // of an idle connection too: heads have a time of their own
        .header_read_timeout(limits.idle + Duration::from_secs(1))
        .max_headers(1000)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(MAX_HEAD as u32)
        .max_frame_size(STREAM_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        // requests that wait for their turn don't keep others' bodies from coming
        .initial_connection_window_size(STREAM_WINDOW * limits.max_streams)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(15));
    let io = TokioIo::new(Metered::new(stream, activity.clone()));
    let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
    Guarded::new(connection, activity, http1, &shutdown).await
}

/// A client that went away without a word is noticed: while nothing is sent by probes, as Go sends them, and else by what
/// it does not acknowledge.
fn keep_alive(socket: &TcpStream) {
    use rustix::net::sockopt;
    let period = Duration::from_secs(180);
    let set = sockopt::set_socket_keepalive(socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(socket, period))
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, Duration::from_secs(30)))
        .and_then(|()| sockopt::set_tcp_keepcnt(socket, 4))
        .and_then(|()| sockopt::set_tcp_user_timeout(socket, 120_000));
    if let Err(error) = set {
        tracing::debug!(%error, "a socket's keep-alive can't be set");
    }
}
