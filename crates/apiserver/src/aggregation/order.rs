//! The order of groups and versions in discovery: by the priorities of their APIServices.

use std::cmp::Reverse;

use super::{Routes, local};
use crate::kinds::{GroupOrder, KindMap};

/// All groups, local and remote. A group is where the highest of its versions' priorities puts it.
pub fn groups(map: &KindMap, routes: &Routes) -> Vec<GroupOrder> {
    if routes.remotes.is_empty() && !map.groups.iter().any(|g| g.custom) {
        return map.groups.clone();
    }
    let (builtin, custom): (Vec<_>, Vec<_>) = map.groups.iter().partition(|g| !g.custom);
    let mut out: Vec<(i64, GroupOrder)> = Vec::new();
    // the built-in groups stand in upstream's order already
    for group in builtin {
        let priority = if group.name == "apiregistration.k8s.io" {
            i64::from(i32::MAX)
        } else {
            local::priorities(&group.name, "").0
        };
        out.push((priority, group.clone()));
    }
    let mut others: Vec<(i64, GroupOrder)> =
        custom.into_iter().map(|group| (local::priorities(&group.name, "").0, group.clone())).collect();
    for remote in routes.remotes.values() {
        let list = if out.iter().any(|(_, g)| g.name == remote.group) { &mut out } else { &mut others };
        match list.iter_mut().find(|(_, g)| g.name == remote.group) {
            Some((priority, group)) => {
                *priority = (*priority).max(remote.group_priority);
                if !group.versions.contains(&remote.version) {
                    group.versions.push(remote.version.clone());
                }
            }
            None => others.push((
                remote.group_priority,
                GroupOrder {
                    name: remote.group.clone(),
                    versions: vec![remote.version.clone()],
                    custom: true,
                },
            )),
        }
    }
    let changed = |group: &str| routes.remotes.keys().any(|(g, _)| g == group);
    for (_, group) in out.iter_mut().chain(&mut others) {
        if !changed(&group.name) {
            continue;
        }
        let name = group.name.clone();
        group.versions.sort_by_key(|version| {
            let own = routes.find(&name, version).map(|remote| remote.version_priority);
            let priority = own.unwrap_or_else(|| local::priorities(&name, version).1);
            (Reverse(priority), Reverse(crate::kinds::version_rank(version)))
        });
    }
    // by the name of the first APIService, which begins with the version
    let key = |(priority, group): &(i64, GroupOrder)| {
        let first = group.versions.iter().min().cloned().unwrap_or_default();
        (Reverse(*priority), format!("{first}.{}", group.name))
    };
    others.sort_by_key(key);
    for (priority, group) in others {
        let at = out.iter().position(|(p, _)| *p < priority).unwrap_or(out.len());
        out.insert(at, (priority, group));
    }
    out.into_iter().map(|(_, group)| group).collect()
}
