//! What is left in a namespace, what its conditions say about that, and when to look again.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What one pass over a namespace's content has found.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// By `plural.group`.
    pub resources: BTreeMap<String, usize>,
    pub finalizers: BTreeMap<String, usize>,
    pub delete_errors: Vec<String>,
    pub discovery_error: Option<String>,
    /// The longest that what remains may need to end by itself, in seconds.
    pub estimate: i64,
}

/// Finalizers are given this long, in seconds, where nothing else is known.
const FINALIZER_SECONDS: i64 = 15;

impl Remains {
    /// Notes what is left of one kind: its objects' finalizers, and how long they may still take.
    pub fn add(&mut self, plural: &str, group: &str, finalizers: &[Vec<String>], grace: i64) {
        if finalizers.is_empty() {
            return;
        }
        *self.resources.entry(format!("{plural}.{group}")).or_default() += finalizers.len();
        for finalizer in finalizers.iter().flatten() {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        let held = finalizers.iter().any(|own| !own.is_empty());
        let wait = if grace == 0 && held { FINALIZER_SECONDS } else { grace };
        self.estimate = self.estimate.max(wait);
    }

    pub fn is_clean(&self) -> bool {
        self.resources.is_empty() && self.delete_errors.is_empty() && self.discovery_error.is_none()
    }

    /// When to look again, if nothing is heard before.
    pub fn again(&self) -> Duration {
        Duration::from_secs(self.estimate.max(0) as u64 / 2 + 1)
    }
}

/// How long the pods of a namespace deleted at `deleted` may still take: the longest grace period, not counted
/// further than that from the deletion.
pub(super) fn pods_left_seconds(grace: &[i64], deleted: Timestamp, now: Timestamp) -> i64 {
    let longest = grace.iter().copied().max().unwrap_or(0);
    let passed = now.duration_since(deleted).as_secs();
    if passed > longest { 0 } else { longest }
}

/// The conditions with what was found, in upstream's order; none if they are so already.
pub(super) fn conditions(
    old: &NamespaceStatus,
    remains: &Remains,
    now: Timestamp,
) -> Option<NamespaceStatus> {
    let counted = |of: &BTreeMap<String, usize>, word: &str| {
        let parts: Vec<String> =
            of.iter().map(|(name, count)| format!("{name} {word} {count} resource instances")).collect();
        parts.join(", ")
    };
    let discovery = remains.discovery_error.as_ref().map(|error| ("DiscoveryFailed", error.clone()));
    let mut errors = remains.delete_errors.clone();
    errors.sort();
    let content = (!errors.is_empty()).then(|| {
        let text = errors.join(", ");
        let count = errors.len();
        ("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {text}"))
    });
    let resources = (!remains.resources.is_empty()).then(|| {
        let text = counted(&remains.resources, "has");
        ("SomeResourcesRemain", format!("Some resources are remaining: {text}"))
    });
    let finalizers = (!remains.finalizers.is_empty()).then(|| {
        let text = counted(&remains.finalizers, "in");
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {text}"))
    });
    let all = [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            content,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", resources, ("ContentRemoved", "All content successfully removed")),
        (
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut status = old.clone();
    for (kind, trouble, (reason, message)) in all {
        let value = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or((reason, message.to_owned()));
        set(&mut status, kind, value, reason, message, now);
    }
    (status != *old).then_some(status)
}

fn set(status: &mut NamespaceStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let new = NamespaceCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        None => conditions.push(new),
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = NamespaceCondition { last_transition_time: since, ..new };
        }
    }
}
