//! Services and EndpointSlices, with just the fields that DNS needs.

use client::{Cached, Key, Source};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Metadata,
    pub spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: String,
    /// Kept as text: `None` is the word for headless.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    pub external_name: String,
    pub ports: Vec<Port>,
    pub publish_not_ready_addresses: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: Metadata,
    pub address_type: String,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    pub addresses: Vec<String>,
    pub hostname: Option<String>,
    pub conditions: Conditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Absent counts as ready.
    pub ready: Option<bool>,
}

impl Service {
    pub fn source() -> Source {
        Source::path("/api/v1/services")
    }
}

impl EndpointSlice {
    pub fn source() -> Source {
        Source::path("/apis/discovery.k8s.io/v1/endpointslices")
    }

    /// The name of the Service it belongs to, in its own namespace.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get("kubernetes.io/service-name").map(String::as_str)
    }
}

impl Cached for Service {
    fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }
    fn object_uid(&self) -> &str {
        &self.metadata.uid
    }
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
    fn trim(&mut self) {
        self.metadata.labels.clear();
    }
}

impl Cached for EndpointSlice {
    fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }
    fn object_uid(&self) -> &str {
        &self.metadata.uid
    }
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
    fn trim(&mut self) {
        self.metadata.labels.retain(|key, _| key == "kubernetes.io/service-name");
    }
}
