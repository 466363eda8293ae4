//! The server's own Lease in `kube-system`: how servers and others find those that run.
//! <https://kubernetes.io/docs/concepts/architecture/leases/#api-server-identity>

use std::sync::Arc;
use std::time::Duration;

use machinery::{Get, Value, json};

use crate::registry::{UpdateRequest, fields, update_object};
use crate::server::Core;

/// How long the Lease holds. It is renewed long before, but not more often than it has to be.
const LIFE: Duration = Duration::from_secs(3600);

/// Every host has one name for its server.
fn name(host: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut known = Vec::new();
    for part in [host, "kube-apiserver"] {
        known.extend_from_slice(&(part.len() as u16).to_be_bytes());
        known.extend_from_slice(part.as_bytes());
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, &known);
    let mut out = String::from("apiserver-");
    let (mut bits, mut held) = (0u32, 0);
    for byte in &digest.as_ref()[..16] {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
        }
    }
    out.push(char::from(ALPHABET[(bits << (5 - held)) as usize & 31]));
    out
}

/// The host's name, as far as a label can say it: a host may have none (`(none)`), or one of more than 63 characters.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    label(name.trim())
}

fn label(name: &str) -> String {
    let kept: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).take(63).collect();
    let outer = |c: char| !c.is_ascii_alphanumeric();
    match kept.trim_matches(outer) {
        "" => "localhost".to_owned(),
        _ if name == "(none)" => "localhost".to_owned(),
        kept => kept.to_owned(),
    }
}

/// The Lease of a server that starts now.
pub fn lease(core: &Core) -> Value {
    let host = host();
    let name = name(&host);
    let holder = format!("{name}_{}", fields::new_uid());
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-system",
            "annotations": {"kubernetes.io/peer-advertise-address": core.config.external_address()},
            "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": LIFE.as_secs(), "renewTime": now()}})
}

fn now() -> String {
    fields::micro_time(jiff::Timestamp::now())
}

/// Keeps the Lease alive.
pub fn start(core: &Arc<Core>) {
    let core = core.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = core.shutdown.cancelled() => return,
                () = tokio::time::sleep(LIFE / 3) => {}
            }
            let Some(resource) = core.kinds.now().find("coordination.k8s.io", "v1", "leases") else { return };
            let mut call = core.internal_call(resource, "update", "kube-system", &name(&host()));
            let options = crate::bootstrap::options();
            let request = UpdateRequest {
                options: &options,
                uid: None,
                may_create: false,
                fields_done: false,
                change: &mut |_, old| {
                    let mut new = old.clone();
                    new.child("spec").set("renewTime", now());
                    Ok(new)
                },
            };
            if let Err(status) = update_object(&mut call, request).await {
                tracing::warn!(%status, "can't renew the server's own lease");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_upstreams() {
        assert_eq!(super::name("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }

    #[test]
    fn a_host_without_a_usable_name_still_has_a_lease() {
        let long = "h".repeat(64);
        let cases =
            [("vm", "vm"), ("(none)", "localhost"), ("", "localhost"), ("-a_", "a"), (&long, &long[1..])];
        for (host, label) in cases {
            assert_eq!(super::label(host), label, "{host}");
        }
    }
}
