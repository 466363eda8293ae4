//! The server dies or stops; what runs goes on and is taken over, and nothing that was written is lost.

use crate::web::{all_answer, available, cluster, from_host, pods, roll_out};

#[test]
fn a_killed_server_loses_no_write_and_no_container() {
    let Some(mut cluster) = cluster("a_killed_server_loses_no_write_and_no_container") else { return };
    roll_out(&cluster);
    let before = pods(&cluster);
    for round in 0..3 {
        let name = format!("round-{round}");
        cluster.kubectl_ok(&["create", "configmap", &name, "--from-literal=written=yes"]).expect("write");
        cluster.kill().expect("kill");
        // Without any r8s process the pods still answer: rules and containers are the kernel's.
        cluster.start_server().expect("start again");
        for earlier in 0..=round {
            let name = format!("round-{earlier}");
            let written = cluster.kubectl_ok(&["get", "configmap", &name, "-o", "jsonpath={.data.written}"]);
            assert_eq!(written.expect("the write is there"), "yes");
        }
        available(&cluster, 3);
        assert_eq!(pods(&cluster), before, "the same pods, none restarted");
    }
    all_answer(&cluster, "after the restarts", || from_host(&cluster));

    cluster.stop().expect("an orderly stop");
    cluster.start_server().expect("start again");
    available(&cluster, 3);
    assert_eq!(pods(&cluster), before, "the same pods, none restarted");
}
