//! A host without any network, as a laptop may be: pods still reach each other and the API server, and when a network
//! comes the next start uses it.

use std::path::Path;

use testkit::{Cluster, Host, Options, root_or_skip, wait_for};

use crate::web::{LIMIT, all_answer, from_host, image, pods, roll_out};

fn node_address(cluster: &Cluster) -> String {
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    cluster.kubectl_ok(&["get", "nodes", "-o", path]).expect("the node")
}

#[test]
fn a_cluster_runs_without_a_network() {
    if !root_or_skip("a_cluster_runs_without_a_network") {
        return;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: a_cluster_runs_without_a_network needs busybox-static");
        return;
    }
    let host = Host::offline().expect("host");
    let mut cluster = Cluster::start_on(host, crate::BINARY, Options::default()).expect("the cluster starts");
    image(&cluster);
    roll_out(&cluster);
    all_answer(&cluster, "from the host", || from_host(&cluster));
    assert_eq!(node_address(&cluster), "10.244.255.255");

    let pod = pods(&cluster).first().and_then(|pod| Some(pod.split_once('/')?.0.to_owned())).expect("a pod");
    let ask = ["exec", &pod, "--", "nc", "-w", "5", "kubernetes.default", "443", "-e", "/bin/true"];
    wait_for("the API server to be reached from a pod", LIMIT, || {
        cluster.kubectl_ok(&ask).map_err(|e| e.to_string())
    });

    cluster.stop().expect("stop");
    cluster
        .host()
        .sh("ip link add eth0 type veth peer name far && ip link set far up && ip link set eth0 up && \
         ip addr add 192.0.2.10/24 dev eth0")
        .expect("a network");
    cluster.start_server().expect("it starts again");
    wait_for("the node to have the network's address", LIMIT, || match node_address(&cluster) {
        address if address == "192.0.2.10" => Ok(()),
        other => Err(other),
    });
    all_answer(&cluster, "from the host", || from_host(&cluster));
    wait_for("the API server to be reached from a pod", LIMIT, || {
        cluster.kubectl_ok(&ask).map_err(|e| e.to_string())
    });
}
