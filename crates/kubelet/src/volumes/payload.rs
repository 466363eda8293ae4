//! What files a configMap, secret, downwardAPI or projected volume holds.

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    SecretVolumeSource,
};
use std::collections::{BTreeMap, HashMap};

use crate::env::{FieldError, PodFields, field, resource};
use crate::pod::PodExt;
use crate::refs::{Found, Missing};

/// One file: its bytes, its permission bits, its owner where it is not root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

/// Relative paths and what is there.
pub type Payload = BTreeMap<String, File>;

/// Names one requested token: (audience, seconds it is valid).
pub type TokenKey = (String, i64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("references non-existent {kind} key: {key}")]
    Key { kind: &'static str, key: String },
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("{0}")]
    TrustBundle(String),
    #[error("invalid path {0:?}: must be relative and not contain or start with '..'")]
    Path(String),
}

/// What the files come from.
pub struct Sources<'a> {
    pub fields: PodFields<'a>,
    pub found: &'a Found,
    pub tokens: &'a HashMap<TokenKey, Result<String, String>>,
    /// PEM by the source's name or signer and selector, as [`bundle_key`] makes it.
    pub bundles: &'a HashMap<String, Result<String, String>>,
}

/// Names one clusterTrustBundle source.
pub fn bundle_key(source: &k8s_openapi::api::core::v1::ClusterTrustBundleProjection) -> String {
    match &source.name {
        Some(name) => format!("name/{name}"),
        None => format!(
            "signer/{}/{}",
            source.signer_name.as_deref().unwrap_or_default(),
            source.label_selector.as_ref().and_then(|s| serde_json::to_string(s).ok()).unwrap_or_default()
        ),
    }
}

fn permissions(mode: Option<i32>) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o7777
}

fn select(
    kind: &'static str,
    all: BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default: u32,
    optional: bool,
    out: &mut Payload,
) -> Result<(), PayloadError> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        out.extend(all.into_iter().map(|(key, data)| (key, File { data, mode: default, owner: None })));
        return Ok(());
    };
    for item in items {
        match all.get(&item.key) {
            Some(data) => {
                let mode = item.mode.map_or(default, |m| permissions(Some(m)));
                out.insert(item.path.clone(), File { data: data.clone(), mode, owner: None });
            }
            None if optional => {}
            None => return Err(PayloadError::Key { kind, key: item.key.clone() }),
        }
    }
    Ok(())
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
}

/// Nothing where the object is not there but need not be.
fn unless_optional<T>(found: Result<T, Missing>, optional: bool) -> Result<Option<T>, PayloadError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(_) if optional => Ok(None),
        Err(missing) => Err(missing.into()),
    }
}

pub fn config_map(v: &ConfigMapVolumeSource, s: &Sources<'_>) -> Result<Payload, PayloadError> {
    let optional = v.optional == Some(true);
    let mut out = Payload::new();
    if let Some(map) = unless_optional(s.found.config_map(&v.name), optional)? {
        select(
            "config",
            config_map_data(map),
            v.items.as_ref(),
            permissions(v.default_mode),
            optional,
            &mut out,
        )?;
    }
    checked(out)
}

pub fn secret(v: &SecretVolumeSource, s: &Sources<'_>) -> Result<Payload, PayloadError> {
    let optional = v.optional == Some(true);
    let name = v.secret_name.as_deref().unwrap_or_default();
    let mut out = Payload::new();
    if let Some(secret) = unless_optional(s.found.secret(name), optional)? {
        select(
            "secret",
            secret_data(secret),
            v.items.as_ref(),
            permissions(v.default_mode),
            optional,
            &mut out,
        )?;
    }
    checked(out)
}

pub fn downward(
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    default_mode: Option<i32>,
    s: &Sources<'_>,
) -> Result<Payload, PayloadError> {
    let mut out = Payload::new();
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(r), _) => field(&r.field_path, &s.fields)?,
            (None, Some(r)) => resource(r, None, &s.fields)?,
            (None, None) => continue,
        };
        let mode = item.mode.map_or(permissions(default_mode), |m| permissions(Some(m)));
        out.insert(item.path.clone(), File { data: text.into_bytes(), mode, owner: None });
    }
    checked(out)
}

/// The tokens a projected volume asks for.
pub fn token_keys(v: &ProjectedVolumeSource) -> Vec<TokenKey> {
    let sources = v.sources.iter().flatten().filter_map(|s| s.service_account_token.as_ref());
    sources.map(|t| (t.audience.clone().unwrap_or_default(), t.expiration_seconds.unwrap_or(3600))).collect()
}

