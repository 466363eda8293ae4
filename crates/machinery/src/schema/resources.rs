//! The group-versions and resources that the API serves, subresources among them.
//!
//! [`group_versions`] is in upstream's priority order (the order of `/apis`); [`Resource`]s stand in alphabetical order,
//! a subresource (`pods/status`) behind its resource. [`resource_list`] and its siblings make the legacy discovery documents.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

static TABLE: &str = include_str!("resources.txt");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// "" for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub resources: Vec<Resource>,
}

/// A resource or subresource of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `pods`
    pub name: &'static str,
    /// `status`; "" for the resource itself.
    pub subresource: &'static str,
    /// The kind of the bodies, and its group and version: `pods/eviction` takes `policy/v1` Evictions.
    pub kind: &'static str,
    pub kind_group: &'static str,
    pub kind_version: &'static str,
    pub namespaced: bool,
    pub verbs: Vec<&'static str>,
    /// "" for subresources.
    pub singular: &'static str,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    /// "" where there is none.
    pub storage_version_hash: &'static str,
}

/// All group-versions, `v1` first.
pub fn group_versions() -> &'static [ServedVersion] {
    static PARSED: OnceLock<Vec<ServedVersion>> = OnceLock::new();
    PARSED.get_or_init(parse)
}

/// The resources of one group-version.
pub fn of(group: &str, version: &str) -> Option<&'static [Resource]> {
    let found = group_versions().iter().find(|v| v.group == group && v.version == version);
    found.map(|v| &*v.resources)
}

/// One resource (`subresource` "") or subresource.
pub fn find(group: &str, version: &str, name: &str, subresource: &str) -> Option<&'static Resource> {
    of(group, version)?.iter().find(|r| r.name == name && r.subresource == subresource)
}

/// The resource whose objects are of a kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    of(group, version)?.iter().find(|r| r.kind == kind && r.subresource.is_empty())
}

/// `/apis/GROUP/VERSION` and `/api/v1`: an APIResourceList.
pub fn resource_list(group: &str, version: &str, resources: &[Resource]) -> Value {
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut out = json!({ "kind": "APIResourceList", "groupVersion": group_version });
    // upstream's core list has no apiVersion of its own
    if !group.is_empty() {
        out["apiVersion"] = "v1".into();
    }
    out["resources"] = resources.iter().map(|r| r.to_value(group, version)).collect();
    out
}

impl Resource {
    /// An APIResource; group and version only where they are not those of the list.
    pub fn to_value(&self, group: &str, version: &str) -> Value {
        let name = match self.subresource {
            "" => self.name.to_owned(),
            sub => format!("{}/{sub}", self.name),
        };
        let mut out = Map::new();
        out.insert("name".into(), name.into());
        out.insert("singularName".into(), self.singular.into());
        out.insert("namespaced".into(), self.namespaced.into());
        if (self.kind_group, self.kind_version) != (group, version) {
            if !self.kind_group.is_empty() {
                out.insert("group".into(), self.kind_group.into());
            }
            out.insert("version".into(), self.kind_version.into());
        }
        out.insert("kind".into(), self.kind.into());
        out.insert("verbs".into(), self.verbs.clone().into());
        for (key, list) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !list.is_empty() {
                out.insert(key.into(), list.clone().into());
            }
        }
        if !self.storage_version_hash.is_empty() {
            out.insert("storageVersionHash".into(), self.storage_version_hash.into());
        }
        Value::Object(out)
    }
}

fn parse() -> Vec<ServedVersion> {
    let mut out: Vec<ServedVersion> = Vec::new();
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        if let Some(group_version) = line.strip_prefix("@ ") {
            let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
            out.push(ServedVersion { group, version, resources: Vec::new() });
        } else if let Some(served) = out.last_mut() {
            let resource = parse_line(line, served.group, served.version);
            served.resources.push(resource);
        }
    }
    out
}

fn parse_line(line: &'static str, group: &'static str, version: &'static str) -> Resource {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or("");
    let (name, subresource) = {
        let w = word();
        w.split_once('/').unwrap_or((w, ""))
    };
    let kind = word();
    let (kind_group, kind_version, kind) = match kind.rsplit_once('/') {
        Some((group_version, kind)) => {
            let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
            (group, version, kind)
        }
        None => (group, version, kind),
    };
    let namespaced = word() == "n";
    let verbs = word().split(',').collect();
    let mut out = Resource {
        name,
        subresource,
        kind,
        kind_group,
        kind_version,
        namespaced,
        verbs,
        singular: "",
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: "",
    };
    for word in words {
        match word.split_once('=') {
            Some(("s", text)) => out.singular = text,
            Some(("a", text)) => out.short_names = text.split(',').collect(),
            Some(("c", text)) => out.categories = text.split(',').collect(),
            Some(("h", text)) => out.storage_version_hash = text,
            _ => {}
        }
    }
    out
}
