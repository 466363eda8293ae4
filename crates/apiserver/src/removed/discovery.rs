//! Removed resources among those that discovery lists.

use resources::removed::TABLE;

use crate::aggregation::local;
use crate::kinds::{GroupOrder, KindMap, Resource, Subresource};

/// Adds the groups and versions of removed resources, where their old priorities put them.
pub fn extend(map: &KindMap, groups: &mut Vec<GroupOrder>) {
    let served = |r: &&resources::removed::Removed| map.find(r.now.0, r.now.1, r.resource).is_some();
    for removed in TABLE.iter().filter(served) {
        let (priority, _) = local::priorities(removed.group, "");
        let at = match groups.iter().position(|g| g.name == removed.group) {
            Some(at) => at,
            None => {
                let lower =
                    |g: &GroupOrder| !g.name.is_empty() && local::priorities(&g.name, "").0 < priority;
                let at = groups.iter().position(lower).unwrap_or(groups.len());
                let name = removed.group.to_owned();
                groups.insert(at, GroupOrder { name, versions: Vec::new(), custom: false });
                at
            }
        };
        let versions = &mut groups[at].versions;
        if !versions.iter().any(|v| v == removed.version) {
            // behind all that are served today: nobody should come to prefer one
            versions.push(removed.version.to_owned());
        }
    }
}

/// The removed resources of a group-version, as discovery shows them.
pub fn resources(map: &KindMap, group: &str, version: &str) -> Vec<Resource> {
    let rows = TABLE.iter().filter(|r| r.group == group && r.version == version);
    rows.filter_map(|removed| {
        let now = map.find(removed.now.0, removed.now.1, removed.resource)?;
        let scale = |sub: &Subresource| sub.name == "scale";
        let subresources = now.subresources.iter().map(|sub| Subresource {
            name: sub.name.clone(),
            kind: sub.kind.clone(),
            group: if scale(sub) { group.to_owned() } else { sub.group.clone() },
            version: if scale(sub) { version.to_owned() } else { sub.version.clone() },
            verbs: sub.verbs.clone(),
        });
        Some(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            name: now.name.clone(),
            singular: now.singular.clone(),
            kind: now.kind.clone(),
            list_kind: now.list_kind.clone(),
            namespaced: now.namespaced,
            verbs: now.verbs.clone(),
            short_names: now.short_names.clone(),
            categories: now.categories.clone(),
            storage_hash: now.storage_hash.clone(),
            subresources: subresources.collect(),
            strategy: now.strategy,
            home: None,
            custom: None,
            prefix: now.prefix.clone(),
        })
    })
    .collect()
}
