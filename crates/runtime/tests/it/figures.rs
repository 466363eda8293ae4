//! What things cost. Not checked, printed: `cargo test -p runtime --release --test it -- --ignored --nocapture figures`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::cri::{RuntimeService, v1};

use crate::world::{World, shell};

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Kilobytes of a line of `/proc/PID/smaps_rollup`.
fn kilobytes(pid: i64, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(field));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn figures() {
    let Some(world) = World::new().await else { return };
    let world = Arc::new(world);
    let (mut pods, mut creates, mut starts, mut execs) = (vec![], vec![], vec![], vec![]);
    let mut private = vec![];
    for n in 0..20 {
        let begun = Instant::now();
        let sandbox = world.sandbox(&format!("pod-{n}")).await;
        pods.push(begun.elapsed());
        let begun = Instant::now();
        let id = world.create(&sandbox, shell("main", "sleep 1000")).await.unwrap();
        creates.push(begun.elapsed());
        let begun = Instant::now();
        world.start(&id).await.unwrap();
        starts.push(begun.elapsed());
        let begun = Instant::now();
        world.exec(&id, &["true"]).await;
        execs.push(begun.elapsed());
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.0.clone(), verbose: true };
        let info = world.runtime.pod_sandbox_status(request).await.unwrap().info;
        let state: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        let shim = state["shim"].as_i64().unwrap();
        private.push((kilobytes(shim, "Private"), kilobytes(shim, "Pss:")));
    }
    println!(
        "run sandbox {:.1} ms, create {:.1} ms, start {:.1} ms, exec true {:.1} ms (medians of 20)",
        median(pods),
        median(creates),
        median(starts),
        median(execs)
    );
    println!("shim with a container: {:?} kB private, PSS", private.last());

    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..50 {
        let world = Arc::clone(&world);
        tasks.push(tokio::spawn(async move {
            let sandbox = world.sandbox(&format!("many-{n}")).await;
            world.run(&sandbox, shell("main", "sleep 1000")).await
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    println!("50 pods with a container, at once: {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let begun = Instant::now();
    let Ok(world) = Arc::try_unwrap(world) else { panic!("still used") };
    world.close().await;
    println!(
        "70 pods stopped and removed, one after another: {:.0} ms",
        begun.elapsed().as_secs_f64() * 1000.0
    );
}
