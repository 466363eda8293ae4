//! Services get cluster addresses and node ports. What is taken is what the stored Services say, read at start; the
//! sets here only keep two requests from taking the same thing at once, so a crash loses nothing. On a store that
//! several API servers write, what is taken is in the store, where upstream has it: see [`shared`].

mod families;
mod pool;
mod repair;
mod shared;

pub use pool::{Allocators, first_address};

use std::net::IpAddr;
use std::sync::Arc;

use machinery::field::{Error, Path};
use machinery::{Get, GroupKind, Status, Value, json, meta};

use crate::registry::Call;
use crate::server::Core;
use shared::View;

/// How often other API servers may come first before a request gives up.
const ATTEMPTS: usize = 64;

/// What one request took and gives back; undone when dropped without [`Reservation::keep`].
#[derive(Default)]
pub struct Reservation {
    core: Option<Arc<Core>>,
    service: String,
    taken_ips: Vec<IpAddr>,
    taken_ports: Vec<u16>,
    freed_ips: Vec<IpAddr>,
    freed_ports: Vec<u16>,
    /// What others have; empty on a store of our own.
    elsewhere: View,
    /// `taken_…` are ours in the store, too.
    claimed: bool,
}

impl Reservation {
    fn new(call: &Call, service: &Value) -> Self {
        let service = format!("{}/{}", call.namespace, meta::name(service));
        let mut out = Self::default();
        (out.core, out.service) = (Some(call.core.clone()), service);
        out
    }

    /// The Service was stored.
    pub async fn keep(mut self) {
        let Some(core) = self.core.take() else { return };
        core.services.free(&self.freed_ips, &self.freed_ports);
        if core.config.exclusive_store {
            for ip in &self.taken_ips {
                announce(&core, *ip, &self.service).await;
            }
        } else {
            // The store holds them from here on.
            core.services.free(&self.taken_ips, &self.taken_ports);
            shared::release_ports(&core, &self.freed_ports).await;
        }
        for ip in &self.freed_ips {
            withdraw(&core, *ip).await;
        }
    }

    /// Takes in the store what was chosen here; false if another API server was first.
    async fn claim(&mut self) -> Result<bool, Status> {
        let Some(core) = self.core.clone() else { return Ok(true) };
        for (index, ip) in self.taken_ips.iter().enumerate() {
            let claimed = match try_announce(&core, *ip, &self.service).await {
                Ok(()) => continue,
                Err(status) if status.reason == "AlreadyExists" => Ok(false),
                Err(status) => Err(status),
            };
            for ip in &self.taken_ips[..index] {
                withdraw(&core, *ip).await;
            }
            return claimed;
        }
        // Whatever happens now, what was made is to be taken back.
        self.claimed = true;
        let ports = std::mem::take(&mut self.taken_ports);
        let claimed = shared::claim_ports(&core, &self.elsewhere, &ports).await;
        match claimed {
            Ok(true) => self.taken_ports = ports,
            _ => core.services.free(&[], &ports),
        }
        claimed
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(core) = &self.core {
            core.services.free(&self.taken_ips, &self.taken_ports);
            if self.claimed && !(self.taken_ips.is_empty() && self.taken_ports.is_empty()) {
                let (core, ips) = (core.clone(), std::mem::take(&mut self.taken_ips));
                let ports = std::mem::take(&mut self.taken_ports);
                tokio::spawn(async move {
                    shared::release_ports(&core, &ports).await;
                    for ip in ips {
                        withdraw(&core, ip).await;
                    }
                });
            }
        }
    }
}

fn is_service(call: &Call) -> bool {
    call.resource.group.is_empty() && call.resource.name == "services"
}

pub fn invalid(name: &str, errors: &[Error]) -> Status {
    let kind = GroupKind { group: String::new(), kind: "Service".to_owned() };
    Status::invalid(&kind, name, errors)
}

/// Reads what is taken, and makes the addresses' objects that are missing.
pub async fn start(core: &Arc<Core>) -> Result<(), Status> {
    if !core.config.exclusive_store {
        return repair::start(core).await;
    }
    core.fresh().await?;
    let map = core.kinds.now();
    let Some(home) = map.find("", "v1", "services").and_then(|r| r.home.clone()) else { return Ok(()) };
    let (services, _) = home.cache.snapshot();
    for (key, entry) in &services {
        let service = entry.parse();
        let ips = addresses_of(&service);
        core.services.mark(&ips, &ports_of(&service));
        for ip in ips {
            announce(core, ip, key).await;
        }
    }
    Ok(())
}

