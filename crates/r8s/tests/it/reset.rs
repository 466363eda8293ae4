//! `r8s reset` leaves the host as it was found.

use crate::leftovers::{cgroup, cgroups, links, mounts, processes, tables};
use crate::web::{cluster, roll_out};

#[test]
fn reset_leaves_nothing() {
    let Some(mut cluster) = cluster("reset_leaves_nothing") else { return };
    roll_out(&cluster);
    let root = cluster.root().display().to_string();
    let group = cgroup(&cluster).expect("pods have a cgroup");
    assert!(!cgroups(&group).is_empty());

    let reset = ["reset", "--root", &root, "--yes", "--data"];
    let refused = cluster.r8s(&reset).output().expect("reset");
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && says.contains("already runs"), "{says}");
    assert_eq!(crate::web::pods(&cluster).len(), 3, "a running cluster is not touched");

    cluster.stop().expect("stop");
    assert!(!processes(&cluster).is_empty() && !mounts(&cluster).is_empty(), "pods outlive the server");
    let done = cluster.r8s(&reset).output().expect("reset");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    assert_eq!(processes(&cluster), [""; 0], "processes");
    assert_eq!(mounts(&cluster), [""; 0], "mounts");
    assert_eq!(links(&cluster), [""; 0], "links");
    assert_eq!(tables(&cluster), [""; 0], "packet rules");
    assert_eq!(cgroups(&group), [""; 0].map(std::path::PathBuf::from), "cgroups");
    for dir in ["etc/r8s", "var/lib/r8s", "run/r8s", "var/log/pods"] {
        assert!(!cluster.root().join(dir).exists(), "{dir}");
    }
    let again = cluster.r8s(&reset).output().expect("reset");
    assert!(again.status.success(), "nothing there is success");
}
