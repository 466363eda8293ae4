//! What is to be done about one object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, Meta, ORPHAN};

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there and stays.
    Solid,
    /// It does not exist.
    Absent,
    /// It is deleted in the foreground and waits for this dependent.
    Waiting,
}

/// What is known of a dependent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dependent {
    /// Its reference says `blockOwnerDeletion`.
    pub blocks: bool,
    /// It is itself deleted in the foreground.
    pub foreground: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// Take these owners off it.
    Release {
        uids: Vec<String>,
    },
    /// No longer block the deletion of its owners, then delete it in the foreground: a ring would wait for ever.
    UnblockAndDelete,
    Delete {
        policy: &'static str,
    },
    /// The last dependent has gone: it may go too.
    RemoveForegroundFinalizer,
    /// Have its blocking dependents looked at.
    AwaitDependents,
}

/// `meta` is the object as the server has it now; `owner` tells of each of its owners.
pub(super) fn decide(
    meta: &Meta,
    owner: impl Fn(&OwnerReference) -> Owner,
    dependents: &[Dependent],
) -> Action {
    if meta.is_deleting() {
        if !meta.has(FOREGROUND) {
            return Action::Nothing;
        }
        let blocked = dependents.iter().any(|dependent| dependent.blocks);
        return if blocked { Action::AwaitDependents } else { Action::RemoveForegroundFinalizer };
    }
    if meta.owner_references.is_empty() {
        return Action::Nothing;
    }
    let of = |kind: Owner| -> Vec<String> {
        meta.owner_references.iter().filter(|o| owner(o) == kind).map(|o| o.uid.clone()).collect()
    };
    let (solid, absent, waiting) = (of(Owner::Solid), of(Owner::Absent), of(Owner::Waiting));
    if !solid.is_empty() {
        let uids: Vec<String> = absent.into_iter().chain(waiting).collect();
        return if uids.is_empty() { Action::Nothing } else { Action::Release { uids } };
    }
    if !waiting.is_empty() && !dependents.is_empty() {
        return match dependents.iter().any(|dependent| dependent.foreground) {
            true => Action::UnblockAndDelete,
            false => Action::Delete { policy: "Foreground" },
        };
    }
    let policy = if meta.has(ORPHAN) {
        "Orphan"
    } else if meta.has(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Action::Delete { policy }
}
