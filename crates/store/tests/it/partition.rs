//! A member cut off from the others while clients still reach it: three members in network namespaces of their own, with
//! one network for clients and one for peers. All of it is gone when the processes are.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use store::etcd::Config;

use super::cluster::available;
use super::etcd::{more, traffic_survives};

/// Set in the process that runs in a namespace of its own.
const INSIDE: &str = "STORE_TEST_PARTITION";

#[test]
fn a_member_is_cut_off_from_the_others() {
    if !available("etcd") || !available("ip") {
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(inside());
    }
    let may = Command::new("unshare").args(["--net", "--", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: network namespaces need root");
    }
    let mut again = Command::new("unshare");
    again.args(["--net", "--"]).arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    again.args(["--exact", "partition::a_member_is_cut_off_from_the_others", "--nocapture"]);
    assert!(again.status().unwrap().success());
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that holds a network namespace, by its id.
fn namespace() -> (Process, u32) {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sleep", "600"]);
    let child = Process(command.spawn().unwrap());
    let pid = child.0.id();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == own) {
        std::thread::yield_now();
    }
    (child, pid)
}

fn member(i: usize, dir: PathBuf) -> [Process; 2] {
    let (holder, pid) = namespace();
    let within = format!("nsenter --net=/proc/{pid}/ns/net");
    run(&format!("{within} ip link set lo up"));
    for (net, bridge, link) in [(99, "clients", "c"), (98, "peers", "p")] {
        run(&format!("ip link add {link}{i} type veth peer name {bridge} netns {pid}"));
        run(&format!("ip link set {link}{i} master {bridge} up"));
        run(&format!("{within} ip addr add 10.{net}.0.{}/24 dev {bridge}", i + 1));
        run(&format!("{within} ip link set {bridge} up"));
    }
    let (client, peer) = (format!("http://10.99.0.{}:2379", i + 1), format!("http://10.98.0.{}:2380", i + 1));
    let all: Vec<_> = (0..3).map(|i| format!("m{i}=http://10.98.0.{}:2380", i + 1)).collect();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args(["etcd", "--name", &format!("m{i}"), "--data-dir"]);
    command.arg(dir).args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=error"]);
    let process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    [process, holder]
}

async fn inside() {
    let dir = tempfile::tempdir().unwrap();
    run("ip link set lo up");
    for bridge in ["clients", "peers"] {
        run(&format!("ip link add {bridge} type bridge"));
        run(&format!("ip link set {bridge} up"));
    }
    run("ip addr add 10.99.0.254/24 dev clients");
    let _members: Vec<_> = (0..3).map(|i| member(i, dir.path().join(format!("m{i}")))).collect();
    let config = Config {
        request_timeout: Duration::from_secs(2),
        retry_for: Duration::from_secs(60),
        ..Config::new((1..4).map(|i| format!("http://10.99.0.{i}:2379")))
    };
    let store = store::etcd::connect(config).await.unwrap();
    traffic_survives(store, async |written| {
        for i in 0..3 {
            run(&format!("ip link set p{i} down"));
            more(written, 20).await;
            run(&format!("ip link set p{i} up"));
            more(written, 20).await;
        }
        // And from everybody, clients included.
        run("ip link set p0 down");
        run("ip link set c0 down");
        more(written, 20).await;
        run("ip link set c0 up");
        run("ip link set p0 up");
        more(written, 20).await;
    })
    .await;
}
