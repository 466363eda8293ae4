//! The way to a remote API server: where its Service leads, TLS with the proxy's certificate, who the request is of.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use machinery::{Get, Value};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authn::User;
use crate::config::Config;
use crate::front::body::incoming;
use crate::server::Core;
use crate::subresource::connect::client::{Anybody, Connection, Outgoing, exchange};

/// The largest discovery or OpenAPI document taken from a remote server.
const LARGEST: usize = 32 * 1024 * 1024;

/// Where a remote APIService's requests go.
pub struct Backend {
    /// The APIService: `v1.example.com`.
    pub name: String,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    ca_pem: Vec<u8>,
    insecure: bool,
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
}

impl Backend {
    /// `None` for local APIServices.
    pub fn of(api: &Value) -> Option<Self> {
        let spec = api.at("spec");
        let service = spec.at("service");
        if !service.is_object() {
            return None;
        }
        Some(Self {
            name: machinery::meta::name(api).to_owned(),
            namespace: service.text("namespace").to_owned(),
            service: service.text("name").to_owned(),
            port: service.int("port").and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
            ca_pem: BASE64_STANDARD.decode(spec.text("caBundle")).unwrap_or_default(),
            insecure: spec.flag("insecureSkipTLSVerify") == Some(true),
            tls: OnceLock::new(),
        })
    }

    /// Leads to the same place in the same way?
    pub fn same(&self, other: &Self) -> bool {
        let key = |b: &Self| (b.namespace.clone(), b.service.clone(), b.port, b.ca_pem.clone(), b.insecure);
        key(self) == key(other)
    }

    /// Host and port; the error is for logs.
    pub fn resolve(&self, core: &Core) -> Result<(String, u16), String> {
        let key = format!("{}/{}", self.namespace, self.service);
        let service = cached(core, "", "services", &key)
            .ok_or_else(|| format!("service {:?} not found", self.service))?;
        let spec = service.at("spec");
        let has_port = spec.list("ports").iter().any(|p| p.int("port") == Some(i64::from(self.port)));
        if spec.text("type") == "ExternalName" {
            return Ok((spec.text("externalName").to_owned(), self.port));
        }
        if core.config.aggregator_routing {
            return self.endpoint(core, spec);
        }
        match spec.text("clusterIP") {
            "None" => Err("cannot route to service with ClusterIP \"None\"".to_owned()),
            _ if !has_port => {
                Err(format!("no service port {} found for service {:?}", self.port, self.service))
            }
            address => Ok((address.to_owned(), self.port)),
        }
    }

    /// A ready endpoint, any of them.
    fn endpoint(&self, core: &Core, spec: &Value) -> Result<(String, u16), String> {
        let port = spec.list("ports").iter().find(|p| p.int("port") == Some(i64::from(self.port)));
        let port = port.map_or("", |p| p.text("name"));
        let mut places = Vec::new();
        for slice in slices(core, &self.namespace, &self.service) {
            let number = slice.list("ports").iter().find(|p| p.text("name") == port);
            let Some(number) = number.and_then(|p| p.int("port")).and_then(|p| u16::try_from(p).ok()) else {
                continue;
            };
            let ready = |e: &&Value| e.at("conditions").flag("ready") != Some(false);
            for endpoint in slice.list("endpoints").iter().filter(ready) {
                let first = endpoint.list("addresses").first().and_then(Value::as_str);
                places.extend(first.map(|ip| (ip.to_owned(), number)));
            }
        }
        if places.is_empty() {
            return Err(format!("no endpoints available for service {:?}", self.service));
        }
        let at = (crate::registry::fields::random_u64() % places.len() as u64) as usize;
        Ok(places.swap_remove(at))
    }

