//! Cluster addresses and address families of Services: what the server fills in before it gives out addresses, and
//! what may change (`pkg/registry/core/service/storage/alloc.go`).
//!
//! The server calls [`normalize`], then [`init_families`], gives out the missing addresses for `ipFamilies`, node ports
//! and the health check port, and then goes on with the strategy.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use crate::check::{Errors, same};
use crate::ip;

/// Is `clusterIPs` just `None`?
pub fn is_headless(svc: &Value) -> bool {
    svc.at("spec").list("clusterIPs") == ["None"]
}

fn external(svc: &Value) -> bool {
    svc.at("spec").text("type") == "ExternalName"
}

fn policy(svc: &Value) -> &str {
    svc.at("spec").text("ipFamilyPolicy")
}

/// Keeps `clusterIP` and `clusterIPs` in step where the client wrote only one of them.
pub fn normalize(svc: &mut Value, old: Option<&Value>) {
    let spec = svc.at("spec");
    let (one, many) = (spec.text("clusterIP").to_owned(), spec.list("clusterIPs").to_vec());
    let Some(old) = old else {
        // on creation the single field decides
        if !one.is_empty() && many.is_empty() {
            svc.child("spec").set("clusterIPs", json!([one]));
        }
        return;
    };
    let (old_one, old_many) = (old.at("spec").text("clusterIP"), old.at("spec").list("clusterIPs"));
    let same_many = many == old_many;
    if one.is_empty() && !old_one.is_empty() && same_many {
        // cleared, by one who does not know of the list
        svc.child("spec").unset("clusterIPs");
    } else if one != old_one && same_many {
        svc.child("spec").set("clusterIPs", json!([one]));
    }
}

/// Takes from the old object what an update left out, as older clients do.
pub fn patch_from_old(svc: &mut Value, old: &Value) {
    if external(svc) || external(old) {
        return;
    }
    let before = old.at("spec");
    let spec = svc.child("spec");
    if spec.text("clusterIP").is_empty() && before.has("clusterIP") {
        spec.set("clusterIP", before.at("clusterIP").clone());
    }
    let as_before = spec.text("clusterIP") == before.text("clusterIP");
    if spec.list("clusterIPs").is_empty() && as_before && before.has("clusterIPs") {
        spec.set("clusterIPs", before.at("clusterIPs").clone());
    }
    let needs_ports = |svc: &Value| matches!(svc.at("spec").text("type"), "NodePort" | "LoadBalancer");
    if needs_ports(old) && needs_ports(svc) {
        let before = old.at("spec").list("ports").to_vec();
        let key = |p: &Value| (p.text("protocol").to_owned(), p.int("port").unwrap_or(0));
        let mut used: Vec<i64> =
            svc.at("spec").list("ports").iter().filter_map(|p| p.int("nodePort")).collect();
        for port in svc.child("spec").list_mut("ports") {
            if port.int("nodePort").unwrap_or(0) != 0 {
                continue;
            }
            let was =
                before.iter().find(|p| key(p) == key(port)).and_then(|p| p.int("nodePort")).unwrap_or(0);
            if was != 0 && !used.contains(&was) {
                port.set("nodePort", was);
                used.push(was);
            }
        }
    }
    let needs_check = |svc: &Value| {
        svc.at("spec").text("type") == "LoadBalancer"
            && svc.at("spec").text("externalTrafficPolicy") == "Local"
    };
    if needs_check(old) && needs_check(svc) && svc.at("spec").int("healthCheckNodePort").unwrap_or(0) == 0 {
        let was = old.at("spec").at("healthCheckNodePort").clone();
        svc.child("spec").set("healthCheckNodePort", was);
    }
}

