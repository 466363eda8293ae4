//! ImageLocality: better where the images already are, less so for images that few nodes have.

use std::sync::Arc;

use crate::framework::{Cycle, Happenings, MOST, Plugin};
use crate::node::NodeInfo;

pub const PLUGIN: Plugin =
    Plugin { name: "ImageLocality", filter: None, score: Some((score, 1)), helped_by: Happenings(0) };

const MEGABYTE: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MEGABYTE;
const MOST_EACH: i64 = 1000 * MEGABYTE;

fn score(cycle: &Cycle<'_>, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
    let spec = &cycle.pod.pod.spec;
    let containers: Vec<String> =
        spec.init_containers.iter().chain(&spec.containers).map(|c| full_name(&c.image)).collect();
    let most = MOST_EACH * containers.len() as i64;
    let total = cycle.snapshot.nodes.len().max(1);
    nodes
        .iter()
        .map(|node| {
            let has = |image: &String| {
                node.node.status.images.iter().any(|i| i.names.iter().flatten().any(|n| n == image))
            };
            let weight = |image: &String| {
                let (count, size) = cycle.snapshot.images.get(image).copied().unwrap_or_default();
                (size as f64 * count as f64 / total as f64) as i64
            };
            let sum: i64 = containers.iter().filter(|image| has(image)).map(weight).sum();
            MOST * (sum.clamp(LEAST, most.max(LEAST)) - LEAST) / (most - LEAST).max(1)
        })
        .collect()
}

/// Nodes report images with a tag.
fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
