//! What happens next to a claim.

use std::sync::Arc;

use client::events::reference;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;

use super::terms::*;
use super::volume;
use crate::common::matches;

/// What a decision about a claim is made from.
pub(super) struct View<'a> {
    pub claim: &'a PersistentVolumeClaim,
    pub volumes: &'a [Arc<PersistentVolume>],
    pub classes: &'a [Arc<StorageClass>],
    /// Names of pods that use the claim and have no node yet.
    pub waiting: &'a [String],
}

/// An Event about the claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// One write; after it the decision is made anew.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Claim(PersistentVolumeClaim),
    ClaimStatus(PersistentVolumeClaim),
    Volume(PersistentVolume),
    VolumeStatus(PersistentVolume),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub note: Option<Note>,
    pub write: Option<Box<Write>>,
    /// True if the claim waits for something that no watch tells of: look again later.
    pub retry: bool,
}

impl Plan {
    fn write(write: Write) -> Self {
        Self { write: Some(Box::new(write)), ..Self::default() }
    }

    fn normal(reason: &'static str, message: String) -> Self {
        Self { note: Some(Note { warning: false, reason, message }), ..Self::default() }
    }

    fn warning(reason: &'static str, message: String) -> Self {
        Self { note: Some(Note { warning: true, reason, message }), ..Self::default() }
    }

    /// Further: the claim is pending.
    fn pending(mut self, claim: &PersistentVolumeClaim) -> Self {
        self.write = status(claim, "Pending", None).map(Box::new);
        self
    }
}

pub(super) fn decide(view: &View<'_>) -> Plan {
    let claim = view.claim;
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let named = view.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name));
    let complete = annotation(&claim.metadata, BIND_COMPLETED).is_some();
    match (complete, name.is_empty(), named) {
        (true, true, _) => lost(
            claim,
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (true, false, None) => {
            lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        }
        (true, false, Some(volume)) => match claim_ref(volume) {
            Some(of) if of.uid != claim.metadata.uid => lost(
                claim,
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            ),
            _ => bind(claim, volume),
        },
        (false, true, _) => unbound(view),
        (false, false, None) => Plan::default().pending(claim),
        (false, false, Some(volume)) => requested_volume(claim, volume),
    }
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> Plan {
    if claim_phase(claim) == "Lost" {
        return Plan::default();
    }
    let mut plan = Plan::warning(reason, message.to_owned());
    plan.write = status(claim, "Lost", None).map(Box::new);
    plan
}

/// A claim that asks for a volume by name.
fn requested_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if claim_ref(volume).is_none() {
        return match mismatch(claim, volume) {
            Some(why) => {
                let message = format!("Cannot bind to requested volume \"{name}\": {why}");
                Plan::warning("VolumeMismatch", message).pending(claim)
            }
            None => bind(claim, volume),
        };
    }
    if is_for(volume, claim) {
        return bind(claim, volume);
    }
    let taken =
        Plan::warning("FailedBinding", format!("volume \"{name}\" already bound to a different claim."));
    match annotation(&claim.metadata, BOUND_BY_CONTROLLER) {
        None => taken.pending(claim),
        Some(_) => Plan { retry: true, ..taken },
    }
}

fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<String> {
    let (wanted, has) = (spec_of(claim), volume_spec_of(volume));
    let why = if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the volume is marked for deletion \"{name}\""));
    } else if size(&has).compare(&requested(&wanted)).is_lt() {
        "requested PV is too small"
    } else if volume_class_of(volume) != class_of(claim) {
        "storageClassName does not match"
    } else if !same_attributes(&wanted, &has) {
        "volumeAttributesClassName does not match"
    } else if !same_mode(&wanted, &has) {
        "incompatible volumeMode"
    } else if !modes_served(&wanted, &has) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// A claim that takes whichever volume fits.
fn unbound(view: &View<'_>) -> Plan {
    let claim = view.claim;
    let class = view.classes.iter().find(|class| class.metadata.name.as_deref() == Some(class_of(claim)));
    let delayed = class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = best(claim, view.volumes, delayed) {
        return bind(claim, volume);
    }
    if !has_class(claim)
        && let Some(default) = default_class(view.classes.iter().map(|class| &**class))
    {
        let mut claim = claim.clone();
        claim.spec.get_or_insert_default().storage_class_name = default.metadata.name.clone();
        return Plan::write(Write::Claim(claim));
    }
    if delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        return waits_for_pod(view.waiting).pending(claim);
    }
    match (class_of(claim), class) {
        ("", _) => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            Plan::normal("FailedBinding", message.into()).pending(claim)
        }
        (name, None) => {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            Plan { retry: true, ..Plan::warning("ProvisioningFailed", message) }
        }
        (_, Some(class)) => provision(claim, class),
    }
}

