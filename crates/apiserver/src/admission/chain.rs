//! Which plugins are on, in which order, and what they are told: `--enable-admission-plugins`,
//! `--disable-admission-plugins`, `--admission-control-config-file`.

use std::collections::BTreeMap;
use std::path::Path;

use machinery::{Get, Value};

use super::{PLUGINS, Plugin};
use crate::config::Config;

/// Plugins that are on only if they are asked for. NodeRestriction is not among them, other than upstream: kubelets are
/// authorized as nodes here from the first second.
const OFF: &[&str] = &[
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
];

/// The plugins of this server.
pub struct Chain {
    pub plugins: Vec<&'static Plugin>,
    /// Configurations by plugin.
    settings: BTreeMap<String, Value>,
    /// What EventRateLimit has counted.
    pub events: super::events::Buckets,
}

impl Chain {
    pub fn new(config: &Config) -> Result<Self, String> {
        let (enabled, disabled) = (&config.access.enabled_admission, &config.disabled_admission);
        let known = |name: &String| PLUGINS.iter().any(|p| p.name == name);
        for (list, flag) in [(enabled, "enable-admission-plugins"), (disabled, "disable-admission-plugins")] {
            if let Some(name) = list.iter().find(|n| !known(n)) {
                return Err(format!("{flag} plugin {name:?} is unknown"));
            }
        }
        if let Some(name) = enabled.iter().find(|n| disabled.contains(n)) {
            return Err(format!(
                "[{name}] in enable-admission-plugins and disable-admission-plugins overlapped"
            ));
        }
        let on = |p: &&'static Plugin| {
            let has = |list: &[String]| list.iter().any(|n| n == p.name);
            !has(disabled) && (has(enabled) || !OFF.contains(&p.name))
        };
        let settings = match &config.access.admission_config {
            None => BTreeMap::new(),
            Some(path) => {
                read(path).map_err(|e| format!("--admission-control-config-file {}: {e}", path.display()))?
            }
        };
        Ok(Self {
            plugins: PLUGINS.iter().copied().filter(on).collect(),
            settings,
            events: Default::default(),
        })
    }

    /// What a plugin is told; null if nothing.
    pub fn settings(&self, plugin: &str) -> &Value {
        self.settings.get(plugin).unwrap_or(&Value::Null)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let document = crate::remote::document(&text)?;
    if document.text("kind") != "AdmissionConfiguration" {
        return Err("it is not an AdmissionConfiguration".to_owned());
    }
    let mut out = BTreeMap::new();
    for item in document.list("plugins") {
        let name = item.text("name");
        let settings = if item.at("configuration").is_object() {
            item.at("configuration").clone()
        } else {
            // a file of its own, relative to this one
            let file = path.parent().unwrap_or(Path::new("")).join(item.text("path"));
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            crate::remote::document(&text).map_err(|e| format!("{}: {e}", file.display()))?
        };
        out.insert(name.to_owned(), settings);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_plugins() {
        let with = |enabled: &[&str], disabled: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            let mut config = Config { disabled_admission: list(disabled), ..Config::default() };
            config.access.enabled_admission = list(enabled);
            let names = |chain: Chain| chain.plugins.iter().map(|p| p.name).collect::<Vec<_>>();
            Chain::new(&config).map(names)
        };
        let usual = with(&[], &[]).unwrap();
        assert!(usual.contains(&"LimitRanger") && !usual.contains(&"AlwaysPullImages"));
        assert!(with(&["AlwaysPullImages"], &[]).unwrap().contains(&"AlwaysPullImages"));
        assert!(!with(&[], &["LimitRanger"]).unwrap().contains(&"LimitRanger"));
        assert!(with(&["Nope"], &[]).unwrap_err().contains("\"Nope\" is unknown"));
        assert!(with(&["LimitRanger"], &["LimitRanger"]).unwrap_err().contains("overlapped"));
    }
}
