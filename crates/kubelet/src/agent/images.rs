//! Pulling images: policy, credentials, back-off, and the words of the Events.

use base64::Engine;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use runtime::cri::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

use crate::backoff::Backoff;
use crate::cri::Cri;
use crate::status::StartFailure;
use client::events::{Recorder, Severity};

/// Pulls that run at once on one node.
const PARALLEL_PULLS: usize = 5;

/// What one pull needs to know.
pub struct PullInputs<'a> {
    pub image: &'a str,
    pub policy: &'a str,
    pub about: &'a ObjectReference,
    pub secrets: &'a [Arc<Secret>],
    pub sandbox: &'a v1::PodSandboxConfig,
    pub runtime_handler: &'a str,
}

/// The back-off of one pod's images.
pub struct PullState {
    backoff: Backoff,
    last_error: HashMap<String, String>,
}

impl Default for PullState {
    fn default() -> Self {
        PullState {
            backoff: Backoff::new(Duration::from_secs(10), Duration::from_secs(300)),
            last_error: HashMap::new(),
        }
    }
}

impl PullState {
    /// When the image may be tried again.
    pub fn until(&self, image: &str, now: Timestamp) -> Option<Timestamp> {
        self.backoff.until_since_update(image, now)
    }
}

/// The node's way to images.
pub struct Images {
    runtime: Arc<dyn Cri>,
    recorder: Recorder,
    slots: Semaphore,
}

fn failure(reason: &str, message: impl Into<String>) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: message.into() }
}

impl Images {
    pub fn new(runtime: Arc<dyn Cri>, recorder: Recorder) -> Self {
        Images { runtime, recorder, slots: Semaphore::new(PARALLEL_PULLS) }
    }

    /// The image's reference for `CreateContainer`; pulls it where the policy says so.
    pub async fn ensure(
        &self,
        inputs: &PullInputs<'_>,
        state: &mut PullState,
        now: Timestamp,
    ) -> Result<String, StartFailure> {
        let PullInputs { image, policy, about, .. } = inputs;
        let event = |severity, reason: &str, message: &str| {
            self.recorder.event((*about).clone(), severity, reason, message);
        };
        let name = match with_tag(image) {
            Ok(name) => name,
            Err(e) => {
                let message = format!("Failed to apply default image tag {image:?}: {e}");
                event(Severity::Warning, "InspectFailed", &message);
                return Err(failure("InvalidImageName", message));
            }
        };
        let spec = v1::ImageSpec {
            image: name.clone(),
            runtime_handler: inputs.runtime_handler.to_owned(),
            ..Default::default()
        };
        if *policy != "Always" {
            let request = v1::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
            match self.runtime.image_status(request).await {
                Ok(answer) => {
                    if let Some(found) = answer.image {
                        let message = format!(
                            "Container image {image:?} already present on machine and can be accessed by the pod"
                        );
                        event(Severity::Normal, "Pulled", &message);
                        return Ok(found.id);
                    }
                }
                Err(e) => {
                    let message = format!("Failed to inspect image {image:?}: {e}");
                    event(Severity::Warning, "InspectFailed", &message);
                    return Err(failure("ImageInspectError", message));
                }
            }
        }
        if *policy == "Never" {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            event(Severity::Warning, "ErrImageNeverPull", &message);
            return Err(failure("ErrImageNeverPull", message));
        }
        if state.backoff.until_since_update(&name, now).is_some() {
            let mut message = format!("Back-off pulling image {image:?}");
            event(Severity::Normal, "BackOff", &message);
            if let Some(previous) = state.last_error.get(&name) {
                message = format!("{message}: {previous}");
            }
            return Err(failure("ImagePullBackOff", message));
        }
        state.last_error.remove(&name);
        event(Severity::Normal, "Pulling", &format!("Pulling image {image:?}"));
        let waited = Instant::now();
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        match self.pull(&spec, inputs).await {
            Ok(reference) => {
                let size = self.size(&spec).await;
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    go_duration(started.elapsed()),
                    go_duration(waited.elapsed()),
                );
                event(Severity::Normal, "Pulled", &message);
                state.backoff.reset(&name);
                Ok(reference)
            }
            Err(e) => {
                event(Severity::Warning, "Failed", &format!("Failed to pull image {image:?}: {e}"));
                let now = Timestamp::now();
                state.backoff.next(&name, now, now);
                let failed = pull_failure(image, &e.to_string());
                state.last_error.insert(name, format!("{}: {}", failed.reason, failed.message));
                Err(failed)
            }
        }
    }

    async fn pull(&self, spec: &v1::ImageSpec, inputs: &PullInputs<'_>) -> runtime::cri::Result<String> {
        let mut credentials = credentials(inputs.secrets, &spec.image);
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut last = None;
        for auth in credentials {
            let request = v1::PullImageRequest {
                image: Some(spec.clone()),
                auth,
                sandbox_config: Some(inputs.sandbox.clone()),
            };
            match self.runtime.pull_image(request).await {
                Ok(answer) => return Ok(answer.image_ref),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| runtime::cri::Error::unknown("no pull was tried")))
    }

    async fn size(&self, spec: &v1::ImageSpec) -> u64 {
        let request = v1::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        self.runtime.image_status(request).await.ok().and_then(|a| a.image).map_or(0, |i| i.size)
    }
}

