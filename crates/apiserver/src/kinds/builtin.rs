//! The built-in resources: a table of facts read once at start.

use std::collections::HashMap;
use std::sync::Arc;

use super::map::KindMap;
use super::storage::{Home, HomeName};
use super::{Resource, Subresource};
use crate::config::Config;

/// `@ GROUP/VERSION` lines, resource lines (name, singular, kind, scope, verbs, short names, categories, storage
/// version hash) and `/subresource` lines (name, kind, group/version, verbs); `-` is empty. The order is that of
/// discovery.
const TABLE: &str = include_str!("builtin.txt");

/// Group-versions that are off unless `--runtime-config` says otherwise.
fn on_by_default(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

/// Resources that a feature gate guards even when their version is on.
const GATED: &[(&str, &str)] = &[
    ("clustertrustbundles", "ClusterTrustBundle"),
    ("podcertificaterequests", "PodCertificateRequest"),
    ("storageversionmigrations", "StorageVersionMigrator"),
    ("workloads", "GenericWorkload"),
    ("podgroups", "GenericWorkload"),
];

fn is_on(config: &Config, group: &str, version: &str, resource: &str) -> bool {
    let group_version =
        if group.is_empty() { format!("api/{version}") } else { format!("{group}/{version}") };
    let mut on = on_by_default(version);
    for (key, value) in &config.runtime_config {
        let hit = match key.as_str() {
            "api/all" => true,
            "api/ga" => !version.contains("alpha") && !version.contains("beta"),
            "api/beta" => version.contains("beta"),
            "api/alpha" => version.contains("alpha"),
            _ => *key == group_version || *key == format!("{group_version}/{resource}"),
        };
        if hit {
            on = *value;
        }
    }
    let gate = GATED.iter().find(|(r, _)| *r == resource).map(|(_, gate)| *gate);
    on && gate.is_none_or(|gate| crate::gates::is_on(&config.feature_gates, gate))
}

/// What is wrong with `--runtime-config`, in upstream's words.
pub fn check_runtime_config(set: &[(String, bool)]) -> Result<(), String> {
    if let [(name, false)] = set
        && name == "api/all"
    {
        return Err("invalid runtime-config with only api/all=false".to_owned());
    }
    let served = |group: &str| {
        TABLE
            .lines()
            .filter_map(|line| line.strip_prefix("@ "))
            .any(|gv| gv.split_once('/').map(|(g, _)| g) == Some(group))
    };
    let mut unknown: Vec<String> = set
        .iter()
        .filter_map(|(key, _)| key.split_once('/'))
        .filter(|(group, _)| *group != "api" && !served(group))
        .map(|(group, rest)| format!("{group}/{}", rest.split('/').next().unwrap_or(rest)))
        .collect();
    unknown.sort();
    unknown.dedup();
    if unknown.is_empty() { Ok(()) } else { Err(format!("unknown api groups {}", unknown.join(","))) }
}

fn words(list: &str) -> Vec<String> {
    if list == "-" { Vec::new() } else { list.split(',').map(str::to_owned).collect() }
}

/// Builds the map of all built-in resources that the configuration serves.
pub fn load(config: &Config) -> KindMap {
    let mut homes: HashMap<HomeName, Arc<Home>> = HashMap::new();
    let mut map = KindMap::default();
    let (mut group, mut version) = ("", "");
    let mut last: Option<Resource> = None;
    for line in TABLE.lines() {
        if let Some(gv) = line.strip_prefix("@ ") {
            map.add(last.take());
            (group, version) = gv.split_once('/').unwrap_or(("", gv));
            continue;
        }
        let mut fields = line.trim_start().split(' ');
        let mut next = || fields.next().unwrap_or("-");
        let name = next();
        if let Some(name) = name.strip_prefix('/') {
            let (kind, gv, verbs) = (next(), next(), next());
            let (sub_group, sub_version) =
                if gv == "-" { ("", "") } else { gv.split_once('/').unwrap_or(("", gv)) };
            if let Some(resource) = &mut last {
                resource.subresources.push(Subresource {
                    name: name.to_owned(),
                    kind: kind.to_owned(),
                    group: sub_group.to_owned(),
                    version: sub_version.to_owned(),
                    verbs: words(verbs),
                });
            }
            continue;
        }
        map.add(last.take());
        if !is_on(config, group, version, name) {
            continue;
        }
        let (singular, kind, scope, verbs, shorts, categories, hash) =
            (next(), next(), next(), words(next()), words(next()), words(next()), next());
        let namespaced = scope == "N";
        let stored = verbs.iter().any(|v| v == "watch");
        let home = stored.then(|| {
            let id = HomeName::builtin(group, name);
            homes
                .entry(id.clone())
                .or_insert_with(|| Arc::new(Home::builtin(id, kind, namespaced, config)))
                .clone()
        });
        let api_version = machinery::GroupVersion::new(group, version).to_string();
        last = Some(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            name: name.to_owned(),
            singular: if singular == "-" { String::new() } else { singular.to_owned() },
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            namespaced,
            verbs,
            short_names: shorts,
            categories,
            storage_hash: if hash == "-" { String::new() } else { hash.to_owned() },
            subresources: Vec::new(),
            strategy: resources::strategy(group, kind),
            home,
            custom: None,
            prefix: Resource::prefix_of(kind, &api_version),
        });
    }
    map.add(last.take());
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_what_is_on() {
        let default = load(&Config::default());
        assert!(default.find("apps", "v1", "deployments").is_some());
        assert!(default.find("resource.k8s.io", "v1beta1", "resourceclaims").is_none());
        let all = load(&Config { runtime_config: vec![("api/all".into(), true)], ..Config::default() });
        assert!(all.find("resource.k8s.io", "v1beta1", "resourceclaims").is_some());
        assert!(all.find("certificates.k8s.io", "v1beta1", "clustertrustbundles").is_none());
        let nodes = default.find("", "v1", "nodes").unwrap();
        assert_eq!(nodes.home.as_ref().unwrap().prefix, "/registry/minions/");
        let scale = default.find("apps", "v1", "deployments").unwrap();
        assert_eq!(scale.subresource("scale").unwrap().gvk(&scale).to_string(), "autoscaling/v1, Kind=Scale");
    }
}
