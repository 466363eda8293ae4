//! APIs that upstream removed, as another shape of today's kinds: `extensions/v1beta1` Deployments, `policy/v1beta1`
//! PodDisruptionBudgets and so on.
//!
//! [`find`] gives a [`Removed`] resource; [`Removed::to_now`] fills the defaults of old and brings an object into
//! today's shape, [`Removed::to_old`] shows a stored one in the old shape. Both leave alone what they do not know, so a
//! round trip loses nothing that the old shape can say. The table is [`TABLE`](table); what a shape differs in is a list
//! of [`Step`]s.

mod autoscaling;
mod crd;
mod ingress;
mod misc;
mod steps;
mod table;
mod workloads;

#[cfg(test)]
mod tests;

use machinery::Value;

pub use steps::Step;
pub use table::TABLE;
pub use workloads::{scale_to_now, scale_to_old};

/// One resource of a removed group-version.
pub struct Removed {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub kind: &'static str,
    /// Group and version that serve it today (under the same resource name and kind).
    pub now: (&'static str, &'static str),
    /// The minor versions that deprecated and that no longer served it.
    pub deprecated: u8,
    pub gone: u8,
    steps: &'static [Step],
}

/// The removed resource of a path.
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static Removed> {
    TABLE.iter().find(|r| (r.group, r.version, r.resource) == (group, version, resource))
}

impl Removed {
    pub fn api_version(&self) -> String {
        machinery::GroupVersion::new(self.group, self.version).to_string()
    }

    pub fn api_version_now(&self) -> String {
        machinery::GroupVersion::new(self.now.0, self.now.1).to_string()
    }

    /// What answers warn of.
    pub fn warning(&self) -> String {
        let (api, kind, now) = (self.api_version(), self.kind, self.api_version_now());
        format!(
            "{api} {kind} is deprecated in v1.{}+, unavailable in v1.{}+; use {now} {kind}",
            self.deprecated, self.gone
        )
    }

    /// From the old shape to today's.
    pub fn to_now(&self, object: &mut Value) {
        self.steps.iter().for_each(|step| step.to_now(object));
        object["apiVersion"] = self.api_version_now().into();
    }

    /// From today's shape to the old one.
    pub fn to_old(&self, object: &mut Value) {
        self.steps.iter().rev().for_each(|step| step.to_old(object));
        object["apiVersion"] = self.api_version().into();
    }
}