    /// The name that the server's certificate must be for.
    fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    pub async fn connect(&self, core: &Core, host: &str, port: u16) -> Result<Box<dyn Connection>, String> {
        let tls = self.tls.get_or_init(|| tls(&core.config, &self.ca_pem, self.insecure)).clone()?;
        let socket = TcpStream::connect((host, port)).await;
        let socket = socket.map_err(|e| format!("dial tcp {host}:{port}: {}", cause(&e)))?;
        let _ = socket.set_nodelay(true);
        let name = ServerName::try_from(self.server_name()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(tls).connect(name, socket).await;
        Ok(Box::new(stream.map_err(|e| format!("tls: failed to verify certificate: {e}"))?))
    }

    /// A GET by the aggregator itself: status, headers and body.
    pub async fn get(
        &self,
        core: &Core,
        path: &str,
        accept: &str,
    ) -> Result<(u16, HeaderMap, Bytes), String> {
        let (host, port) = self.resolve(core)?;
        let url = format!("https://{host}:{port}{path}");
        let work = async {
            let stream = self.connect(core, &host, port).await?;
            let mut headers = HeaderMap::new();
            if let Ok(accept) = HeaderValue::from_str(accept) {
                headers.insert(http::header::ACCEPT, accept);
            }
            identify(&mut headers, &User::new("system:kube-aggregator", &["system:masters"]));
            let body = incoming(http_body_util::Empty::new());
            let out = Outgoing { method: Method::GET, headers, body, upgrade: None };
            let answer = exchange(stream, &self.server_name(), path, out).await.map_err(|s| s.message)?;
            let (parts, body) = answer.into_parts();
            let bytes = http_body_util::Limited::new(body, LARGEST).collect().await;
            Ok((parts.status.as_u16(), parts.headers, bytes.map_err(|e| e.to_string())?.to_bytes()))
        };
        match tokio::time::timeout(Duration::from_secs(5), work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let error: String = error;
                Err(format!("failing or missing response from {url}: Get {url:?}: {error}"))
            }
            Err(_) => Err(format!(
                "failing or missing response from {url}: Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )),
        }
    }
}

/// As Go names a failure to connect.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}

pub fn cached(core: &Core, group: &str, resource: &str, key: &str) -> Option<Value> {
    let resource = core.kinds.now().preferred(group, resource)?;
    resource.home.as_ref()?.cache.get(key).map(|entry| entry.parse())
}

pub fn slices(core: &Core, namespace: &str, service: &str) -> Vec<Value> {
    let resource = core.kinds.now().preferred("discovery.k8s.io", "endpointslices");
    let Some(home) = resource.and_then(|r| r.home.clone()) else { return Vec::new() };
    let prefix = format!("{namespace}/");
    let (snapshot, _) = home.cache.snapshot();
    snapshot
        .iter()
        .filter(|(key, entry)| {
            key.starts_with(&prefix) && entry.label("kubernetes.io/service-name") == Some(service)
        })
        .map(|(_, entry)| entry.parse())
        .collect()
}

/// Says whose request it is, in the headers that an authenticating proxy may use; what the client sent there goes.
pub fn identify(headers: &mut HeaderMap, user: &User) {
    const PREFIX: &str = "x-remote-";
    let theirs: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in theirs {
        headers.remove(name);
    }
    let mut add = |name: String, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add(format!("{PREFIX}user"), &user.name);
    if !user.uid.is_empty() {
        add(format!("{PREFIX}uid"), &user.uid);
    }
    for group in &user.groups {
        add(format!("{PREFIX}group"), group);
    }
    for (key, values) in user.extra_value().and_then(Value::as_object).into_iter().flatten() {
        let key = escape(&key.to_ascii_lowercase());
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            add(format!("{PREFIX}extra-{key}"), value);
        }
    }
}

/// Percent-encodes what a header's name can't hold.
fn escape(key: &str) -> String {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    key.bytes().map(|b| if good(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The bundles of trusted CAs that distributions keep.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn tls(config: &Config, ca_pem: &[u8], insecure: bool) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        let system = || SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        let pem = if ca_pem.is_empty() { system() } else { ca_pem.to_vec() };
        // a bundle of the system may hold what this library has no use for
        let trust = crate::remote::trust::Trust::new(&pem, !ca_pem.is_empty())?;
        builder.dangerous().with_custom_certificate_verifier(trust)
    };
    let config = match (&config.proxy_client_cert_pem, &config.proxy_client_key_pem) {
        (Some(chain), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| e.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| e.to_string())?;
            builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_of_the_user_and_of_nobody_else() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = User::new("jane", &["dev"]);
        user = user.with_extra([("Scopes/x".to_owned(), vec!["1".to_owned()])].into());
        identify(&mut headers, &user);
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-scopes%2fx"), ["1"]);
        assert!(all("x-remote-extra-a").is_empty());
    }
}