fn pull_failure(image: &str, error: &str) -> StartFailure {
    for (reason, what) in [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ] {
        if let Some(rest) = error.strip_prefix(reason) {
            return failure(reason, format!("image pull failed for {image} because {what}{rest}"));
        }
    }
    failure("ErrImagePull", error)
}

/// A duration as Go prints it, to the millisecond: `12ms`, `1.234s`, `1m2.5s`.
fn go_duration(d: Duration) -> String {
    let ms = d.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let text = |ms: u128| {
        let mut s = format!("{}.{:03}", ms / 1000, ms % 1000);
        while s.ends_with('0') {
            s.pop();
        }
        s.trim_end_matches('.').to_owned()
    };
    match ms / 60_000 {
        0 => format!("{}s", text(ms)),
        minutes => format!("{minutes}m{}s", text(ms % 60_000)),
    }
}

/// The image's name with a tag or digest: `latest` where it has none.
pub fn with_tag(image: &str) -> Result<String, String> {
    let invalid = || Err(format!("couldn't parse image name {image:?}: invalid reference format"));
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let ok = digest
            .split_once(':')
            .is_some_and(|(_, hex)| hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if !ok {
            return invalid();
        }
    }
    let last_slash = name.rfind('/').map_or(0, |i| i + 1);
    let (repository, tag) = match name[last_slash..].find(':') {
        Some(colon) => (&name[..last_slash + colon], Some(&name[last_slash + colon + 1..])),
        None => (name, None),
    };
    let tag_ok = tag.is_none_or(|t| {
        !t.is_empty()
            && t.len() <= 128
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && !t.starts_with(['.', '-'])
    });
    let mut parts = repository.split('/').peekable();
    let first = parts.peek().copied().unwrap_or_default();
    // A registry's name may have capitals and a port; a repository's may not.
    let has_host = repository.contains('/')
        && (first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase());
    let part_ok = |(i, part): (usize, &str)| {
        let host = i == 0 && has_host;
        !part.is_empty()
            && part.bytes().all(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || b"._-".contains(&b)
                    || (host && (b.is_ascii_uppercase() || b":[]".contains(&b)))
            })
            && !part.starts_with(['.', '_', '-'])
            && !part.ends_with(['.', '_', '-'])
    };
    if !tag_ok || !parts.enumerate().all(part_ok) {
        return invalid();
    }
    Ok(match (tag, digest) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_owned(),
    })
}

