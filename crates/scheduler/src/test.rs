//! Objects for tests.

use crate::objects::{Node, Pod};

pub fn pod(text: &str) -> Pod {
    serde_json::from_str(text).unwrap()
}

/// A node with so many CPUs, 32 GiB and room for 110 pods, labelled with its name.
pub fn node(name: &str, cpu: &str) -> Node {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "32Gi", "pods": "110"}},
    }))
    .unwrap()
}
