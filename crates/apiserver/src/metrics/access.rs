//! Metrics of authentication and authorization.

use std::time::Duration;

use super::family::{About, Counters, Family, Histograms, Written};
use crate::authn::User;
use crate::authz::{Decision, Verdict};

/// From a millisecond on, doubling.
const DOUBLING: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
/// Seconds: now, half an hour, hours, days, a week, months, a year.
const EXPIRATIONS: &[f64] = &[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

pub struct Access {
    attempts: Counters,
    users: Counters,
    authentication: Histograms,
    decisions: Counters,
    authorization: Histograms,
    expirations: Histograms,
}

fn about(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> About {
    About { name, stability: "ALPHA", help, labels }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            attempts: Family::new(about(
                "authentication_attempts",
                "Authentications, by result.",
                &["result"],
            )),
            users: Family::new(about(
                "authenticated_user_requests",
                "Requests that were authenticated, by user; most users are `other`.",
                &["username"],
            )),
            authentication: Family::shaped(
                about(
                    "authentication_duration_seconds",
                    "Time that authentication takes, by result.",
                    &["result"],
                ),
                DOUBLING,
            ),
            decisions: Family::new(about(
                "authorization_attempts_total",
                "Authorizations, by result: allowed, denied, no-opinion or error.",
                &["result"],
            )),
            authorization: Family::shaped(
                about(
                    "authorization_duration_seconds",
                    "Time that authorization takes, by result.",
                    &["result"],
                ),
                DOUBLING,
            ),
            expirations: Family::shaped(
                about(
                    "apiserver_client_certificate_expiration_seconds",
                    "How long the certificates of clients will still be good.",
                    &[],
                ),
                EXPIRATIONS,
            ),
        }
    }
}

impl Access {
    pub fn families(&self) -> [&dyn Written; 6] {
        [
            &self.attempts,
            &self.users,
            &self.authentication,
            &self.decisions,
            &self.authorization,
            &self.expirations,
        ]
    }

    /// Somebody was authenticated; none: that failed.
    pub fn authenticated(&self, user: Option<&User>, took: Duration) {
        let result = if user.is_some() { "success" } else { "error" };
        self.attempts.with(&[result]).inc();
        self.authentication.observe(&[result], took.as_secs_f64());
        if let Some(user) = user {
            self.users.with(&[category(&user.name)]).inc();
        }
    }

    pub fn authorized(&self, decision: &Decision, took: Duration) {
        let result = match decision.verdict {
            Verdict::Allow => "allowed",
            _ if !decision.error.is_empty() => "error",
            Verdict::Deny => "denied",
            Verdict::NoOpinion => "no-opinion",
        };
        self.decisions.with(&[result]).inc();
        self.authorization.observe(&[result], took.as_secs_f64());
    }

    /// A client's certificate was believed, which ends in so many seconds.
    pub fn certificate(&self, remaining: f64) {
        self.expirations.observe(&[], remaining);
    }
}

/// Few names, so that clients can't make series.
fn category(user: &str) -> &str {
    match user {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => user,
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}