/// Fills `ipFamilyPolicy` and `ipFamilies`. `families`: those of the cluster (`IPv4`, `IPv6`), the default one first.
pub fn init_families(svc: &mut Value, old: Option<&Value>, families: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if external(svc) || unchanged_prefer_dual(svc, old) {
        return errors;
    }
    let selectorless = svc.at("spec").map("selector").is_none_or(|s| s.is_empty());
    let headless_bare = svc.at("spec").text("clusterIP") == "None" && selectorless;
    if policy(svc).is_empty() {
        let chosen = match old.map(policy) {
            Some(old) if !old.is_empty() => old,
            _ if headless_bare => "RequireDualStack",
            _ => "SingleStack",
        }
        .to_owned();
        svc.child("spec").set("ipFamilyPolicy", chosen);
    }
    related_fields(svc, old, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    released(svc, old, &mut errors);
    let at = Path::new("spec");
    let addresses: Vec<String> =
        svc.at("spec").list("clusterIPs").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    for (i, address) in addresses.iter().enumerate() {
        if address == "None" {
            break;
        }
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let mut list = svc.at("spec").list("ipFamilies").to_vec();
        if i >= list.len() {
            if families.contains(&family) {
                list.push(family.into());
                svc.child("spec").set("ipFamilies", list);
            } else {
                let all = svc.at("spec").at("clusterIPs").clone();
                let detail = format!("{family} is not configured on this cluster");
                errors.invalid(&at.child("clusterIPs").index(i), all, detail);
            }
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    let other = |family: &Value| if family == "IPv4" { "IPv6" } else { "IPv4" };
    let mut list = svc.at("spec").list("ipFamilies").to_vec();
    if headless_bare {
        if list.is_empty() {
            list.push(families[0].into());
        }
        if list.len() < 2 && policy(svc) != "SingleStack" {
            list.push(other(&list[0]).into());
        }
        svc.child("spec").set("ipFamilies", list);
        return errors;
    }
    if policy(svc) == "RequireDualStack" && families.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&at.child("ipFamilyPolicy"), policy(svc), detail);
    }
    for (i, family) in list.iter().enumerate() {
        if !families.contains(&family.as_str().unwrap_or("")) {
            let at = at.child("ipFamilies").index(i);
            errors.invalid(&at, family.clone(), "not configured on this cluster");
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if list.is_empty() {
        list.push(families[0].into());
    }
    if policy(svc) != "SingleStack" && list.len() == 1 && families.len() == 2 {
        list.push(other(&list[0]).into());
    }
    svc.child("spec").set("ipFamilies", list);
    errors
}

fn unchanged_prefer_dual(svc: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return false };
    let field_same = |f: &str| same(svc.at("spec").at(f), old.at("spec").at(f));
    let fields = ["clusterIP", "clusterIPs", "ipFamilies"];
    !external(old)
        && policy(svc) == "PreferDualStack"
        && policy(old) == "PreferDualStack"
        && svc.at("spec").text("type") == old.at("spec").text("type")
        && fields.iter().all(|f| field_same(f))
        && same(svc.at("spec").at("selector"), old.at("spec").at("selector"))
}

/// The second address and family are given up only by saying `SingleStack`.
fn released(svc: &mut Value, old: Option<&Value>, errors: &mut ErrorList) {
    let at = Path::new("spec").child("ipFamilyPolicy");
    let single = policy(svc) == "SingleStack";
    if let Some(old) = old {
        for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
            let (now, was) = (svc.at("spec").list(field).to_vec(), old.at("spec").list(field));
            if single {
                if now == was && now.len() > 1 {
                    svc.child("spec").set(field, now[..1].to_vec());
                }
            } else if now.len() == 1 && was.len() == 2 && now[0] == was[0] {
                let detail = format!("must be 'SingleStack' to release the secondary {what}");
                errors.invalid(&at, policy(svc), detail);
            }
        }
    }
    if single {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if svc.at("spec").list(field).len() == 2 {
                let detail = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.invalid(&at, "SingleStack", detail);
            }
        }
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` together.
pub(crate) fn related_fields(svc: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if external(svc) {
        return;
    }
    let spec = svc.at("spec");
    let at = Path::new("spec");
    let (ips_at, families_at) = (at.child("clusterIPs"), at.child("ipFamilies"));
    let (one, many) = (spec.text("clusterIP"), spec.list("clusterIPs"));
    if one.is_empty() {
        if !many.is_empty() {
            errors.invalid(&ips_at, many.to_vec(), "must be empty when `clusterIP` is not specified");
        }
    } else if many.is_empty() {
        errors.required(&ips_at, "");
    } else if many[0] != one {
        errors.invalid(&ips_at, many.to_vec(), "first value must match `clusterIP`");
    }
    let families: Vec<&str> = spec.list("ipFamilies").iter().filter_map(Value::as_str).collect();
    for (i, family) in families.iter().enumerate() {
        errors.one_of(&families_at.index(i), family, &["IPv4", "IPv6"]);
        if families[..i].contains(family) {
            errors.duplicate(&families_at.index(i), *family);
        }
    }
    if spec.has("ipFamilyPolicy") {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(&at.child("ipFamilyPolicy"), spec.text("ipFamilyPolicy"), &supported);
    }
    let known: Vec<&str> =
        old.map_or(&[][..], |o| o.at("spec").list("clusterIPs")).iter().filter_map(Value::as_str).collect();
    let before = errors.len();
    let addresses: Vec<&str> = many.iter().filter_map(Value::as_str).collect();
    for (i, address) in addresses.iter().enumerate() {
        if i == 0 && *address == "None" {
            if addresses.len() > 1 {
                errors.invalid(&ips_at, many.to_vec(), "'None' must be the first and only value");
            }
            continue;
        }
        ip::legacy(&ips_at.index(i), address, &known, errors);
    }
    let bad = errors.len() > before;
    if addresses.len() > 2 {
        errors.invalid(&ips_at, many.to_vec(), "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    let is_v6 = |address: &str| address.contains(':');
    if addresses.len() > 1 {
        let dual = addresses.iter().any(|a| is_v6(a)) && addresses.iter().any(|a| !is_v6(a));
        if !dual {
            errors.invalid(&ips_at, many.to_vec(), "may specify no more than one IP for each IP family");
        }
    }
    if !is_headless(svc) {
        for (i, (address, family)) in addresses.iter().zip(&families).enumerate() {
            if (*family == "IPv4" && is_v6(address)) || (*family == "IPv6" && !is_v6(address)) {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.invalid(&ips_at.index(i), *address, detail);
            }
        }
    }
}

const FIXED: &str = "may not change once set";

pub(super) fn cluster_ips_change(new: &Value, old: &Value, errors: &mut ErrorList) {
    if external(new) || external(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let at = Path::new("spec").child("clusterIPs");
    let (now, was) = (new.at("spec").list("clusterIPs"), old.at("spec").list("clusterIPs"));
    let shown = || now.to_vec();
    if now.len() == was.len() {
        for (i, (n, w)) in now.iter().zip(was).enumerate() {
            if n != w {
                errors.invalid(&at.index(i), shown(), FIXED);
            }
        }
    } else if was.len() > now.len() {
        match now.first() {
            None => errors.invalid_shown(&at.index(0), "null", "primary clusterIP can not be unset"),
            Some(first) if *first != was[0] => errors.invalid(&at.index(0), shown(), FIXED),
            Some(_) => {}
        }
        if now.len() == 1 && policy(new) != "SingleStack" {
            let at = Path::new("spec").child("ipFamilyPolicy");
            let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
            errors.invalid(&at, new.at("spec").at("ipFamilyPolicy").clone(), detail);
        }
    } else if was.first().is_some_and(|w| *w != now[0]) {
        errors.invalid(&at.index(0), shown(), FIXED);
    }
}

pub(super) fn families_change(new: &Value, old: &Value, errors: &mut ErrorList) {
    if external(new) || external(old) || is_headless(new) || is_headless(old) {
        return;
    }
    let at = Path::new("spec").child("ipFamilies").index(0);
    let (now, was) = (new.at("spec").list("ipFamilies"), old.at("spec").list("ipFamilies"));
    let addresses = new.at("spec").at("clusterIPs").clone();
    if now.len() == was.len() {
        for _ in now.iter().zip(was).filter(|(n, w)| n != w) {
            errors.invalid(&at, now.to_vec(), FIXED);
        }
    } else if was.len() > now.len() {
        if addresses.as_array().is_none_or(Vec::is_empty) {
            errors.invalid(&at, now.to_vec(), "primary ipFamily can not be unset");
        }
        if now.first().is_some_and(|n| *n != was[0]) {
            errors.invalid(&at, addresses, FIXED);
        }
        if now.len() == 1 && policy(new) != "SingleStack" {
            let at = Path::new("spec").child("ipFamilyPolicy");
            let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
            errors.invalid(&at, new.at("spec").at("ipFamilyPolicy").clone(), detail);
        }
    } else if was.first().is_some_and(|w| *w != now[0]) {
        errors.invalid(&at, addresses, FIXED);
    }
}
