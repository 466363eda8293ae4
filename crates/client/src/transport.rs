//! Clients: over HTTPS from a kubeconfig, or over a service that runs in this process.

use std::path::Path;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, Service, ServiceExt};

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kubeconfig {path} cannot be used")]
    Kubeconfig {
        path: String,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("the client cannot be set up")]
    Client(#[source] kube::Error),
}

/// A client whose requests are answered by `service` in this process: no socket, no TLS.
///
/// The service carries the caller's identity itself; `user_agent` names the component in managed fields and
/// audit records.
pub fn in_process<S, B>(service: S, user_agent: &str) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let agent = HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("r8s"));
    let service = service.map_request(move |mut request: Request<Body>| {
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| agent.clone());
        request
    });
    kube::Client::new(service, "default")
}

/// A client over HTTPS by a kubeconfig file's current context.
///
/// Needs the process to have a default TLS provider installed, and a runtime to run in.
pub async fn from_kubeconfig(path: &Path, user_agent: &str) -> Result<kube::Client, Error> {
    let named = |source| Error::Kubeconfig { path: path.display().to_string(), source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(named)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(named)?;
    from_config(config, user_agent)
}

/// A client over HTTPS by a ready configuration.
pub fn from_config(mut config: kube::Config, user_agent: &str) -> Result<kube::Client, Error> {
    // Watches are quiet for minutes; the informers watch over dead connections themselves.
    config.read_timeout = None;
    let agent = HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("r8s"));
    config.headers.push((USER_AGENT, agent));
    Ok(ClientBuilder::try_from(config).map_err(Error::Client)?.build())
}
