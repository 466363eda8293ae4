//! Counters for the metrics page.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has happened since the start. Names follow CoreDNS, so that its dashboards work.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) udp: AtomicU64,
    pub(crate) tcp: AtomicU64,
    pub(crate) own: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Stats {
    /// In the Prometheus text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let rows = [
            ("coredns_dns_requests_total{proto=\"udp\"}", &self.udp),
            ("coredns_dns_requests_total{proto=\"tcp\"}", &self.tcp),
            ("coredns_kubernetes_answers_total", &self.own),
            ("coredns_forward_requests_total", &self.forwarded),
            ("coredns_forward_failures_total", &self.failed),
            ("coredns_cache_hits_total", &self.hits),
            ("coredns_cache_misses_total", &self.misses),
        ];
        for (name, value) in rows {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name} {}", value.load(Relaxed));
        }
        out
    }
}
