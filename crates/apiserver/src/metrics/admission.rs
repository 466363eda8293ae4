//! Metrics of admission: plugins, webhooks, match conditions, policies.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::family::{Counters, Family, Histogram, Histograms, Written, about};
use crate::admission::Operation;

const STEPS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const CONDITIONS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];
const POLICIES: &[f64] = &[5e-7, 0.001, 0.01, 0.1, 1.0];

/// More plugins than there are.
const PLUGINS: usize = 64;
/// Operations, halves, refused or not.
const WAYS: usize = 16;

type Cells = [OnceLock<Arc<Histogram>>; WAYS];

pub struct Admission {
    plugins: Histograms,
    /// The series of each plugin by its place, found once.
    places: Box<[Cells]>,
    steps: Histograms,
    webhooks: Histograms,
    webhook_requests: Counters,
    webhook_rejections: Counters,
    webhook_open: Counters,
    condition_times: Histograms,
    condition_exclusions: Counters,
    condition_errors: Counters,
    policies: Counters,
    policy_times: Histograms,
}

impl Default for Admission {
    fn default() -> Self {
        let condition = &["name", "kind", "type", "operation"];
        let policy = &["policy", "policy_binding", "error_type", "enforcement_action"];
        Self {
            plugins: Family::shaped(
                about(
                    "apiserver_admission_controller_admission_duration_seconds",
                    "STABLE",
                    "Time that each admission plugin takes, by operation and type (validate, admit).",
                    &["name", "type", "operation", "rejected"],
                ),
                STEPS,
            ),
            places: (0..PLUGINS).map(|_| Cells::default()).collect(),
            steps: Family::shaped(
                about(
                    "apiserver_admission_step_admission_duration_seconds",
                    "STABLE",
                    "Time that each step of admission takes, by operation and type (validate, admit).",
                    &["type", "operation", "rejected"],
                ),
                STEPS,
            ),
            webhooks: Family::shaped(
                about(
                    "apiserver_admission_webhook_admission_duration_seconds",
                    "STABLE",
                    "Time that each admission webhook takes, by operation and type (validating, admit).",
                    &["name", "type", "operation", "rejected"],
                ),
                WEBHOOKS,
            ),
            webhook_requests: Family::new(about(
                "apiserver_admission_webhook_request_total",
                "ALPHA",
                "Requests to admission webhooks, by the code of what came of them.",
                &["name", "type", "operation", "code", "rejected"],
            )),
            webhook_rejections: Family::new(about(
                "apiserver_admission_webhook_rejection_count",
                "ALPHA",
                "Requests that admission webhooks refused, or that were refused because they could not be asked.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            )),
            webhook_open: Family::new(about(
                "apiserver_admission_webhook_fail_open_count",
                "ALPHA",
                "Failures to ask a webhook that were overlooked.",
                &["name", "type"],
            )),
            condition_times: Family::shaped(
                about(
                    "apiserver_admission_match_condition_evaluation_seconds",
                    "ALPHA",
                    "Time that the match conditions of a webhook or policy take.",
                    condition,
                ),
                CONDITIONS,
            ),
            condition_exclusions: Family::new(about(
                "apiserver_admission_match_condition_exclusions_total",
                "ALPHA",
                "Requests that match conditions kept from a webhook.",
                condition,
            )),
            condition_errors: Family::new(about(
                "apiserver_admission_match_condition_evaluation_errors_total",
                "ALPHA",
                "Match conditions that could not be evaluated.",
                condition,
            )),
            policies: Family::new(about(
                "apiserver_validating_admission_policy_check_total",
                "BETA",
                "Validations of policies that did not hold or failed, by what was done about it.",
                policy,
            )),
            policy_times: Family::shaped(
                about(
                    "apiserver_validating_admission_policy_check_duration_seconds",
                    "BETA",
                    "Time that such validations took.",
                    policy,
                ),
                POLICIES,
            ),
        }
    }
}

/// A half of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Admit,
    Validate,
}

impl Half {
    fn name(self) -> &'static str {
        match self {
            Half::Admit => "admit",
            Half::Validate => "validate",
        }
    }

    /// As the metrics of webhooks call it.
    fn of_webhook(self) -> &'static str {
        match self {
            Half::Admit => "admit",
            Half::Validate => "validating",
        }
    }
}

/// What a webhook did to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Allowed,
    /// With this code.
    Refused(u16),
    /// It could not be asked; and whether that was overlooked.
    Failed {
        ignored: bool,
    },
    /// The server's own fault.
    Broken,
}

