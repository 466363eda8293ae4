//! kill -9 of the server at moments of all kinds while pods come and go: no running container and no acknowledged write
//! is lost, and nothing is left behind of the pods that went.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::{Cluster, wait_for};

use crate::leftovers::{links, mounts, shims};
use crate::web::{LIMIT, cluster};

/// Set `R8S_CRASH_ROUNDS` for more.
const ROUNDS: u64 = 3;
const AT_ONCE: u64 = 3;

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: example.org/web:1\n    command: [sleep, \"100000\"]\n---\n"
    )
}

/// Name, uid, container and restarts of the pods that run.
fn running(cluster: &Cluster) -> Result<BTreeSet<String>, String> {
    let path = "jsonpath={range .items[?(@.status.phase==\"Running\")]}{.metadata.name}/{.metadata.uid}/{.status.containerStatuses[0].containerID}/{.status.containerStatuses[0].restartCount}{'\\n'}{end}";
    let text = cluster.kubectl_ok(&["get", "pods", "-o", path]).map_err(|e| e.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn names(cluster: &Cluster) -> Result<BTreeSet<String>, String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{end}";
    let text = cluster.kubectl_ok(&["get", "pods", "-o", path]).map_err(|e| e.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn is_subset(what: &str, few: &BTreeSet<String>, many: &BTreeSet<String>) -> Result<(), String> {
    let missing: Vec<&String> = few.difference(many).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{what}: {missing:?} of {few:?} not in {many:?}")) }
}

#[test]
fn kills_at_any_moment_lose_and_leave_nothing() {
    let Some(mut cluster) = cluster("kills_at_any_moment_lose_and_leave_nothing") else { return };
    cluster.apply(&(pod("steady-a") + &pod("steady-b"))).expect("apply");
    let steady = wait_for("the first pods to run", LIMIT, || match running(&cluster)? {
        all if all.len() == 2 => Ok(all),
        all => Err(format!("{all:?}")),
    });
    let mut acknowledged: BTreeSet<String> = ["steady-a".to_owned(), "steady-b".to_owned()].into();
    // A fixed seed: the moments differ from round to round, not from run to run (but for the machine's own).
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let asked = std::env::var("R8S_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u64 = asked.unwrap_or(ROUNDS);
    for round in 0..rounds {
        let manifest: String = (0..AT_ONCE).map(|n| pod(&format!("p{round}-{n}"))).collect();
        if cluster.apply(&manifest).is_ok() {
            acknowledged.extend((0..AT_ONCE).map(|n| format!("p{round}-{n}")));
        }
        if round > 0 {
            // Some of the round before go while these come.
            let gone = format!("p{}-1", round - 1);
            if cluster.kubectl_ok(&["delete", "pod", &gone, "--wait=false", "--ignore-not-found"]).is_ok() {
                acknowledged.remove(&gone);
            }
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::park_timeout(Duration::from_millis((seed >> 33) % 400));
        cluster.kill().expect("kill");
        cluster.start_server().expect("start again");
        is_subset("written", &acknowledged, &names(&cluster).expect("pods"))
            .unwrap_or_else(|e| panic!("{e}"));
    }
    wait_for("what was asked for to run, and no more", LIMIT, || {
        let all = names(&cluster)?;
        let now = running(&cluster)?;
        if all != acknowledged || now.len() != all.len() {
            return Err(format!("asked {acknowledged:?}, there {all:?}, running {now:?}"));
        }
        is_subset("steady", &steady, &now)
    });

    let pods = acknowledged.len();
    let dead = usize::try_from(rounds * AT_ONCE).expect("few");
    let state = cluster.root().join("var/lib/r8s/runtime");
    let count = |dir: &str| std::fs::read_dir(state.join(dir)).expect("state").count();
    let held = cluster.root().join("run/r8s/podnet");
    wait_for("nothing of other pods to be left", LIMIT, || {
        let veths = links(&cluster).into_iter().filter(|name| name.starts_with("veth")).count();
        let netns = mounts(&cluster).into_iter().filter(|point| point.ends_with("/netns")).count();
        let seen = [
            ("shims", shims(&cluster).len()),
            ("veths", veths),
            ("network namespaces", netns),
            ("addresses", std::fs::read_dir(&held).expect("podnet").count()),
            ("sandboxes", count("sandboxes")),
        ];
        let wrong: Vec<_> = seen.iter().filter(|(_, number)| *number != pods).collect();
        // One that was made but not started when the server died is a dead container like others: a pod keeps the last.
        let roots = mounts(&cluster).into_iter().filter(|p| p.ends_with("/rootfs")).count();
        for (what, number) in [("container roots", roots), ("containers", count("containers"))] {
            if !(pods..=pods + dead).contains(&number) {
                return Err(format!("{pods} pods, but {number} {what}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{pods} pods, but {wrong:?}")) }
    });
    let user_pods = cluster.root().join("var/lib/r8s/kubelet/pods");
    wait_for("the pods' folders to go", LIMIT, || {
        match std::fs::read_dir(&user_pods).expect("pods").count() {
            number if number == pods => Ok(()),
            number => Err(format!("{number} folders of {pods} pods")),
        }
    });
}
