//! The downward API: fields of the pod and resources of its containers as text.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

use crate::pod::{PodExt, SpecExt};
use crate::quantity::{ResourceList, milli, value};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
}

/// What fields are read from: the pod and what the node knows about it.
pub struct PodFields<'a> {
    pub pod: &'a Pod,
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// Stands in for limits that are not set.
    pub allocatable: &'a ResourceList,
}

/// Labels or annotations as lines `key="value"`, sorted.
pub fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    lines.join("\n")
}

/// A string as Go's `strconv.Quote` writes it.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A field by its path.
pub fn field(path: &str, of: &PodFields<'_>) -> Result<String, FieldError> {
    let meta = &of.pod.metadata;
    if let Some((base, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['"))
        && !base.is_empty()
    {
        let map = match base {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => return Err(FieldError::Subscript(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = of.pod.spec();
    Ok(match path {
        "metadata.name" => of.pod.name().to_owned(),
        "metadata.namespace" => of.pod.namespace().to_owned(),
        "metadata.uid" => of.pod.uid().to_owned(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => of.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => of.host_ips.join(","),
        "status.podIP" => of.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => of.pod_ips.join(","),
        _ => return Err(FieldError::Field(path.to_owned())),
    })
}

/// A request or limit in units of its divisor, rounded up. `own`: the container that asks, where none is named.
pub fn resource(
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    of: &PodFields<'_>,
) -> Result<String, FieldError> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let container = match (name, own) {
        (None, Some(own)) => own,
        (name, _) => {
            let name = name.unwrap_or_default();
            let found = of.pod.spec().init_and_regular().find(|c| c.name == name);
            found.ok_or_else(|| FieldError::Container(name.to_owned()))?
        }
    };
    let unsupported = || FieldError::Resource(selector.resource.clone());
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known =
        matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    let resources = container.resources.as_ref();
    let quantity = match kind {
        "limits" if known => {
            let set = resources.and_then(|r| r.limits.as_ref()).and_then(|l| l.get(resource));
            let set = set.filter(|q| value(q) != 0);
            set.or_else(|| of.allocatable.get(resource))
        }
        "requests" if known => resources.and_then(|r| r.requests.as_ref()).and_then(|l| l.get(resource)),
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().filter(|d| milli(d) != 0);
    let amount = |of: fn(&k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> i64, one: i64| {
        (quantity.map_or(0, of), divisor.map_or(one, of).max(1))
    };
    let (dividend, divisor) = if resource == "cpu" { amount(milli, 1000) } else { amount(value, 1) };
    Ok(((dividend + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "x\"y"},
                "annotations": {"k.io/x": "v"}},
            "spec": {"nodeName": "node", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "d"}]}
        }))
        .unwrap();
        let allocatable =
            [("cpu".to_owned(), Quantity("4".into())), ("memory".to_owned(), Quantity("8Gi".into()))].into();
        let of = PodFields {
            pod: &pod,
            pod_ips: &["10.0.0.1".into(), "fd00::1".into()],
            host_ips: &["192.168.0.1".into()],
            allocatable: &allocatable,
        };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"x\\\"y\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['k.io/x']", "v"),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.hostIP", "192.168.0.1"),
        ] {
            assert_eq!(field(path, &of).as_deref(), Ok(expected), "{path}");
        }
        assert!(field("spec.x", &of).is_err());
        let selector = |container: &str, resource: &str, divisor: &str| ResourceFieldSelector {
            container_name: Some(container.into()),
            resource: resource.into(),
            divisor: Some(Quantity(divisor.into())),
        };
        for (container, name, divisor, expected) in [
            ("c", "limits.cpu", "0", "2"),
            ("c", "limits.cpu", "1m", "1500"),
            ("c", "limits.memory", "1Mi", "64"),
            ("c", "requests.cpu", "1m", "250"),
            ("c", "requests.memory", "1", "0"),
            ("d", "limits.cpu", "1", "4"),
            ("d", "limits.memory", "1Gi", "8"),
        ] {
            let got = resource(&selector(container, name, divisor), None, &of);
            assert_eq!(got.as_deref(), Ok(expected), "{container} {name}");
        }
        assert!(resource(&selector("c", "limits.gpu", "1"), None, &of).is_err());
        assert!(resource(&selector("z", "limits.cpu", "1"), None, &of).is_err());
    }
}