/// What pull secrets have for the image's registry, most special first.
fn credentials(secrets: &[Arc<Secret>], image: &str) -> Vec<Option<v1::AuthConfig>> {
    let mut found: Vec<(usize, v1::AuthConfig)> = vec![];
    for secret in secrets {
        let data = secret.data.as_ref();
        let json = |key: &str| {
            data.and_then(|d| d.get(key)).and_then(|v| serde_json::from_slice::<serde_json::Value>(&v.0).ok())
        };
        let auths = match json(".dockerconfigjson") {
            Some(config) => config.get("auths").cloned(),
            None => json(".dockercfg"),
        };
        for (registry, entry) in auths.iter().filter_map(|a| a.as_object()).flatten() {
            if let (Some(weight), Some(auth)) = (matches(registry, image), auth_config(entry)) {
                found.push((weight, auth));
            }
        }
    }
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    found.into_iter().map(|(_, auth)| Some(auth)).collect()
}

fn auth_config(entry: &serde_json::Value) -> Option<v1::AuthConfig> {
    let text = |key: &str| entry.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if let Ok(raw) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
        && let Some((user, pass)) = String::from_utf8_lossy(&raw).split_once(':')
    {
        username = user.to_owned();
        password = pass.trim_end_matches('\0').to_owned();
    }
    let identity_token = text("identitytoken");
    (!username.is_empty() || !identity_token.is_empty()).then(|| v1::AuthConfig {
        username,
        password,
        identity_token,
        ..Default::default()
    })
}

/// How much of the image's name a registry entry covers; `None` where it is of another registry.
fn matches(entry: &str, image: &str) -> Option<usize> {
    let entry = entry.trim_start_matches("https://").trim_start_matches("http://");
    let entry = entry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let docker = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let has_host = image.split_once('/').is_some_and(|(h, _)| h.contains(['.', ':']) || h == "localhost");
    let full = if has_host { image.to_owned() } else { format!("docker.io/{image}") };
    let (entry_host, entry_path) = entry.split_once('/').unwrap_or((entry, ""));
    let (host, path) = full.split_once('/').unwrap_or((&full, ""));
    let same_host = entry_host == host
        || (docker.contains(&entry_host) && docker.contains(&host))
        || wildcard(entry_host, host);
    let covers = entry_path.is_empty()
        || path == entry_path
        || path.strip_prefix(entry_path).is_some_and(|r| r.starts_with(['/', ':', '@']));
    (same_host && covers).then(|| entry.len())
}

fn wildcard(pattern: &str, host: &str) -> bool {
    let parts = |s: &str| s.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (p, h) = (parts(pattern), parts(host));
    pattern.contains('*')
        && p.len() == h.len()
        && p.iter().zip(&h).all(|(p, h)| match p.split_once('*') {
            Some((before, after)) => {
                h.starts_with(before) && h.ends_with(after) && h.len() >= before.len() + after.len()
            }
            None => p == h,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let digest = format!("x@sha256:{}", "a".repeat(64));
        for (image, expected) in [
            ("busybox", Some("busybox:latest")),
            ("busybox:1", Some("busybox:1")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("r.example/a:v1.2-x", Some("r.example/a:v1.2-x")),
            (digest.as_str(), Some(digest.as_str())),
            ("Upper", None),
            ("", None),
            ("a//b", None),
            ("a:b:c", None),
            ("a b", None),
            ("x@sha256:zz", None),
        ] {
            assert_eq!(with_tag(image).ok().as_deref(), expected, "{image}");
        }
        assert!(with_tag("InvalidImage!").unwrap_err().contains("invalid reference format"));
    }

    #[test]
    fn registries() {
        for (entry, image, covered) in [
            ("https://index.docker.io/v1/", "busybox:1", true),
            ("registry.example", "registry.example/a:1", true),
            ("registry.example/a", "registry.example/a/b", true),
            ("registry.example/a", "registry.example/ab", false),
            ("*.example", "r.example/a", true),
            ("*.example", "r.x.example/a", false),
            ("other", "registry.example/a", false),
        ] {
            assert_eq!(matches(entry, image).is_some(), covered, "{entry} {image}");
        }
    }

    #[test]
    fn durations() {
        for (ms, text) in [(0, "0s"), (12, "12ms"), (1500, "1.5s"), (62_001, "1m2.001s"), (2000, "2s")] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
