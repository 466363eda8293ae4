//! The nodes of the load: about 6 KB each, as kubelets report them.

use serde_json::{Value, json};

pub const COLLECTION: &str = "/api/v1/nodes";

/// A node with labels, addresses, conditions and twenty images.
pub fn node(i: usize) -> Value {
    let name = format!("node-{i:05}");
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("kubelet says {reason}"),
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let images: Vec<Value> = (0..20)
        .map(|n| json!({"names": [format!("registry.example/team/application-{n}:1.2.{n}")], "sizeBytes": 1_000_000 * n}))
        .collect();
    let amount = json!({"cpu": "32", "memory": "131072Mi", "pods": "110", "ephemeral-storage": "500Gi"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": format!("zone-{}", i % 3),
            },
        },
        "spec": {"podCIDR": format!("10.{}.{}.0/24", i / 256, i % 256)},
        "status": {
            "capacity": amount,
            "allocatable": amount,
            "addresses": [
                {"type": "InternalIP", "address": format!("192.168.{}.{}", i / 256, i % 256)},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "nodeInfo": {
                "kernelVersion": "6.12.0", "osImage": "Linux", "containerRuntimeVersion": "r8s://0.1",
                "kubeletVersion": "v1.36.1", "operatingSystem": "linux", "architecture": "amd64",
                "bootID": "", "machineID": "", "systemUUID": "", "kubeProxyVersion": "",
            },
            "images": images,
        },
    })
}
