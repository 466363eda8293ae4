//! `/metrics` and `/metrics/slis`: upstream's stable and beta metrics of an API server, in Prometheus' text form.
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>
//!
//! A request costs one lookup of its series; what can be read off the server is read when somebody asks.

mod family;
mod flow;
mod now;
mod requests;

pub use flow::Flows;
pub use now::process_start;
pub use requests::{Known, Lasting, Requests, Seen, Watched};

use family::{About, Counters, Family, Histograms, Written};

/// All that is counted while the server runs.
pub struct Metrics {
    pub requests: Requests,
    pub flow: Flows,
    pub admission: Admission,
    pub authentication: Histograms,
    pub authorization: Histograms,
    checks: Counters,
}

pub struct Admission {
    /// By name, type, operation and whether it refused.
    pub plugins: Histograms,
    pub steps: Histograms,
    pub webhooks: Histograms,
}

const ADMISSION: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// From a millisecond on, doubling.
const DOUBLING: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Requests::default(),
            flow: Flows::default(),
            admission: Admission {
                plugins: Family::shaped(
                    About {
                        name: "apiserver_admission_controller_admission_duration_seconds",
                        stability: "STABLE",
                        help: "Time that each admission plugin takes, by operation and type (validate, admit).",
                        labels: &["name", "type", "operation", "rejected"],
                    },
                    ADMISSION,
                ),
                steps: Family::shaped(
                    About {
                        name: "apiserver_admission_step_admission_duration_seconds",
                        stability: "STABLE",
                        help: "Time that each step of admission takes, by operation and type (validate, admit).",
                        labels: &["type", "operation", "rejected"],
                    },
                    ADMISSION,
                ),
                webhooks: Family::shaped(
                    About {
                        name: "apiserver_admission_webhook_admission_duration_seconds",
                        stability: "STABLE",
                        help: "Time that each admission webhook takes, by operation and type (validating, admit).",
                        labels: &["name", "type", "operation", "rejected"],
                    },
                    WEBHOOKS,
                ),
            },
            authentication: Family::shaped(
                About {
                    name: "authentication_duration_seconds",
                    stability: "ALPHA",
                    help: "Time that authentication takes, by result.",
                    labels: &["result"],
                },
                DOUBLING,
            ),
            authorization: Family::shaped(
                About {
                    name: "authorization_duration_seconds",
                    stability: "ALPHA",
                    help: "Time that authorization takes, by result.",
                    labels: &["result"],
                },
                DOUBLING,
            ),
            checks: Family::new(now::CHECKS),
        }
    }
}

impl Metrics {
    fn families(&self) -> Vec<&dyn Written> {
        let mut all: Vec<&dyn Written> = vec![
            &self.admission.plugins,
            &self.admission.steps,
            &self.admission.webhooks,
            &self.authentication,
            &self.authorization,
            &self.checks,
        ];
        all.extend(self.requests.families());
        all.extend(self.flow.families());
        all
    }

    /// A health check was made: of `kind` healthz, livez or readyz.
    pub fn checked(&self, name: &str, kind: &str, fine: bool) {
        self.checks.with(&[name, kind, if fine { "success" } else { "error" }]).inc();
    }
}

/// The whole page.
pub fn page(core: &crate::server::Core) -> String {
    let mut parts = now::parts(core);
    for family in core.metrics.families() {
        let mut text = String::new();
        family.write(&mut text);
        parts.push((family.about(), text));
    }
    now::registered(&mut parts);
    parts.sort_by_key(|(about, _)| about.name);
    parts.into_iter().map(|(_, text)| text).collect()
}

/// The page of service level indicators: health checks.
pub fn slis(core: &crate::server::Core) -> String {
    let mut out = now::health(core);
    core.metrics.checks.write(&mut out);
    out
}
