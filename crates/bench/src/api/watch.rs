//! Watch fan-out: many watches see the same changes; each must see every one of them exactly once and in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Measured, Row, pods};
use crate::connection::{Call, Server};
use crate::process::{self, Process};

pub const NAME: &str = "watch event delivered";

const CHANGES: usize = 200;

/// What is looked at of an event: the load must cost less than what it loads.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(rename = "resourceVersion")]
    version: &'a str,
    #[serde(borrow, default)]
    annotations: Annotations<'a>,
}

#[derive(Default, Deserialize)]
struct Annotations<'a> {
    round: Option<&'a str>,
}

pub async fn fan_out(server: &Server, processes: &[Process], watches: usize) -> Result<Row> {
    let mut writer = server.connect().await?;
    let list: Value =
        serde_json::from_slice(&writer.call(&Call::get(format!("{}?limit=1", pods::COLLECTION))).await?)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a resourceVersion")?.to_owned();
    let mut watching = Vec::new();
    for _ in 0..watches {
        let mut connection = server.connect().await?;
        let call = Call::get(format!("{}?watch=true&resourceVersion={version}", pods::COLLECTION));
        let answer = connection.open(&call).await?;
        watching.push(tokio::spawn(async move {
            let seen = read(answer.into_body()).await;
            drop(connection);
            seen
        }));
    }
    let before = process::total(processes)?;
    let started = Instant::now();
    let mut sent = Vec::new();
    for i in 0..CHANGES {
        let patch = json!({"metadata": {"annotations": {"round": i.to_string()}}});
        let call = Call::with_body(Method::PATCH, pods::path(0), "application/merge-patch+json", &patch);
        sent.push(Instant::now());
        writer.call(&call).await?;
    }
    let mut latencies = Vec::new();
    for watch in watching {
        let seen = tokio::time::timeout(Duration::from_secs(120), watch)
            .await
            .context("a watch did not see all")??;
        for (i, at) in seen?.into_iter().enumerate() {
            latencies.push(at.duration_since(sent[i]));
        }
    }
    let elapsed = started.elapsed();
    let measured =
        Measured { operations: CHANGES * watches, elapsed, before, after: process::total(processes)? };
    Ok(measured.row(NAME, &mut latencies))
}

/// When each change arrived. Rounds must come as 0, 1, 2, … and versions must rise.
async fn read(mut body: hyper::body::Incoming) -> Result<Vec<Instant>> {
    let mut seen = Vec::new();
    let mut pending: Vec<u8> = Vec::new();
    let mut last_version = 0;
    while seen.len() < CHANGES {
        let frame = body.frame().await.context("the watch ended early")??;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        let Some(end) = data.iter().rposition(|byte| *byte == b'\n') else { continue };
        let whole = pending.len() - data.len() + end + 1;
        for event in serde_json::Deserializer::from_slice(&pending[..whole]).into_iter::<Event>() {
            let Event { kind, object: Object { metadata } } = event?;
            let version: u64 = metadata.version.parse()?;
            if kind == "BOOKMARK" {
                continue;
            }
            let round = metadata.annotations.round.and_then(|r| r.parse::<usize>().ok());
            if kind != "MODIFIED" || round != Some(seen.len()) || version <= last_version {
                bail!("event {} is {kind} of round {round:?} at {version} after {last_version}", seen.len());
            }
            last_version = version;
            seen.push(Instant::now());
        }
        pending.drain(..whole);
    }
    Ok(seen)
}
