//! `/metrics` and `/metrics/slis`: upstream's stable and beta metrics of an API server, in Prometheus' text form.
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>
//!
//! A request costs one lookup of its series; what can be read off the server is read when somebody asks.

mod access;
mod admission;
mod family;
mod flow;
mod now;
mod requests;

pub use access::Access;
pub use admission::{Admission, Asked, Came, Clock, Conditions, Half};
pub use flow::Flows;
pub use now::process_start;
pub use requests::{Known, Lasting, Requests, Seen, Watched, scope};

use family::{About, Counters, Family, Written};

/// All that is counted while the server runs.
pub struct Metrics {
    pub requests: Requests,
    pub flow: Flows,
    pub admission: Admission,
    pub access: Access,
    checks: Counters,
    handshakes: Counters,
}

impl Default for Metrics {
    fn default() -> Self {
        let handshakes = Family::new(About {
            name: "apiserver_tls_handshake_errors_total",
            stability: "ALPHA",
            help: "Connections that ended in the TLS handshake.",
            labels: &[],
        });
        // there from the beginning: none is an answer, too
        handshakes.with(&[]);
        Self {
            handshakes,
            requests: Requests::default(),
            flow: Flows::default(),
            admission: Admission::default(),
            access: Access::default(),
            checks: Family::new(now::CHECKS),
        }
    }
}

impl Metrics {
    fn families(&self) -> Vec<&dyn Written> {
        let mut all: Vec<&dyn Written> = vec![&self.checks, &self.handshakes];
        all.extend(self.admission.families());
        all.extend(self.access.families());
        all.extend(self.requests.families());
        all.extend(self.flow.families());
        all
    }

    /// A connection ended in the TLS handshake.
    pub fn handshake_failed(&self) {
        self.handshakes.with(&[]).inc();
    }

    /// A health check was made: of `kind` healthz, livez or readyz.
    pub fn checked(&self, name: &str, kind: &str, fine: bool) {
        self.checks.with(&[name, kind, if fine { "success" } else { "error" }]).inc();
    }
}

/// The whole page.
pub async fn page(core: &crate::server::Core) -> String {
    let mut parts = now::parts(core);
    parts.extend(now::storage(core).await);
    for family in core.metrics.families() {
        let mut text = String::new();
        family.write(&mut text);
        parts.push((family.about(), text));
    }
    now::registered(&mut parts);
    parts.sort_by_key(|(about, _)| about.name);
    let more = core.config.more_metrics.map(|page| page());
    parts.into_iter().map(|(_, text)| text).chain(more).collect()
}

/// The page of service level indicators: health checks.
pub fn slis(core: &crate::server::Core) -> String {
    let mut out = now::health(core);
    core.metrics.checks.write(&mut out);
    out
}
