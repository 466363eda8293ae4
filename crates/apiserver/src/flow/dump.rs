//! `/debug/api_priority_and_fairness/dump_*`: levels, queues and requests as tables.

use std::time::Duration;

use super::Flow;
use super::level::{About, Inner};
use super::queues::Request;
use crate::front::Query;
use crate::front::respond::{self, Answer};

const LEVELS: &[&str] = &[
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: &[&str] = &[
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: &[&str] = &[
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: &[&str] =
    &["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// The page of this name; none if there is no such page, or no priorities.
pub fn answer(flow: &Flow, page: &str, query: &Query) -> Option<Answer> {
    let state = flow.state()?;
    let levels = state.levels.values().map(|level| (level.name.as_str(), level.inner.lock()));
    let mut rows: Vec<Vec<String>> = Vec::new();
    match page {
        "dump_priority_levels" => {
            rows.push(texts(LEVELS));
            rows.extend(levels.map(|(name, inner)| level(name, &inner)));
        }
        "dump_queues" => {
            rows.push(texts(QUEUES));
            for (name, inner) in levels {
                queues(name, &inner, &mut rows);
            }
        }
        "dump_requests" => {
            let details = !query.text("includeRequestDetails").is_empty();
            rows.push(texts(REQUESTS));
            if details {
                rows[0].extend(texts(DETAILS));
            }
            for (name, inner) in levels {
                requests(flow, name, &inner, details, &mut rows);
            }
        }
        _ => return None,
    }
    Some(respond::bytes(200, "text/plain; charset=utf-8", table(&rows)))
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn level(name: &str, inner: &Inner) -> Vec<String> {
    let (counts, totals) = (inner.queues.counts(), inner.queues.totals);
    let active = inner.queues.shown().filter(|queue| !queue.waiting.is_empty()).count();
    vec![
        name.to_owned(),
        active.to_string(),
        inner.queues.is_unused().to_string(),
        inner.quiescing.to_string(),
        counts.waiting.to_string(),
        counts.running.to_string(),
        totals.dispatched.to_string(),
        totals.rejected.to_string(),
        totals.timed_out.to_string(),
        totals.cancelled.to_string(),
    ]
}

fn queues(name: &str, inner: &Inner, rows: &mut Vec<Vec<String>>) {
    for (at, queue) in inner.queues.shown().enumerate() {
        rows.push(vec![
            name.to_owned(),
            at.to_string(),
            queue.waiting.len().to_string(),
            queue.executing.to_string(),
            queue.seats.to_string(),
            seat_seconds(queue.next_r),
            queue.initial_sum.to_string(),
            queue.seats_sum.to_string(),
            seat_seconds(queue.work_sum),
        ]);
    }
}

fn requests(flow: &Flow, name: &str, inner: &Inner, details: bool, rows: &mut Vec<Vec<String>>) {
    let mut add = |queue: &str, at: &str, request: &Request<About>| {
        let mut row = vec![
            name.to_owned(),
            request.about.schema.to_string(),
            queue.to_owned(),
            at.to_owned(),
            request.about.distinguisher.to_string(),
            time(flow, request.arrived),
            request.work.initial.to_string(),
            request.work.last.to_string(),
            format!("{:?}", request.work.linger),
            time(flow, request.started),
        ];
        if details {
            row.extend(request.about.details.iter().map(ToString::to_string));
        }
        rows.push(row);
    };
    for (at, queue) in inner.queues.shown().enumerate() {
        let at = at.to_string();
        for (place, request) in queue.waiting.iter().enumerate() {
            add(&at, &place.to_string(), request);
        }
        for request in &queue.running {
            add(&at, "-1", request);
        }
    }
    for request in inner.queues.running_of(None) {
        add("-1", "-1", request);
    }
}

fn time(flow: &Flow, at: Duration) -> String {
    let ago = flow.now().saturating_sub(at);
    let then = jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    then.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

fn seat_seconds(value: f64) -> String {
    format!("{value:.8}ss")
}

/// Cells end with `,`, and columns are as wide as their widest cell (at least eight with the blank between).
fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 2).max(8);
        }
    }
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == row.len() {
                out.push_str(cell);
            } else {
                let cell = format!("{cell},");
                out.push_str(&format!("{cell:<width$}", width = widths[at]));
            }
        }
        out.push('\n');
    }
    out
}
