//! ConfigMaps and Secrets a pod speaks of: which ones, and what was found of them.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::pod::{PodExt, SpecExt, ephemeral_as_container};

/// Names, all in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// What is there at one moment; a name that is missing from a map does not exist.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub config_maps: HashMap<String, Arc<ConfigMap>>,
    pub secrets: HashMap<String, Arc<Secret>>,
}

/// A referenced object or key is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("configmap {0:?} not found")]
    ConfigMap(String),
    #[error("secret {0:?} not found")]
    Secret(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    ConfigMapKey { namespace: String, name: String, key: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    SecretKey { namespace: String, name: String, key: String },
}

impl Found {
    pub fn config_map(&self, name: &str) -> Result<&ConfigMap, Missing> {
        self.config_maps.get(name).map(|c| &**c).ok_or_else(|| Missing::ConfigMap(name.to_owned()))
    }
    pub fn secret(&self, name: &str) -> Result<&Secret, Missing> {
        self.secrets.get(name).map(|s| &**s).ok_or_else(|| Missing::Secret(name.to_owned()))
    }
}

/// All objects the pod's containers and volumes refer to, pull secrets included.
pub fn of_pod(pod: &Pod) -> Names {
    let mut names = Names::default();
    let spec = pod.spec();
    let ephemeral: Vec<_> = spec.ephemeral_containers().iter().map(ephemeral_as_container).collect();
    for container in spec.init_and_regular().chain(&ephemeral) {
        for from in container.env_from.iter().flatten() {
            names.config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            names.secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            names.config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            names.secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        names.config_maps.extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        names.secrets.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            names.config_maps.extend(source.config_map.as_ref().map(|v| v.name.clone()));
            names.secrets.extend(source.secret.as_ref().map(|v| v.name.clone()));
        }
    }
    names.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    names.config_maps.remove("");
    names.secrets.remove("");
    names
}