/// Match conditions of whom, as labels.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    pub name: &'a str,
    /// The half it belongs to, for a webhook; none for a policy.
    pub webhook: Option<Half>,
    pub operation: Operation,
}

/// What match conditions came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    True,
    False,
    Error,
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

impl Admission {
    pub fn families(&self) -> [&dyn Written; 11] {
        [
            &self.plugins,
            &self.steps,
            &self.webhooks,
            &self.webhook_requests,
            &self.webhook_rejections,
            &self.webhook_open,
            &self.condition_times,
            &self.condition_exclusions,
            &self.condition_errors,
            &self.policies,
            &self.policy_times,
        ]
    }

    /// A webhook was asked.
    pub fn webhook(&self, name: &str, half: Half, operation: Operation, took: Duration, asked: Asked) {
        let (half, operation) = (half.of_webhook(), operation.name());
        let (code, rejected) = match asked {
            Asked::Allowed => (200, false),
            Asked::Refused(code) => (code, true),
            Asked::Failed { ignored } => (503, !ignored),
            Asked::Broken => (0, true),
        };
        let (text, refused) = (code.to_string(), truth(rejected));
        self.webhook_requests.with(&[name, half, operation, &text, refused]).inc();
        self.webhooks.observe(&[name, half, operation, refused], took.as_secs_f64());
        let kind = match asked {
            Asked::Allowed => return,
            Asked::Failed { ignored: true } => return self.webhook_open.with(&[name, half]).inc(),
            Asked::Failed { ignored: false } => "calling_webhook_error",
            Asked::Refused(_) => "no_error",
            Asked::Broken => "apiserver_internal_error",
        };
        // codes that are none of HTTP's are one
        let text = if code > 600 { "600".to_owned() } else { text };
        self.webhook_rejections.with(&[name, half, operation, kind, &text]).inc();
    }

    /// Match conditions were asked.
    pub fn conditions(&self, of: &Conditions<'_>, took: Duration, came: Came) {
        let operation = of.operation.name();
        let (kind, half) = match of.webhook {
            Some(half) => ("webhook", half.of_webhook()),
            None => ("policy", "validate"),
        };
        let labels = [of.name, kind, half, operation];
        self.condition_times.observe(&labels, took.as_secs_f64());
        match (came, of.webhook) {
            (Came::Error, _) => self.condition_errors.with(&labels).inc(),
            (Came::False, Some(half)) => {
                self.condition_exclusions.with(&[of.name, kind, half.name(), operation]).inc();
            }
            _ => {}
        }
    }

    /// A validation of a policy did not hold (`action`: `deny`, `audit`, `warn`) or failed and was overlooked (`allow`).
    pub fn policy(&self, policy: &str, binding: &str, message: &str, action: &str, took: Duration) {
        let error = match message {
            text if text.starts_with("compilation") => "compile_error",
            text if text.starts_with("validation failed due to running out of cost budget") => {
                "out_of_budget"
            }
            _ => "invalid_error",
        };
        let labels = [policy, binding, error, action];
        self.policies.with(&labels).inc();
        self.policy_times.observe(&labels, took.as_secs_f64());
    }
}

/// Times the plugins of one half for one request.
pub struct Clock<'a> {
    metrics: &'a Admission,
    half: Half,
    operation: Operation,
    began: Instant,
    last: Instant,
    rejected: bool,
}

impl<'a> Clock<'a> {
    pub fn start(metrics: &'a Admission, half: Half, operation: Operation) -> Self {
        let now = Instant::now();
        Self { metrics, half, operation, began: now, last: now, rejected: false }
    }

    /// The plugin at this place has been asked.
    pub fn plugin(&mut self, at: usize, name: &str, rejected: bool) {
        let now = Instant::now();
        let took = now.duration_since(self.last).as_secs_f64();
        (self.last, self.rejected) = (now, rejected);
        let Self { metrics, half, operation, .. } = self;
        let labels = [name, half.name(), operation.name(), truth(rejected)];
        let way = *operation as usize * 4 + *half as usize * 2 + usize::from(rejected);
        match metrics.places.get(at).and_then(|cells| cells.get(way)) {
            Some(cell) => metrics.plugins.note(cell.get_or_init(|| metrics.plugins.with(&labels)), took),
            None => metrics.plugins.observe(&labels, took),
        }
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let labels = [self.half.name(), self.operation.name(), truth(self.rejected)];
        self.metrics.steps.observe(&labels, self.began.elapsed().as_secs_f64());
    }
}
