//! On a shared store a server that dies between claiming and storing leaves a claim behind; and a store of one server
//! alone had no claims. Both are put right here, at start and every few minutes, as kube-apiserver does.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use machinery::{Status, meta};

use super::shared::Ports;
use super::{addresses_of, announce, ports_of, withdraw};
use crate::server::Core;

const EVERY: Duration = Duration::from_secs(180);

/// What nobody used when last looked at.
#[derive(Default)]
struct Unused {
    ips: HashSet<IpAddr>,
    ports: HashSet<u16>,
}

pub async fn start(core: &Arc<Core>) -> Result<(), Status> {
    let mut unused = Unused::default();
    round(core, &mut unused).await?;
    tokio::spawn(go_on(Arc::downgrade(core), unused, core.shutdown.clone()));
    Ok(())
}

async fn go_on(core: Weak<Core>, mut unused: Unused, shutdown: tokio_util::sync::CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let Some(core) = core.upgrade() else { return };
        if let Err(status) = round(&core, &mut unused).await {
            tracing::warn!(%status, "can't compare the Services with what they have taken");
        }
    }
}

/// Claims what Services have without a claim, and gives back what nobody has used since the round before: a claim is
/// made a moment before its Service.
async fn round(core: &Arc<Core>, unused: &mut Unused) -> Result<(), Status> {
    core.fresh().await?;
    let map = core.kinds.now();
    let home = |group: &str, resource: &str| map.preferred(group, resource).and_then(|r| r.home.clone());
    let (Some(services), Some(addresses)) = (home("", "services"), home("networking.k8s.io", "ipaddresses"))
    else {
        return Ok(());
    };
    let mut ips: HashMap<IpAddr, String> = HashMap::new();
    let mut ports: HashSet<u16> = HashSet::new();
    for (key, entry) in &services.cache.snapshot().0 {
        let service = entry.parse();
        ips.extend(addresses_of(&service).into_iter().map(|ip| (ip, key.to_string())));
        ports.extend(ports_of(&service));
    }
    let (claims, _) = addresses.cache.snapshot();
    for (ip, service) in &ips {
        if claims.get(ip.to_string().as_str()).is_none() {
            announce(core, *ip, service).await;
        }
    }
    let ours = |ip: &IpAddr| {
        claims.get(ip.to_string().as_str()).is_some_and(|entry| {
            let labels = entry.parse();
            meta::labels(&labels).is_some_and(|l| {
                l.get("ipaddress.kubernetes.io/managed-by").and_then(|v| v.as_str())
                    == Some("ipallocator.k8s.io")
            })
        })
    };
    let idle: HashSet<IpAddr> = claims
        .keys()
        .filter_map(|name| name.parse().ok())
        .filter(|ip| !ips.contains_key(ip) && ours(ip))
        .collect();
    for ip in idle.intersection(&unused.ips) {
        withdraw(core, *ip).await;
    }
    unused.ips = idle;

    let mut taken = Ports::read(core).await?;
    let idle: HashSet<u16> = taken.all().into_iter().filter(|port| !ports.contains(port)).collect();
    let before = taken.clone();
    ports.iter().for_each(|port| taken.set(*port, true));
    idle.intersection(&unused.ports).for_each(|port| taken.set(*port, false));
    // If another server was first, the next round sees what is left to do.
    if taken != before {
        taken.write(core).await?;
    }
    unused.ports = idle;
    Ok(())
}