/// The IPAddress object of an address in use.
async fn announce(core: &Arc<Core>, ip: IpAddr, service: &str) {
    match try_announce(core, ip, service).await {
        Ok(()) => {}
        Err(status) if status.reason == "AlreadyExists" => {}
        Err(status) => tracing::warn!(%status, %ip, "can't record a Service address"),
    }
}

async fn try_announce(core: &Arc<Core>, ip: IpAddr, service: &str) -> Result<(), Status> {
    let (namespace, name) = service.split_once('/').unwrap_or(("", service));
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": ip.to_string(), "labels": {"ipaddress.kubernetes.io/ip-family": family,
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}}});
    let Some(resource) = core.kinds.now().preferred("networking.k8s.io", "ipaddresses") else {
        return Ok(());
    };
    let mut call = core.internal_call(resource, "create", "", "");
    let options = crate::bootstrap::options();
    Box::pin(crate::registry::create_object(&mut call, object, &options, None)).await.map(drop)
}

async fn withdraw(core: &Arc<Core>, ip: IpAddr) {
    let Some(resource) = core.kinds.now().preferred("networking.k8s.io", "ipaddresses") else { return };
    let mut call = core.internal_call(resource, "delete", "", &ip.to_string());
    let options = crate::registry::DeleteOptions::default();
    if let Err(status) = Box::pin(crate::registry::delete_object(&mut call, &options)).await
        && status.code != 404
    {
        tracing::warn!(%status, %ip, "can't take back the record of a Service address");
    }
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    service.at("spec").list("clusterIPs").iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn ports_of(service: &Value) -> Vec<u16> {
    let spec = service.at("spec");
    let health = spec.int("healthCheckNodePort");
    let mut ports: Vec<u16> = spec
        .list("ports")
        .iter()
        .filter_map(|p| p.int("nodePort"))
        .chain(health)
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn kind_of(service: &Value) -> &str {
    match service.at("spec").text("type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn is_headless(service: &Value) -> bool {
    service.at("spec").text("clusterIP") == "None"
}

fn has_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

fn needs_health_check(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && service.at("spec").text("externalTrafficPolicy") == "Local"
}

/// Gives a new Service what it needs.
pub async fn before_create(call: &Call, object: &mut Value, dry_run: bool) -> Result<Reservation, Status> {
    if !is_service(call) {
        return Ok(Reservation::default());
    }
    agree(call, object, dry_run, |object, elsewhere| create_here(call, object, dry_run, elsewhere)).await
}

/// Gives a changed Service what it now needs, and takes back what it no longer does.
pub async fn before_update(
    call: &Call,
    new: &mut Value,
    old: &Value,
    dry_run: bool,
) -> Result<Reservation, Status> {
    if !is_service(call) || !call.info.subresource.is_empty() {
        return Ok(Reservation::default());
    }
    agree(call, new, dry_run, |new, elsewhere| update_here(call, new, old, dry_run, elsewhere)).await
}

/// Chooses, and where others write to the store claims what was chosen, until nobody else was first.
async fn agree(
    call: &Call,
    object: &mut Value,
    dry_run: bool,
    choose: impl Fn(&mut Value, View) -> Result<Reservation, Status>,
) -> Result<Reservation, Status> {
    if call.core.config.exclusive_store {
        return choose(object, View::alone(&call.core));
    }
    let _turn = call.core.services.turn.lock().await;
    for _ in 0..ATTEMPTS {
        let mut attempt = object.clone();
        let mut reserved = choose(&mut attempt, View::read(&call.core).await?)?;
        if dry_run || reserved.claim().await? {
            *object = attempt;
            return Ok(reserved);
        }
    }
    Err(Status::internal("failed to allocate for the Service: other API servers were first each time"))
}

fn create_here(
    call: &Call,
    object: &mut Value,
    dry_run: bool,
    elsewhere: View,
) -> Result<Reservation, Status> {
    normalize_ips(object, None);
    let mut taken = Reservation::new(call, object);
    taken.elsewhere = elsewhere;
    families::init(&call.core.services, object, None)?;
    allocate_ips(&call.core, object, &mut taken, dry_run)?;
    if has_node_ports(kind_of(object)) {
        allocate_ports(&call.core, object, None, &mut taken)?;
    }
    health_port(&call.core, object, None, &mut taken)?;
    Ok(finish(taken, dry_run))
}

/// A dry run takes nothing for good.
fn finish(taken: Reservation, dry_run: bool) -> Reservation {
    if dry_run { Reservation::default() } else { taken }
}

fn update_here(
    call: &Call,
    new: &mut Value,
    old: &Value,
    dry_run: bool,
    elsewhere: View,
) -> Result<Reservation, Status> {
    carry_over(new, old);
    normalize_ips(new, Some(old));
    let mut taken = Reservation::new(call, new);
    taken.elsewhere = elsewhere;
    families::init(&call.core.services, new, Some(old))?;
    let (was, is) = (kind_of(old).to_owned(), kind_of(new).to_owned());
    let grows = new.at("spec").list("clusterIPs").len() < new.at("spec").list("ipFamilies").len();
    if is != "ExternalName" && (was == "ExternalName" || (grows && !is_headless(old))) {
        allocate_ips(&call.core, new, &mut taken, dry_run)?;
    }
    if has_node_ports(&is) {
        allocate_ports(&call.core, new, Some(old), &mut taken)?;
    }
    health_port(&call.core, new, Some(old), &mut taken)?;
    let (ips, ports) = (addresses_of(new), ports_of(new));
    if is != "ExternalName" || was != "ExternalName" {
        taken.freed_ips =
            addresses_of(old).into_iter().filter(|ip| is == "ExternalName" || !ips.contains(ip)).collect();
        let keeps = has_node_ports(&is);
        taken.freed_ports = ports_of(old).into_iter().filter(|p| !keeps || !ports.contains(p)).collect();
    }
    Ok(finish(taken, dry_run))
}

/// A Service is gone: what it had is free.
pub async fn after_delete(call: &Call, object: impl FnOnce() -> Value) {
    if !is_service(call) {
        return;
    }
    let object = object();
    let mut freed = Reservation::new(call, &object);
    freed.freed_ips = addresses_of(&object);
    freed.freed_ports = ports_of(&object);
    freed.keep().await;
}

/// What a client left out of an update stays as allocated.
fn carry_over(new: &mut Value, old: &Value) {
    let (was, is) = (kind_of(old).to_owned(), kind_of(new).to_owned());
    let before = old.at("spec");
    let spec = new.child("spec");
    if was != "ExternalName" && is != "ExternalName" {
        if spec.text("clusterIP").is_empty() && before.has("clusterIP") {
            spec.set("clusterIP", before.at("clusterIP").clone());
        }
        if spec.list("clusterIPs").is_empty()
            && spec.text("clusterIP") == before.text("clusterIP")
            && before.has("clusterIPs")
        {
            spec.set("clusterIPs", before.at("clusterIPs").clone());
        }
    }
    if has_node_ports(&was) && has_node_ports(&is) {
        let mut used: Vec<i64> = spec.list("ports").iter().filter_map(|p| p.int("nodePort")).collect();
        for port in spec.list_mut("ports") {
            if port.int("nodePort").unwrap_or(0) != 0 {
                continue;
            }
            let same =
                |o: &&Value| o.int("port") == port.int("port") && o.text("protocol") == port.text("protocol");
            let found = before.list("ports").iter().find(same).and_then(|o| o.int("nodePort"));
            if let Some(node_port) = found.filter(|p| *p != 0 && !used.contains(p)) {
                port.set("nodePort", node_port);
                used.push(node_port);
            }
        }
    }
    let health = |v: &str, s: &Value| v == "LoadBalancer" && s.text("externalTrafficPolicy") == "Local";
    if health(&was, before) && health(&is, spec) && spec.int("healthCheckNodePort").unwrap_or(0) == 0 {
        if let Some(port) = before.int("healthCheckNodePort") {
            spec.set("healthCheckNodePort", port);
        }
    }
}

/// `clusterIP` and `clusterIPs` say the same, whichever of them the client knows.
fn normalize_ips(new: &mut Value, old: Option<&Value>) {
    let spec = new.child("spec");
    let ip = spec.text("clusterIP").to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && spec.list("clusterIPs").is_empty() {
            spec.set("clusterIPs", json!([ip]));
        }
        return;
    };
    let before = old.at("spec");
    let (was, had) = (before.text("clusterIP"), before.list("clusterIPs"));
    if !was.is_empty() && ip.is_empty() {
        if spec.list("clusterIPs") == had {
            spec.unset("clusterIPs");
        }
    } else if was != ip && spec.list("clusterIPs") == had {
        spec.set("clusterIPs", json!([ip]));
    } else if was.is_empty() && !ip.is_empty() && spec.list("clusterIPs").is_empty() {
        spec.set("clusterIPs", json!([ip]));
    }
}

fn allocate_ips(
    core: &Core,
    service: &mut Value,
    taken: &mut Reservation,
    dry_run: bool,
) -> Result<(), Status> {
    if kind_of(service) == "ExternalName" || is_headless(service) {
        return Ok(());
    }
    let name = meta::name(service).to_owned();
    let families: Vec<String> =
        service.at("spec").list("ipFamilies").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut ips: Vec<String> =
        service.at("spec").list("clusterIPs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let known: Vec<String> = ips.clone();
    let at = Path::new("spec").child("clusterIPs");
    for (index, family) in families.iter().enumerate() {
        if ips.len() <= index {
            ips.push(String::new());
        }
        let ip = if ips[index].is_empty() {
            // what a dry run shows is the range, not an address in it
            let next = match dry_run {
                true => core.services.base(family),
                false => core.services.next_ip(family, &taken.elsewhere),
            };
            let ip = next.ok_or_else(|| {
                Status::internal(format!(
                    "failed to allocate a serviceIP for Service {name:?}: range is full"
                ))
            })?;
            if let Some(why) = not_a_parent(&name).filter(|_| !dry_run) {
                core.services.free(&[ip], &[]);
                let detail = format!(
                    "failed to allocate IP: IPAddress.networking.k8s.io {} is invalid: spec.parentRef.name: {why}",
                    machinery::field::go_quote(&ip.to_string())
                );
                return Err(invalid(&name, &[Error::invalid(&at, json!(ips), detail)]));
            }
            ip
        } else {
            let Ok(ip) = ips[index].parse::<IpAddr>() else { continue };
            core.services.take_ip(ip, &taken.elsewhere).map_err(|why| {
                let detail = format!("failed to allocate IP {ip}: {why}");
                invalid(&name, &[Error::invalid(&at, json!(known), detail)])
            })?;
            ip
        };
        taken.taken_ips.push(ip);
        ips[index] = ip.to_string();
    }
    let spec = service.child("spec");
    if let Some(first) = ips.first() {
        spec.set("clusterIP", first.as_str());
    }
    spec.set("clusterIPs", json!(ips));
    Ok(())
}

/// Why the address of a Service of this name can't say whose it is: addresses are claimed before names are judged.
fn not_a_parent(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("Required value".to_owned());
    }
    let why = resources::names::path_segment(name, false).into_iter().next()?;
    Some(format!("Invalid value: {}: {why}", machinery::field::go_quote(name)))
}

fn allocate_ports(
    core: &Core,
    service: &mut Value,
    old: Option<&Value>,
    taken: &mut Reservation,
) -> Result<(), Status> {
    let name = meta::name(service).to_owned();
    let wanted = kind_of(service) != "LoadBalancer"
        || service.at("spec").flag("allocateLoadBalancerNodePorts") != Some(false);
    let before = old.filter(|o| has_node_ports(kind_of(o))).map(ports_of).unwrap_or_default();
    let mut by_port: Vec<(i64, i64)> = Vec::new();
    let at = Path::new("spec").child("ports");
    for (index, port) in service.child("spec").list_mut("ports").iter_mut().enumerate() {
        let number = port.int("port").unwrap_or(0);
        let asked = port.int("nodePort").unwrap_or(0);
        if asked == 0 && !wanted {
            continue;
        }
        if asked == 0 {
            // the same port over another protocol shares the node port
            let shared =
                by_port.iter().find(|(n, _)| *n == number).map(|(_, p)| *p).filter(|_| old.is_none());
            let got = match shared {
                Some(got) => got,
                None => {
                    let got = core
                        .services
                        .next_port(&taken.elsewhere)
                        .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
                    taken.taken_ports.push(got);
                    i64::from(got)
                }
            };
            port.set("nodePort", got);
            by_port.push((number, got));
            continue;
        }
        let Ok(asked16) = u16::try_from(asked) else { continue };
        by_port.push((number, asked));
        if before.contains(&asked16) || taken.taken_ports.contains(&asked16) {
            continue;
        }
        core.services.take_port(asked16, &taken.elsewhere).map_err(|why| {
            invalid(&name, &[Error::invalid(&at.index(index).child("nodePort"), asked, why)])
        })?;
        taken.taken_ports.push(asked16);
    }
    Ok(())
}

fn health_port(
    core: &Core,
    service: &mut Value,
    old: Option<&Value>,
    taken: &mut Reservation,
) -> Result<(), Status> {
    if !needs_health_check(service) || old.is_some_and(needs_health_check) {
        return Ok(());
    }
    let asked =
        service.at("spec").int("healthCheckNodePort").and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
    let port = match asked {
        Some(port) => {
            core.services.take_port(port, &taken.elsewhere).map_err(|why| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {port}: {why}"))
            })?;
            port
        }
        None => core
            .services
            .next_port(&taken.elsewhere)
            .ok_or_else(|| Status::internal("failed to allocate a HealthCheck NodePort: range is full"))?,
    };
    taken.taken_ports.push(port);
    service.child("spec").set("healthCheckNodePort", port);
    Ok(())
}
