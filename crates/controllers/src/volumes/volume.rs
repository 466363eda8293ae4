//! What happens next to a volume.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::claim::Write;
use super::terms::*;

/// The next write for a volume whose claim, by the name and uid of its reference, is `claim`; a warning goes with it.
pub(super) fn decide(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> (Option<Write>, Option<(&'static str, String)>) {
    let Some(of) = claim_ref(volume) else { return (status(volume, "Available"), None) };
    if of.uid.as_deref().unwrap_or_default().is_empty() {
        return (status(volume, "Available"), None);
    }
    let name = volume.metadata.name.as_deref();
    match claim.filter(|claim| claim.metadata.uid == of.uid) {
        None => released(volume),
        Some(claim) => match claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) {
            // The claim's own turn will come.
            None | Some("") => (None, None),
            bound if bound == name => (status(volume, "Bound"), None),
            _ if policy(volume) == "Delete" && annotation(&volume.metadata, PROVISIONED_BY).is_some() => {
                released(volume)
            }
            _ => (Some(Write::Volume(unbound(volume))), None),
        },
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn released(volume: &PersistentVolume) -> (Option<Write>, Option<(&'static str, String)>) {
    let phase = volume_phase(volume);
    if !matches!(phase, "Released" | "Failed") {
        return (status(volume, "Released"), None);
    }
    // A provisioner outside of the controller deletes what it has made.
    let external =
        [PROVISIONED_BY, MIGRATED_TO].iter().any(|key| annotation(&volume.metadata, key).is_some());
    if phase == "Failed" || external {
        return (None, None);
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let (reason, message) = match policy(volume) {
        "Delete" => (
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
            ),
        ),
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => return (None, None),
    };
    let failed = status(volume, "Failed").map(|write| match write {
        Write::VolumeStatus(mut volume) => {
            volume.status.get_or_insert_default().message = Some(message.clone());
            Write::VolumeStatus(volume)
        }
        other => other,
    });
    (failed, Some((reason, message)))
}

/// A volume that was found for the claim is free again; one that the user reserved stays reserved.
fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut volume = volume.clone();
    let annotations = volume.metadata.annotations.get_or_insert_default();
    let ours = annotations.remove(BOUND_BY_CONTROLLER).is_some();
    let spec = volume.spec.get_or_insert_default();
    match &mut spec.claim_ref {
        Some(of) if !ours => of.uid = None,
        of => *of = None,
    }
    volume
}

/// The write that brings the volume to `phase`, if it is not there yet.
pub(super) fn status(volume: &PersistentVolume, phase: &str) -> Option<Write> {
    if volume_phase(volume) == phase {
        return None;
    }
    let mut volume = volume.clone();
    let status = volume.status.get_or_insert_default();
    status.phase = Some(phase.into());
    status.message = None;
    Some(Write::VolumeStatus(volume))
}