pub fn projected(v: &ProjectedVolumeSource, s: &Sources<'_>) -> Result<Payload, PayloadError> {
    let default = permissions(v.default_mode);
    let mut out = Payload::new();
    for source in v.sources.iter().flatten() {
        if let Some(c) = &source.config_map {
            let optional = c.optional == Some(true);
            if let Some(map) = unless_optional(s.found.config_map(&c.name), optional)? {
                select("config", config_map_data(map), c.items.as_ref(), default, optional, &mut out)?;
            }
        }
        if let Some(c) = &source.secret {
            let optional = c.optional == Some(true);
            if let Some(secret) = unless_optional(s.found.secret(&c.name), optional)? {
                select("secret", secret_data(secret), c.items.as_ref(), default, optional, &mut out)?;
            }
        }
        if let Some(d) = &source.downward_api {
            out.extend(downward(d.items.as_ref(), v.default_mode, s)?);
        }
        if let Some(t) = &source.service_account_token {
            let key = (t.audience.clone().unwrap_or_default(), t.expiration_seconds.unwrap_or(3600));
            let token = match s.tokens.get(&key) {
                Some(Ok(token)) => token.clone(),
                Some(Err(e)) => return Err(PayloadError::Token(e.clone())),
                None => return Err(PayloadError::Token("not requested yet".into())),
            };
            let (user, group) = token_owner(s.fields.pod);
            // Who the file belongs to may read it, nobody else; an fsGroup adds its read bit later.
            let mode = if user.is_some() || group.is_some() { 0o600 } else { default };
            out.insert(t.path.clone(), File { data: token.into_bytes(), mode, owner: user });
        }
        if let Some(b) = &source.cluster_trust_bundle {
            match s.bundles.get(&bundle_key(b)) {
                Some(Ok(pem)) => {
                    out.insert(
                        b.path.clone(),
                        File { data: pem.clone().into_bytes(), mode: default, owner: None },
                    );
                }
                Some(Err(_)) | None if b.optional == Some(true) => {
                    out.insert(b.path.clone(), File { data: vec![], mode: default, owner: None });
                }
                Some(Err(e)) => return Err(PayloadError::TrustBundle(e.clone())),
                None => return Err(PayloadError::TrustBundle("cluster trust bundle not known yet".into())),
            }
        }
    }
    checked(out)
}

/// (user, group) a token file belongs to: the one user all containers run as, and the fsGroup.
fn token_owner(pod: &Pod) -> (Option<u32>, Option<i64>) {
    use crate::pod::SpecExt;
    let of_pod = pod.spec().security_context.as_ref();
    let mut users = pod.spec().init_and_regular().map(|c| {
        let own = c.security_context.as_ref().and_then(|s| s.run_as_user);
        own.or(of_pod.and_then(|s| s.run_as_user))
    });
    let first = users.next().flatten();
    let same = users.all(|u| u == first);
    let user = first.filter(|_| same).and_then(|u| u32::try_from(u).ok());
    (user, of_pod.and_then(|s| s.fs_group))
}

fn checked(payload: Payload) -> Result<Payload, PayloadError> {
    match payload.keys().find(|path| !is_safe(path)) {
        Some(bad) => Err(PayloadError::Path(bad.clone())),
        None => Ok(payload),
    }
}

fn is_safe(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.starts_with("..")
        && path.len() <= 4096
        && path.split('/').all(|part| part != ".." && !part.is_empty() && part.len() <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn check(volume: Value, expected: Result<&[(&str, &str, u32)], &str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}}))
        .unwrap();
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"bin": "AAE="}}))
                .unwrap();
        let sec: Secret = serde_json::from_value(json!({"data": {"k": "c2VjcmV0"}})).unwrap();
        let found = Found {
            config_maps: [("m".to_owned(), Arc::new(map))].into(),
            secrets: [("s".to_owned(), Arc::new(sec))].into(),
        };
        let tokens = [((String::new(), 3607), Ok("tok".to_owned()))].into();
        let sources = Sources {
            fields: PodFields { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &Default::default() },
            found: &found,
            tokens: &tokens,
            bundles: &HashMap::new(),
        };
        let (kind, body) = volume.as_object().unwrap().iter().next().unwrap();
        let body = body.clone();
        let got = match kind.as_str() {
            "configMap" => config_map(&serde_json::from_value(body).unwrap(), &sources),
            "secret" => secret(&serde_json::from_value(body).unwrap(), &sources),
            "projected" => projected(&serde_json::from_value(body).unwrap(), &sources),
            _ => {
                let v: k8s_openapi::api::core::v1::DownwardAPIVolumeSource =
                    serde_json::from_value(body).unwrap();
                downward(v.items.as_ref(), v.default_mode, &sources)
            }
        };
        let got = got.map(|p| {
            p.into_iter().map(|(k, f)| (k, String::from_utf8(f.data).unwrap(), f.mode)).collect::<Vec<_>>()
        });
        let expected = expected
            .map(|l| l.iter().map(|(a, b, m)| ((*a).to_owned(), (*b).to_owned(), *m)).collect::<Vec<_>>())
            .map_err(str::to_owned);
        assert_eq!(got.map_err(|e| e.to_string()), expected);
    }

    #[test]
    fn files() {
        check(
            json!({"configMap": {"name": "m", "defaultMode": 256}}),
            Ok(&[("a", "1", 0o400), ("b", "2", 0o400), ("bin", "\0\u{1}", 0o400)]),
        );
        check(
            json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "x/y", "mode": 511}]}}),
            Ok(&[("x/y", "1", 0o777)]),
        );
        check(
            json!({"configMap": {"name": "m", "items": [{"key": "zz", "path": "x"}]}}),
            Err("references non-existent config key: zz"),
        );
        check(
            json!({"configMap": {"name": "m", "optional": true, "items": [{"key": "zz", "path": "x"}]}}),
            Ok(&[]),
        );
        check(json!({"configMap": {"name": "no"}}), Err("configmap \"no\" not found"));
        check(json!({"secret": {"secretName": "no", "optional": true}}), Ok(&[]));
        check(json!({"secret": {"secretName": "s"}}), Ok(&[("k", "secret", 0o644)]));
        check(
            json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}),
            Ok(&[("cpu", "2", 0o644), ("l", "a=\"b\"", 0o644)]),
        );
        check(
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "a"}]}}]}}),
            Ok(&[("a", "1", 0o644), ("token", "tok", 0o644)]),
        );
        check(
            json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "../x"}]}}),
            Err("invalid path \"../x\": must be relative and not contain or start with '..'"),
        );
    }
}
