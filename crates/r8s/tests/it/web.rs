//! The README's example, for tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use testkit::{Cluster, Options, root_or_skip, wait_for};

pub const LIMIT: Duration = Duration::from_secs(60);

/// A cluster started with these flags; `None` (with a word) where it cannot run.
pub fn bare(test: &str, flags: &[&str]) -> Option<Cluster> {
    if !root_or_skip(test) {
        return None;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: {test} needs busybox-static");
        return None;
    }
    let flags = flags.iter().map(ToString::to_string).collect();
    Some(Cluster::start(crate::BINARY, Options { flags }).expect("the cluster starts"))
}

/// A cluster with the example's image.
pub fn cluster(test: &str) -> Option<Cluster> {
    let cluster = bare(test, &[])?;
    image(&cluster);
    Some(cluster)
}

/// Makes the example's image.
pub fn image(cluster: &Cluster) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/web/image");
    let root = cluster.root().display().to_string();
    let mut command = cluster.host().command(&script.display().to_string());
    let output =
        command.args(["--root", &root]).env("R8S", crate::BINARY).output().expect("examples/web/image runs");
    assert!(output.status.success(), "examples/web/image: {}", String::from_utf8_lossy(&output.stderr));
}

/// Applies the example and waits until all of it is available.
pub fn roll_out(cluster: &Cluster) {
    let manifest = include_str!("../../../../examples/web/web.yaml");
    cluster.apply(manifest).expect("the example applies");
    available(cluster, 3);
}

pub fn available(cluster: &Cluster, count: usize) {
    wait_for("the Deployment to be available", LIMIT, || {
        let path = "jsonpath={.status.availableReplicas}/{.status.updatedReplicas}/{.status.replicas}";
        let seen =
            cluster.kubectl_ok(&["get", "deployment", "web", "-o", path]).map_err(|e| e.to_string())?;
        if seen == format!("{count}/{count}/{count}") {
            Ok(())
        } else {
            Err(format!("{seen}; {}", cluster.log()))
        }
    });
}

/// Names and uids of the example's pods.
pub fn pods(cluster: &Cluster) -> BTreeSet<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}/{.metadata.uid}/{.status.containerStatuses[0].restartCount}{'\\n'}{end}";
    let text = cluster.kubectl_ok(&["get", "pods", "-l", "app=web", "-o", path]).expect("pods");
    text.lines().map(str::to_owned).collect()
}

/// Asks the Service until every pod has answered.
pub fn all_answer(cluster: &Cluster, from: &str, ask: impl Fn() -> Result<String, String>) {
    let wanted: BTreeSet<String> =
        pods(cluster).iter().filter_map(|pod| Some(pod.split_once('/')?.0.to_owned())).collect();
    let seen = std::cell::RefCell::new(BTreeSet::new());
    wait_for(&format!("all pods to answer {from}"), LIMIT, || {
        seen.borrow_mut().insert(ask()?.trim().to_owned());
        let missing: Vec<_> = wanted.difference(&seen.borrow()).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("no answer from {missing:?}")) }
    });
}

/// The page behind the cluster IP, from the host.
pub fn from_host(cluster: &Cluster) -> Result<String, String> {
    let path = "jsonpath={.spec.clusterIP}";
    let address = cluster.kubectl_ok(&["get", "service", "web", "-o", path]).map_err(|e| e.to_string())?;
    let mut command = cluster.host().command("curl");
    let output = command
        .args(["-sS", "-m", "2", &format!("http://{address}/")])
        .output()
        .map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
