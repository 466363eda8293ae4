//! How many seats a request takes: lists by the bytes they touch, writes by who watches.

use std::time::Duration;

use super::queues::Work;
use crate::front::{Query, RequestInfo};

const BYTES_PER_SEAT: f64 = 100_000.0;
/// A list from the cache is streamed: it never holds more than this.
const MOST_STREAMED: f64 = 1_000_000.0;
/// What an object may weigh when nothing is known of it.
const HEAVIEST: f64 = 1_500_000.0;
const MOST_LIST_SEATS: u64 = 100;
const MOST_WRITE_SEATS: u64 = 10;
const WATCHES_PER_SEAT: f64 = 10.0;
/// What one event costs each seat's share of the watches.
const EVENT: Duration = Duration::from_millis(5);

/// What is stored of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stored {
    pub objects: usize,
    pub bytes: usize,
}

/// `stored` and `watches` are asked for when they matter; `most` is what the level lets one request take.
pub fn estimate(
    info: &RequestInfo,
    query: &Query,
    most: u64,
    stored: impl FnOnce() -> Option<Stored>,
    watches: impl FnOnce() -> usize,
) -> Work {
    let capped = |limit: u64| if most == 0 { limit } else { most.min(limit) };
    match info.verb.as_str() {
        "list" | "watch" => list(info, query, capped(MOST_LIST_SEATS), stored),
        "create" | "update" | "patch" | "delete" => {
            // a token changes nothing that could be watched
            if info.resource == "serviceaccounts" && info.subresource == "token" {
                return Work::ONE;
            }
            write(watches(), capped(MOST_WRITE_SEATS))
        }
        _ => Work::ONE,
    }
}

fn list(info: &RequestInfo, query: &Query, most: u64, stored: impl FnOnce() -> Option<Stored>) -> Work {
    let seats = |seats: u64| Work { initial: seats.clamp(1, most.max(1)), ..Work::ONE };
    let Ok(limit) = query.int("limit") else { return seats(most) };
    let revision = query.text("resourceVersion");
    let watch = info.verb == "watch";
    if watch && !query.flag("sendInitialEvents") && !matches!(revision, "" | "0") {
        return Work::ONE;
    }
    let Some(stored) = stored() else { return Work::ONE };
    let limit = limit.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(usize::MAX);
    let from_store = match query.text("resourceVersionMatch") {
        "" => !query.text("continue").is_empty() || (limit != usize::MAX && !matches!(revision, "" | "0")),
        "NotOlderThan" => false,
        _ => true,
    };
    let cached = watch || !from_store;
    let average = match stored {
        Stored { objects: 0, .. } => 0.0,
        Stored { bytes: 0, .. } => HEAVIEST,
        Stored { objects, bytes } => bytes as f64 / objects as f64,
    };
    let selects = !query.text("fieldSelector").is_empty() || !query.text("labelSelector").is_empty();
    let page = stored.objects.min(limit);
    let objects = match () {
        () if !info.name.is_empty() => 1,
        () if !cached && selects => page.max(stored.objects / 2),
        () => page,
    };
    let held = objects as f64 * average;
    let held = if cached { held.min(MOST_STREAMED) } else { held };
    seats((held / BYTES_PER_SEAT).ceil() as u64)
}

fn write(watches: usize, most: u64) -> Work {
    if (watches as f64) < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let seats = (watches as f64 / WATCHES_PER_SEAT).ceil();
    let last = (seats as u64).min(most);
    Work { initial: 1, last, linger: EVENT.mul_f64(seats / last.max(1) as f64) }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(method: Method, uri: &str, objects: usize, bytes: usize, watches: usize, want: (u64, u64, u64)) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = Query::parse(query);
        let info = RequestInfo::new(&method, path, &query);
        let work = estimate(&info, &query, 10, || Some(Stored { objects, bytes }), || watches);
        assert_eq!((work.initial, work.last, work.linger.as_millis() as u64), want, "{method} {uri}");
    }

    #[test]
    fn widths() {
        let pods = "/api/v1/pods";
        for (uri, objects, want) in [
            (pods.to_owned(), 0, 1),
            (pods.to_owned(), 10, 1),
            (pods.to_owned(), 100, 7),
            // ten at most, whatever there is
            (pods.to_owned(), 100_000, 10),
            (format!("{pods}?limit=20"), 100_000, 2),
            (format!("{pods}?fieldSelector=metadata.name%3Dx"), 100_000, 1),
            (format!("{pods}?watch=1&resourceVersion=7"), 100_000, 1),
            (format!("{pods}?watch=1"), 100, 7),
            (format!("{pods}?limit=20&continue=x&labelSelector=a"), 60, 2),
            (format!("{pods}?limit=x"), 1, 10),
        ] {
            check(Method::GET, &uri, objects, objects * 6300, 0, (want, 0, 0));
        }
        check(Method::POST, "/api/v1/namespaces/a/pods", 0, 0, 9, (1, 0, 0));
        check(Method::POST, "/api/v1/namespaces/a/pods", 0, 0, 25, (1, 3, 5));
        check(Method::POST, "/api/v1/namespaces/a/pods", 0, 0, 200, (1, 10, 10));
        check(Method::POST, "/api/v1/namespaces/a/serviceaccounts/x/token", 0, 0, 200, (1, 0, 0));
    }
}
