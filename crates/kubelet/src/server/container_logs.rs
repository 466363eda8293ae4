//! `/containerLogs/NAMESPACE/POD/CONTAINER`.

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use runtime::cri::v1;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

use super::query::Query;
use super::route::find_pod;
use super::{Answer, BodyError, text};
use crate::agent::{Agent, Wanted};
use crate::logs::{LogOptions, LogReader, Stream};
use crate::pod::{PodExt, SpecExt};

pub(super) async fn answer(
    agent: &Arc<Agent>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let (options, previous) = match options(query, Timestamp::now()) {
        Ok(options) => options,
        Err((code, message)) => return text(code, message),
    };
    let Some(pod) = find_pod(agent, namespace, name, None) else {
        return text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if pod.spec().container(container).is_none() {
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}"));
    }
    let id = match container_id(&pod, container, previous) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let unable = || text(StatusCode::BAD_REQUEST, format!("unable to retrieve container logs for {id}"));
    let bare = id.split_once("://").map_or(id.as_str(), |(_, bare)| bare).to_owned();
    let request = v1::ContainerStatusRequest { container_id: bare.clone(), verbose: false };
    let Some(status) = agent.runtime.container_status(request).await.ok().and_then(|a| a.status) else {
        return unable();
    };
    let reader = match LogReader::open(&PathBuf::from(&status.log_path), options.clone()) {
        Ok(reader) => reader,
        Err(e) => {
            tracing::debug!(path = status.log_path, error = %e, "a log does not open");
            return text(
                StatusCode::BAD_REQUEST,
                format!("failed to try resolving symlinks in path {:?}: {e}", status.log_path),
            );
        }
    };
    let Some(statuses) = agent.entries().get(pod.uid()).map(|e| e.statuses()) else { return unable() };
    let source = Source { agent: agent.clone(), id: bare, reader, statuses, follow: options.follow };
    let pieces = stream::unfold(Some(source), |source| async move {
        let mut source = source?;
        match source.next().await {
            Ok(Some(piece)) => Some((Ok::<_, BodyError>(Frame::data(piece)), Some(source))),
            Ok(None) => None,
            Err(e) => Some((Err(e.into()), None)),
        }
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(Box::pin(pieces))));
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

struct Source {
    agent: Arc<Agent>,
    id: String,
    reader: LogReader,
    statuses: watch::Receiver<Wanted>,
    follow: bool,
}

impl Source {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut last_look = !self.follow;
        loop {
            match self.reader.read()? {
                None => return Ok(None),
                Some(piece) if !piece.is_empty() => return Ok(Some(piece)),
                Some(_) => {}
            }
            if last_look {
                return Ok(None);
            }
            if self.reader.reopen()? {
                continue;
            }
            if !self.is_running().await {
                // What was written before the end is read once more.
                last_look = true;
                continue;
            }
            tokio::select! {
                changed = self.reader.changed() => changed?,
                changed = self.statuses.changed() => last_look = changed.is_err(),
                () = self.agent.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn is_running(&self) -> bool {
        let request = v1::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let status = self.agent.runtime.container_status(request).await.ok().and_then(|a| a.status);
        status.is_some_and(|s| s.state != v1::ContainerState::ContainerExited as i32)
    }
}

type Refused = (StatusCode, &'static str);

fn options(query: &Query, now: Timestamp) -> Result<(LogOptions, bool), Refused> {
    const DECODE: Refused = (StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#);
    const INVALID: Refused = (StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);
    let number = |name: &str| match query.get(name).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| DECODE),
    };
    let positive = |n: Option<i64>, least: i64| match n {
        Some(n) if n < least => Err(INVALID),
        other => Ok(other.map(i64::unsigned_abs)),
    };
    let tail = match query.get("tail").or(query.get("tailLines")) {
        Some("all") => None,
        _ => number("tail")?.or(number("tailLines")?),
    };
    let since_seconds = positive(number("sinceSeconds")?, 1)?;
    let since_time = match query.get("sinceTime").filter(|v| !v.is_empty()) {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| DECODE)?),
    };
    let since = match (since_seconds, since_time) {
        (Some(_), Some(_)) => return Err(INVALID),
        (Some(s), None) => {
            Some(now - SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX).min(1 << 40)))
        }
        (None, time) => time,
    };
    let stream = match query.get("stream") {
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        None | Some("All" | "") => None,
        Some(_) => return Err(INVALID),
    };
    if stream.is_some() && tail.is_some() {
        return Err(INVALID);
    }
    let options = LogOptions {
        follow: query.flag("follow"),
        tail: positive(tail, 0)?,
        since,
        limit_bytes: positive(number("limitBytes")?, 1)?,
        timestamps: query.flag("timestamps"),
        stream,
    };
    Ok((options, query.flag("previous")))
}

