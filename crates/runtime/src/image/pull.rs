//! Images from OCI registries (OCI distribution specification), by the `oci-client` crate.
//!
//! Blobs are resumed after a broken connection and checked against their digests; layers are fetched a few
//! at a time and unpacked in order. Credentials of one pull are never used for another.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use tokio::io::AsyncWriteExt;

use super::manifest::{Descriptor, Document, ImageConfig};
use super::reference::{Reference, is_digest};
use super::store::{ImageError, ImageStore, chain_id};
use super::unpack::{Hashing, digest_of};
use crate::cri::v1::AuthConfig;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Hosts (with port) spoken to by plain HTTP. Those on loopback always are.
    pub insecure: Vec<String>,
    /// For a registry's host: other hosts to ask first, in order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// PEM certificates trusted besides the system's.
    pub certificates: Vec<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
    )]
    NotFound { image: String },
    #[error(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": pull access denied, repository does not exist or may require authorization: {text}"
    )]
    Denied { image: String, text: String },
    #[error("failed to pull and unpack image \"{image}\": {text}")]
    Failed { image: String, text: String },
    #[error("failed to pull and unpack image \"{image}\": no match for platform in manifest: not found")]
    Platform { image: String },
    #[error(transparent)]
    Reference(#[from] super::reference::ReferenceError),
}

const LAYERS_AT_ONCE: usize = 3;
const ATTEMPTS: u32 = 5;
const MAX_DOCUMENT: u64 = 8 << 20;
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Pulls `name` into the store; answers the image id. Layers that are there are not fetched.
pub async fn pull(
    store: &Arc<ImageStore>,
    registries: &Registries,
    name: &str,
    auth: Option<&AuthConfig>,
) -> Result<String, PullError> {
    let reference = Reference::parse(name)?;
    let mut hosts = registries.mirrors.get(&reference.registry).cloned().unwrap_or_default();
    hosts.push(reference.registry.clone());
    let mut last = None;
    for host in hosts {
        let auth = credentials(auth, &reference.registry);
        match Pull::new(store, registries, &reference, host, auth)?.run().await {
            Ok(id) => return Ok(id),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(PullError::NotFound { image: reference.to_string() }))
}

struct Pull<'a> {
    store: &'a Arc<ImageStore>,
    reference: &'a Reference,
    client: oci_client::Client,
    auth: RegistryAuth,
    remote: oci_client::Reference,
}

