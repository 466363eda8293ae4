//! Probes and lifecycle hooks.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::names;

/// Which probe it is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Probe {
    Liveness,
    Readiness,
    Startup,
}

pub(crate) fn probes(container: &Value, at: &Path, errors: &mut ErrorList) {
    for (name, kind) in [
        ("livenessProbe", Probe::Liveness),
        ("readinessProbe", Probe::Readiness),
        ("startupProbe", Probe::Startup),
    ] {
        if container.at(name).is_object() {
            probe(container.at(name), kind, &at.child(name), errors);
        }
    }
}

fn probe(probe: &Value, kind: Probe, at: &Path, errors: &mut ErrorList) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, at, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errors.not_negative(&at.child(field), probe.int(field));
    }
    let grace = probe.int("terminationGracePeriodSeconds");
    let grace_at = at.child("terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|g| *g <= 0) {
        errors.invalid(&grace_at, grace, "must be greater than 0");
    }
    if kind == Probe::Readiness {
        if let Some(grace) = grace {
            errors.invalid(&grace_at, grace, "must not be set for readinessProbes");
        }
    } else if let threshold = probe.int("successThreshold").unwrap_or(0)
        && threshold != 1
    {
        errors.invalid(&at.child("successThreshold"), threshold, "must be 1");
    }
}

/// `grace`: the pod's termination grace period.
pub(crate) fn lifecycle(
    lifecycle: &Value,
    grace: Option<i64>,
    os: &Value,
    at: &Path,
    errors: &mut ErrorList,
) {
    for name in ["postStart", "preStop"] {
        if lifecycle.at(name).is_object() {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(lifecycle.at(name), &kinds, grace, &at.child(name), errors);
        }
    }
    if lifecycle.has("stopSignal") {
        stop_signal(lifecycle.text("stopSignal"), os, &at.child("stopSignal"), errors);
    }
}

fn handler(handler: &Value, kinds: &[&str], grace: Option<i64>, at: &Path, errors: &mut ErrorList) {
    let mut seen = false;
    for kind in kinds {
        let action = handler.at(kind);
        if !action.is_object() {
            continue;
        }
        let at = at.child(kind);
        if seen {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        seen = true;
        match *kind {
            "exec" => {
                if action.list("command").is_empty() {
                    errors.required(&at.child("command"), "");
                }
            }
            "httpGet" => http_get(action, &at, errors),
            "sleep" => {
                let seconds = action.int("seconds").unwrap_or(0);
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    let detail =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&at, seconds, detail);
                }
            }
            _ => port(action.at("port"), &at.child("port"), errors),
        }
    }
    if !seen {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(get: &Value, at: &Path, errors: &mut ErrorList) {
    if get.text("path").is_empty() {
        errors.required(&at.child("path"), "");
    }
    port(get.at("port"), &at.child("port"), errors);
    errors.one_of(&at.child("scheme"), get.text("scheme"), &["HTTP", "HTTPS"]);
    for header in get.list("httpHeaders") {
        let name = header.text("name");
        errors.each(&at.child("httpHeaders"), name, names::http_header(name));
    }
}

/// A port number or the name of one.
pub(crate) fn port(port: &Value, at: &Path, errors: &mut ErrorList) {
    match port {
        Value::String(name) => errors.each(at, name.as_str(), names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            errors.each(at, number, names::port_number(number));
        }
    }
}

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(signal: &str, os: &Value, at: &Path, errors: &mut ErrorList) {
    match os.text("name") {
        _ if os.is_null() => {
            errors.forbidden(at, "may not be set for containers with empty `spec.os.name`");
        }
        "windows" => errors.one_of(at, signal, &["SIGKILL", "SIGTERM"]),
        "linux" => errors.one_of(at, signal, SIGNALS),
        _ => {}
    }
}