/// The container whose log is meant, as `type://id`; or why there is none to show.
fn container_id(pod: &Pod, name: &str, previous: bool) -> Result<String, String> {
    let pod_name = pod.name();
    let status = pod.status.clone().unwrap_or_default();
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found: Option<&ContainerStatus> = lists.into_iter().flatten().flatten().find(|s| s.name == name);
    let found = found.ok_or_else(|| format!("container {name:?} in pod {pod_name:?} is not available"))?;
    let last = found.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let last = last.and_then(|t| t.container_id.clone()).filter(|id| !id.is_empty());
    let state = found.state.clone().unwrap_or_default();
    let ended = || format!("container {name:?} in pod {pod_name:?} is terminated");
    let waiting = |what: &str| format!("container {name:?} in pod {pod_name:?} is waiting to start: {what}");
    if previous {
        return last
            .ok_or_else(|| format!("previous terminated container {name:?} in pod {pod_name:?} not found"));
    }
    if state.running.is_some() {
        return found.container_id.clone().ok_or_else(ended);
    }
    if let Some(t) = state.terminated {
        return t.container_id.filter(|id| !id.is_empty()).or(last).ok_or_else(ended);
    }
    if let Some(last) = last {
        return Ok(last);
    }
    let reason = state.waiting.and_then(|w| w.reason);
    Err(match reason.as_deref() {
        Some("ErrImagePull") => waiting("image can't be pulled"),
        Some("ImagePullBackOff") => waiting("trying and failing to pull image"),
        Some(other) => waiting(other),
        None => format!("container {name:?} in pod {pod_name:?} is waiting to start - no logs yet"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries() {
        let now = Timestamp::from_second(1000).unwrap();
        let parse = |text: &str| options(&Query::parse(Some(text)), now);
        let (got, previous) =
            parse("follow=true&tailLines=5&sinceSeconds=10&timestamps=true&previous=true").unwrap();
        assert!(got.follow && got.timestamps && previous);
        assert_eq!((got.tail, got.since), (Some(5), Some(Timestamp::from_second(990).unwrap())));
        assert_eq!(parse("tail=all").unwrap().0.tail, None);
        assert_eq!(parse("tailLines=x").unwrap_err().0, StatusCode::BAD_REQUEST);
        for bad in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(bad).unwrap_err().0, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
    }

    #[test]
    fn which_container() {
        let pod = |state: serde_json::Value, last: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"containerStatuses": [
                {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": "r://now", "state": state, "lastState": last}]}}))
            .unwrap()
        };
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        for (state, last, previous, expected) in [
            (json!({"running": {}}), json!({}), false, Ok("r://now")),
            (json!({"running": {}}), ended("r://old"), true, Ok("r://old")),
            (
                json!({"running": {}}),
                json!({}),
                true,
                Err("previous terminated container \"c\" in pod \"p\" not found"),
            ),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended("r://old"), false, Ok("r://old")),
            (
                json!({"waiting": {"reason": "ErrImagePull"}}),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            ),
            (ended("r://end"), json!({}), false, Ok("r://end")),
        ] {
            let got = container_id(&pod(state, last), "c", previous);
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        }
        assert!(
            container_id(&pod(json!({}), json!({})), "x", false).unwrap_err().contains("is not available")
        );
    }
}
