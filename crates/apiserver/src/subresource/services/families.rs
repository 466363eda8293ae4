//! Which address families a Service has, inferred from what it says and what the cluster has.
//! <https://kubernetes.io/docs/concepts/services-networking/dual-stack/>

use machinery::field::{Error, Path};
use machinery::{Get, Status, Value, json, meta};

use super::pool::Allocators;
use super::{invalid, is_headless, kind_of};

const SINGLE: &str = "SingleStack";

fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    value.list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Fills `ipFamilyPolicy` and `ipFamilies`.
pub fn init(pools: &Allocators, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if kind_of(service) == "ExternalName" {
        return Ok(());
    }
    let name = meta::name(service).to_owned();
    let selectorless = service.at("spec").map("selector").is_none_or(|m| m.is_empty());
    let special = is_headless(service) && selectorless;
    let spec = service.child("spec");
    if !spec.has("ipFamilyPolicy") {
        let before = old.map(|o| o.at("spec").text("ipFamilyPolicy")).filter(|p| !p.is_empty());
        let policy = before.unwrap_or(if special { "RequireDualStack" } else { SINGLE });
        spec.set("ipFamilyPolicy", policy);
    }
    let policy = spec.text("ipFamilyPolicy").to_owned();
    let (mut ips, mut families) = (strings(spec, "clusterIPs"), strings(spec, "ipFamilies"));
    let at = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(before) = old.map(|o| o.at("spec")) {
        let (old_ips, old_families) = (strings(before, "clusterIPs"), strings(before, "ipFamilies"));
        if policy == SINGLE {
            if old_ips == ips {
                ips.truncate(1);
            }
            if old_families == families {
                families.truncate(1);
            }
        } else {
            let policy_at = at.child("ipFamilyPolicy");
            if !ips.is_empty() && ips.len() < old_ips.len() {
                errors.push(Error::invalid(
                    &policy_at,
                    policy.as_str(),
                    "must be 'SingleStack' to release the secondary cluster IP",
                ));
            }
            if !families.is_empty() && families.len() < old_families.len() {
                errors.push(Error::invalid(
                    &policy_at,
                    policy.as_str(),
                    "must be 'SingleStack' to release the secondary IP family",
                ));
            }
        }
    }
    if policy == SINGLE {
        let wrong = |what: &str| {
            Error::invalid(
                &at.child("ipFamilyPolicy"),
                policy.as_str(),
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"),
            )
        };
        if ips.len() == 2 {
            errors.push(wrong("cluster IPs"));
        }
        if families.len() == 2 {
            errors.push(wrong("IP families"));
        }
    }
    let configured = pools.families();
    for (index, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != "None" && !ip.is_empty()) {
        let family = family_of(ip);
        if index < families.len() {
            continue;
        }
        if configured.contains(&family) {
            families.push(family.to_owned());
        } else {
            let at = at.child("clusterIPs").index(index);
            errors.push(Error::invalid(
                &at,
                json!(ips),
                format!("{family} is not configured on this cluster"),
            ));
        }
    }
    if !errors.is_empty() {
        return Err(invalid(&name, &errors));
    }
    let default = configured.first().copied().unwrap_or("IPv4");
    if special {
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if families.len() < 2 && policy != SINGLE {
            families.push(other(&families[0]).to_owned());
        }
    } else {
        if policy == "RequireDualStack" && configured.len() < 2 {
            let at = at.child("ipFamilyPolicy");
            errors.push(Error::invalid(
                &at,
                policy.as_str(),
                "this cluster is not configured for dual-stack services",
            ));
        }
        for (index, family) in families.iter().enumerate() {
            if !configured.contains(&family.as_str()) {
                let at = at.child("ipFamilies").index(index);
                errors.push(Error::invalid(&at, family.as_str(), "not configured on this cluster"));
            }
        }
        if !errors.is_empty() {
            return Err(invalid(&name, &errors));
        }
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if policy != SINGLE && families.len() == 1 && configured.len() == 2 {
            families.push(other(&families[0]).to_owned());
        }
    }
    if !ips.is_empty() {
        spec.set("clusterIPs", json!(ips));
    }
    spec.set("ipFamilies", json!(families));
    Ok(())
}