fn waits_for_pod(waiting: &[String]) -> Plan {
    match waiting {
        [] => Plan::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".into(),
        ),
        [pod] => Plan::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => Plan::normal(
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    }
}

/// Volumes are made by provisioners outside of the controller: the claim is marked for the class's one.
fn provision(claim: &PersistentVolumeClaim, class: &StorageClass) -> Plan {
    let provisioner = &class.provisioner;
    if provisioner.starts_with("kubernetes.io/") {
        let message = format!("no volume plugin matched name: {provisioner}");
        return Plan { retry: true, ..Plan::warning("ProvisioningFailed", message) };
    }
    if PROVISIONER.iter().all(|key| annotation(&claim.metadata, key) == Some(provisioner)) {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        return Plan::normal("ExternalProvisioning", message);
    }
    let mut claim = claim.clone();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.extend(PROVISIONER.iter().map(|key| ((*key).to_owned(), provisioner.clone())));
    Plan::write(Write::Claim(claim))
}

/// The smallest volume that fits; among those with access modes to spare, the ones with the fewest first.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    delayed: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let wanted = spec_of(claim);
    let mut fitting: Vec<_> = volumes
        .iter()
        .filter_map(|volume| {
            let has = volume_spec_of(volume);
            let large = size(&has).compare(&requested(&wanted)).is_ge();
            let like =
                same_mode(&wanted, &has) && same_attributes(&wanted, &has) && modes_served(&wanted, &has);
            let there = volume.metadata.deletion_timestamp.is_none();
            (large && like && there)
                .then(|| (has.access_modes.as_ref().map_or(0, Vec::len), size(&has), volume))
        })
        .filter(|(_, _, volume)| claim_ref(volume).is_none() || is_for(volume, claim))
        .collect();
    if let Some((_, _, reserved)) = fitting.iter().find(|(_, _, volume)| is_for(volume, claim)) {
        return Some(*reserved);
    }
    if delayed {
        return None;
    }
    fitting.retain(|(_, _, volume)| {
        let selected = wanted.selector.as_ref().is_none_or(|s| matches(s, volume.metadata.labels.as_ref()));
        volume_phase(volume) == "Available" && selected && volume_class_of(volume) == class_of(claim)
    });
    let order = |(modes, size, volume): &(usize, machinery::quantity::Quantity, &Arc<PersistentVolume>)| {
        (*modes, size.clone(), volume.metadata.name.clone())
    };
    fitting.sort_by(|a, b| {
        let (a, b) = (order(a), order(b));
        a.0.cmp(&b.0).then_with(|| a.1.compare(&b.1)).then_with(|| a.2.cmp(&b.2))
    });
    fitting.first().map(|(_, _, volume)| *volume)
}

/// The next write on the way to both sides knowing of each other: volume, its phase, claim, its status.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let mut bound = volume.clone();
    if !is_for(volume, claim) {
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER);
    }
    if claim_ref(volume).is_none_or(|of| {
        of.name != claim.metadata.name
            || of.namespace != claim.metadata.namespace
            || of.uid != claim.metadata.uid
    }) {
        bound.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
            resource_version: claim.metadata.resource_version.clone(),
            ..reference(claim)
        });
    }
    if bound != *volume {
        return Plan::write(Write::Volume(bound));
    }
    if let Some(write) = volume::status(volume, "Bound") {
        return Plan::write(write);
    }
    let mut bound = claim.clone();
    let spec = bound.spec.get_or_insert_default();
    if spec.volume_name != volume.metadata.name {
        spec.volume_name = volume.metadata.name.clone();
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER);
    }
    annotate(&mut bound.metadata, BIND_COMPLETED);
    if bound != *claim {
        return Plan::write(Write::Claim(bound));
    }
    Plan { write: status(claim, "Bound", Some(volume)).map(Box::new), ..Plan::default() }
}

/// The write that brings the status to `phase`, if it is not there yet.
fn status(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>) -> Option<Write> {
    let old = claim.status.clone().unwrap_or_default();
    let entered = old.phase.as_deref() != Some(phase);
    let mut new = PersistentVolumeClaimStatus { phase: Some(phase.into()), ..old.clone() };
    match volume.and_then(|volume| volume.spec.as_ref()) {
        None => {
            (new.access_modes, new.capacity, new.current_volume_attributes_class_name) = (None, None, None);
        }
        Some(spec) => {
            new.access_modes = spec.access_modes.clone();
            if entered {
                new.capacity = spec.capacity.clone();
                new.current_volume_attributes_class_name = spec.volume_attributes_class_name.clone();
            }
        }
    }
    (new != old).then(|| Write::ClaimStatus(PersistentVolumeClaim { status: Some(new), ..claim.clone() }))
}
