//! Which pods use which claims.

use k8s_openapi::api::core::v1::Pod;

/// The index of pods by `NAMESPACE/CLAIM`, for every claim that their volumes name or own.
pub const BY_CLAIM: &str = "claim";

pub fn claims(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(format!("{namespace}/{}", claim.claim_name)),
            (None, Some(_)) => {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                Some(format!("{namespace}/{pod}-{}", volume.name))
            }
            (None, None) => None,
        })
        .collect()
}