impl<'a> Pull<'a> {
    fn new(
        store: &'a Arc<ImageStore>,
        registries: &Registries,
        reference: &'a Reference,
        host: String,
        auth: RegistryAuth,
    ) -> Result<Self, PullError> {
        // Whoever is first decides for the process; all of r8s uses ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut insecure = registries.insecure.clone();
        if is_loopback(&host) {
            insecure.push(host.clone());
        }
        let certificates = registries.certificates.iter();
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(insecure),
            extra_root_certificates: certificates
                .map(|data| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() })
                .collect(),
            connect_timeout: Some(Duration::from_secs(30)),
            read_timeout: Some(Duration::from_secs(60)),
            user_agent: concat!("r8s/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let repository = reference.repository.clone();
        let remote = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => oci_client::Reference::with_digest(host, repository, digest.clone()),
            (None, tag) => oci_client::Reference::with_tag(host, repository, tag.clone().unwrap_or_default()),
        };
        Ok(Pull { store, reference, client: oci_client::Client::new(config), auth, remote })
    }

    fn failed(&self, text: impl std::fmt::Display) -> PullError {
        PullError::Failed { image: self.reference.to_string(), text: text.to_string() }
    }

    fn registry_error(&self, error: &OciDistributionError) -> PullError {
        let image = self.reference.to_string();
        let text = super::chain(error);
        match error {
            OciDistributionError::ImageManifestNotFoundError(_) => PullError::NotFound { image },
            OciDistributionError::ServerError { code: 404, .. } => PullError::NotFound { image },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => PullError::Denied { image, text },
            OciDistributionError::ServerError { code: 401 | 403, .. } => PullError::Denied { image, text },
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |wanted: &[OciErrorCode]| {
                    envelope.errors.iter().any(|error| wanted.contains(&error.code))
                };
                if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) {
                    PullError::NotFound { image }
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    PullError::Denied { image, text }
                } else {
                    PullError::Failed { image, text }
                }
            }
            _ => PullError::Failed { image, text },
        }
    }

    fn image_error(&self, error: &ImageError) -> PullError {
        self.failed(super::chain(error))
    }

    async fn manifest(&self, reference: &oci_client::Reference) -> Result<(Document, String), PullError> {
        let raw = self.client.pull_manifest_raw(reference, &self.auth, &MANIFESTS).await;
        let (bytes, digest) = raw.map_err(|error| self.registry_error(&error))?;
        let document =
            serde_json::from_slice(&bytes).map_err(|error| self.failed(format!("manifest: {error}")))?;
        // What the registry says of itself is not enough.
        let own = digest_of(&bytes);
        if own != digest {
            return Err(self.failed(format!("manifest digest is {own}, the registry says {digest}")));
        }
        Ok((document, digest))
    }

    async fn run(&self) -> Result<String, PullError> {
        let (mut document, digest) = self.manifest(&self.remote).await?;
        if document.config.is_none() {
            let fitting = document.for_this_machine().map(|descriptor| descriptor.digest.clone());
            let fitting = fitting.ok_or(PullError::Platform { image: self.reference.to_string() })?;
            (document, _) = self.manifest(&self.remote.clone_with_digest(fitting)).await?;
        }
        let config =
            document.config.clone().ok_or_else(|| self.failed("the manifest has no configuration"))?;
        let config = self.small_blob(&config).await?;
        let parsed: ImageConfig = serde_json::from_slice(&config)
            .map_err(|error| self.failed(format!("configuration: {error}")))?;
        if parsed.rootfs.diff_ids.len() != document.layers.len() {
            return Err(self.failed("manifest and configuration differ in the number of layers"));
        }
        let mut chains = Vec::new();
        for diff_id in &parsed.rootfs.diff_ids {
            chains.push(chain_id(chains.last().map(String::as_str), diff_id));
        }
        // Held while it is being put together, so that nothing collects what has no image yet.
        self.store.hold(&chains);
        let result = self.layers(&document.layers, &parsed.rootfs.diff_ids, &chains).await;
        let result = match result {
            Ok(()) => {
                let (store, names, chains) =
                    (Arc::clone(self.store), vec![self.reference.clone()], chains.clone());
                let added = tokio::task::spawn_blocking(move || {
                    store.add_image(&config, chains, &names, Some(&digest))
                });
                match added.await {
                    Ok(added) => added.map_err(|error| self.image_error(&error)),
                    Err(error) => Err(self.failed(error)),
                }
            }
            Err(error) => Err(error),
        };
        self.store.release(&chains);
        result
    }

    async fn layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[String],
        chains: &[String],
    ) -> Result<(), PullError> {
        let mut wanted: Vec<BoxFuture<'_, Result<Option<Temporary>, PullError>>> = Vec::new();
        for (layer, chain) in layers.iter().zip(chains) {
            wanted.push(match self.store.has_layer(chain) {
                true => Box::pin(std::future::ready(Ok(None))),
                false => Box::pin(async move { self.blob(layer).await.map(Some) }),
            });
        }
        let mut fetched = futures_util::stream::iter(wanted).buffered(LAYERS_AT_ONCE);
        let mut index = 0;
        while let Some(file) = fetched.try_next().await? {
            if let Some(file) = file {
                let (store, diff_id) = (Arc::clone(self.store), diff_ids[index].clone());
                let below = chains[..index].to_vec();
                let unpacked = tokio::task::spawn_blocking(move || {
                    let read = std::fs::File::open(&file.0).map_err(ImageError::io("open a layer"))?;
                    store.add_layer(&below, &diff_id, read)
                });
                let done = unpacked.await.map_err(|error| self.failed(error))?;
                done.map_err(|error| self.image_error(&error))?;
            }
            index += 1;
        }
        Ok(())
    }

    async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        if descriptor.size > MAX_DOCUMENT {
            return Err(self.failed("the image's configuration is too large"));
        }
        let file = self.blob(descriptor).await?;
        std::fs::read(&file.0).map_err(|error| self.failed(error))
    }

    /// Fetches a blob into a temporary file, in several attempts if need be.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Temporary, PullError> {
        if !is_digest(&descriptor.digest) {
            return Err(self.failed(format!("unsupported digest {:?}", descriptor.digest)));
        }
        let file = Temporary(self.store.temporary());
        let mut attempt = 0;
        loop {
            let error = match self.continue_blob(descriptor, &file.0).await {
                Ok(()) => break,
                Err(error) => error,
            };
            attempt += 1;
            let hopeless =
                !matches!(error, OciDistributionError::IoError(_) | OciDistributionError::RequestError(_));
            if hopeless || attempt == ATTEMPTS {
                return Err(self.registry_error(&error));
            }
            tracing::debug!(digest = descriptor.digest, %error, attempt, "fetching a blob again");
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
        let path = file.0.clone();
        let hashed =
            tokio::task::spawn_blocking(move || Hashing::new(std::fs::File::open(path)?).finish()).await;
        let (digest, size) = match hashed {
            Ok(hashed) => hashed.map_err(|error| self.failed(error))?,
            Err(error) => return Err(self.failed(error)),
        };
        if digest != descriptor.digest {
            return Err(self.failed(format!("blob {} has digest {digest} ({size} bytes)", descriptor.digest)));
        }
        Ok(file)
    }

    /// Appends what is missing.
    async fn continue_blob(&self, descriptor: &Descriptor, path: &Path) -> Result<(), OciDistributionError> {
        let mut file = tokio::fs::File::options().create(true).append(true).open(path).await?;
        let have = file.metadata().await?.len();
        if descriptor.size > 0 && have == descriptor.size {
            return Ok(());
        }
        let layer = oci_client::manifest::OciDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let response = match have {
            0 => BlobResponse::Full(self.client.pull_blob_stream(&self.remote, &layer).await?),
            _ => self.client.pull_blob_stream_partial(&self.remote, &layer, have, None).await?,
        };
        let mut stream = match response {
            BlobResponse::Partial(stream) => stream,
            BlobResponse::Full(stream) => {
                file.set_len(0).await?;
                stream
            }
        };
        let mut total = 0;
        while let Some(bytes) = stream.try_next().await? {
            total += bytes.len() as u64;
            if descriptor.size > 0 && total > descriptor.size {
                return Err(OciDistributionError::SpecViolationError(
                    "more bytes than the manifest says".to_owned(),
                ));
            }
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        match descriptor.size == 0 || file.metadata().await?.len() == descriptor.size {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

/// A file removed when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// CRI's credentials, if they are meant for this registry.
fn credentials(auth: Option<&AuthConfig>, registry: &str) -> RegistryAuth {
    let Some(auth) = auth else { return RegistryAuth::Anonymous };
    if !auth.server_address.is_empty() {
        let address =
            auth.server_address.split_once("://").map_or(auth.server_address.as_str(), |(_, rest)| rest);
        let host = address.split('/').next().unwrap_or("");
        let docker = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        if host != registry && !(docker(host) && docker(registry)) {
            return RegistryAuth::Anonymous;
        }
    }
    if !auth.registry_token.is_empty() {
        return RegistryAuth::Bearer(auth.registry_token.clone());
    }
    if !auth.username.is_empty() {
        return RegistryAuth::Basic(auth.username.clone(), auth.password.clone());
    }
    let decoded = STANDARD
        .decode(auth.auth.trim_end_matches('\0'))
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => {
            RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => RegistryAuth::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_spoken_to_plainly() {
        for (host, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("127.0.0.1", true),
            ("docker.io", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host), plain, "{host}");
        }
    }

    #[test]
    fn credentials_go_only_where_they_belong() {
        let with = |server: &str| AuthConfig {
            username: "u".into(),
            password: "p".into(),
            server_address: server.into(),
            ..Default::default()
        };
        let basic = RegistryAuth::Basic("u".into(), "p".into());
        assert_eq!(credentials(Some(&with("")), "a.b"), basic);
        assert_eq!(credentials(Some(&with("https://a.b/v1/")), "a.b"), basic);
        assert_eq!(credentials(Some(&with("https://index.docker.io/v1/")), "docker.io"), basic);
        assert_eq!(credentials(Some(&with("other")), "a.b"), RegistryAuth::Anonymous);
        let encoded = AuthConfig { auth: STANDARD.encode("u:p"), ..Default::default() };
        assert_eq!(credentials(Some(&encoded), "a.b"), basic);
    }
}
