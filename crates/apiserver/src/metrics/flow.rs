//! Metrics of priority and fairness that are counted as requests pass.

use std::time::Duration;

use super::family::{About, Counters, Family, Histograms, Written};

const TIMES: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

pub struct Flows {
    dispatched: Counters,
    rejected: Counters,
    waits: Histograms,
    executions: Histograms,
    seats: Histograms,
}

impl Default for Flows {
    fn default() -> Self {
        let about = |name, stability, help, labels| About { name, stability, help, labels };
        Self {
            dispatched: Family::new(about(
                "apiserver_flowcontrol_dispatched_requests_total",
                "BETA",
                "Requests that priority and fairness let run.",
                &["priority_level", "flow_schema"],
            )),
            rejected: Family::new(about(
                "apiserver_flowcontrol_rejected_requests_total",
                "BETA",
                "Requests that priority and fairness sent away, and why.",
                &["priority_level", "flow_schema", "reason"],
            )),
            waits: Family::shaped(
                about(
                    "apiserver_flowcontrol_request_wait_duration_seconds",
                    "BETA",
                    "Time that requests spent in their queue.",
                    &["priority_level", "flow_schema", "execute"],
                ),
                TIMES,
            ),
            executions: Family::shaped(
                about(
                    "apiserver_flowcontrol_request_execution_seconds",
                    "ALPHA",
                    "Time that requests held their seats.",
                    &["priority_level", "flow_schema", "type"],
                ),
                TIMES,
            ),
            seats: Family::shaped(
                about(
                    "apiserver_flowcontrol_work_estimated_seats",
                    "ALPHA",
                    "Seats that requests were thought to need.",
                    &["priority_level", "flow_schema"],
                ),
                SEATS,
            ),
        }
    }
}

impl Flows {
    pub fn families(&self) -> Vec<&dyn Written> {
        vec![&self.dispatched, &self.rejected, &self.waits, &self.executions, &self.seats]
    }

    pub fn arrived(&self, level: &str, schema: &str, seats: u64) {
        self.seats.observe(&[level, schema], seats as f64);
    }

    pub fn dispatched(&self, level: &str, schema: &str, waited: Option<Duration>) {
        self.dispatched.with(&[level, schema]).inc();
        if let Some(waited) = waited {
            self.waits.observe(&[level, schema, "true"], waited.as_secs_f64());
        }
    }

    pub fn rejected(&self, level: &str, schema: &str, reason: &str, waited: Option<Duration>) {
        self.rejected.with(&[level, schema, reason]).inc();
        if let Some(waited) = waited {
            self.waits.observe(&[level, schema, "false"], waited.as_secs_f64());
        }
    }

    pub fn executed(&self, level: &str, schema: &str, watch: bool, took: Duration) {
        let kind = if watch { "watch" } else { "regular" };
        self.executions.observe(&[level, schema, kind], took.as_secs_f64());
    }
}
