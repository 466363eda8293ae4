//! Persistent volume claims of a pod, followed to what this node can mount.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::Api;
use std::collections::HashMap;
use std::path::PathBuf;

use crate::pod::PodExt;
use crate::volumes::Claim;

/// Every claim the pod's volumes name, by claim name.
pub async fn resolve(client: &kube::Client, pod: &Pod) -> HashMap<String, Claim> {
    let mut out = HashMap::new();
    for volume in pod.spec().volumes.iter().flatten() {
        let name = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(v), _) => v.claim_name.clone(),
            (None, Some(_)) => format!("{}-{}", pod.name(), volume.name),
            (None, None) => continue,
        };
        let claim = one(client, pod, &name, volume.ephemeral.is_some()).await;
        out.insert(name, claim.unwrap_or_else(Claim::NotUsable));
    }
    out
}

async fn one(client: &kube::Client, pod: &Pod, name: &str, ephemeral: bool) -> Result<Claim, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod.namespace());
    let claim = claims.get(name).await.map_err(|e| format!("failed to fetch PVC from API server: {e}"))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("failed to process PVC: PVC is being deleted".to_string());
    }
    let owned =
        claim.metadata.owner_references.iter().flatten().any(|o| o.uid == pod.uid() && o.kind == "Pod");
    if ephemeral && !owned {
        return Err(format!(
            "PVC {}/{name} was not created for pod {} (pod is not owner)",
            pod.namespace(),
            pod.name()
        ));
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let volume_name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    let Some(volume_name) = volume_name.filter(|_| phase == "Bound") else {
        return Err("failed to process PVC: PVC is not bound".to_string());
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume =
        volumes.get(&volume_name).await.map_err(|e| format!("failed to fetch PV {volume_name}: {e}"))?;
    let spec = volume.spec.unwrap_or_default();
    let bound = spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref()) == claim.metadata.uid.as_deref();
    if !bound {
        return Err(format!("PV {volume_name} is not bound to PVC {name}"));
    }
    let block = spec.volume_mode.as_deref() == Some("Block");
    let read_only = spec.access_modes.iter().flatten().all(|m| m == "ReadOnlyMany");
    if let Some(local) = &spec.local {
        return Ok(Claim::Local { path: PathBuf::from(&local.path), block, kind: "local".into(), read_only });
    }
    if let Some(host) = &spec.host_path {
        let kind = host.type_.clone().unwrap_or_default();
        return Ok(Claim::Local { path: PathBuf::from(&host.path), block, kind, read_only });
    }
    Err(format!("no volume plugin matched PersistentVolume {volume_name:?}"))
}
