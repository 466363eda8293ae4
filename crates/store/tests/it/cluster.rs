//! etcd clusters on loopback, one per test, gone with it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use store::Store;
use store::etcd::Config;

/// Whether a program can be run; says so if not.
pub fn available(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Member {
    name: String,
    client: u16,
    peer: u16,
    data: PathBuf,
    process: Option<Child>,
}

pub struct Cluster {
    pub members: Vec<Member>,
    extra: Vec<String>,
    scheme: &'static str,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub fn start(members: usize) -> Self {
        Self::start_with(members, "http", |_| Vec::new())
    }

    pub fn start_with(
        members: usize,
        scheme: &'static str,
        extra: impl Fn(&std::path::Path) -> Vec<String>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let member = |i| Member {
            name: format!("m{i}"),
            client: free_port(),
            peer: free_port(),
            data: dir.path().join(format!("m{i}")),
            process: None,
        };
        let extra = extra(dir.path());
        let mut cluster = Self { members: (0..members).map(member).collect(), extra, scheme, dir };
        (0..members).for_each(|i| cluster.restart(i));
        cluster
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| format!("{}://127.0.0.1:{}", self.scheme, m.client)).collect()
    }

    pub async fn connect(&self) -> Arc<dyn Store> {
        let config = Config { request_timeout: Duration::from_secs(2), ..Config::new(self.endpoints()) };
        self.connect_with(config).await
    }

    pub async fn connect_with(&self, config: Config) -> Arc<dyn Store> {
        for _ in 0..4 {
            if let Ok(store) = store::etcd::connect(config.clone()).await {
                return store;
            }
        }
        store::etcd::connect(config).await.unwrap()
    }

    pub fn restart(&mut self, i: usize) {
        let peers: Vec<_> =
            self.members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer)).collect();
        let (peers, scheme) = (peers.join(","), self.scheme);
        let member = &mut self.members[i];
        let client = format!("{scheme}://127.0.0.1:{}", member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let log = std::fs::File::create(member.data.with_extension("log")).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name, "--data-dir"])
            .arg(&member.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers, "--initial-cluster-state", "new", "--logger=zap"])
            .args(["--heartbeat-interval=50", "--election-timeout=500", "--log-level=warn"])
            .args(["--experimental-watch-progress-notify-interval=200ms"])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(log);
        member.process = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self, i: usize) {
        if let Some(mut process) = self.members[i].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn signal(&self, i: usize, signal: &str) {
        let pid = self.members[i].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn pause(&self, i: usize) {
        self.signal(i, "-STOP");
    }

    /// Throttles what the member writes to the disk that its data is on, until the answer is dropped; `None` without
    /// the right, or the kernel's blkio controller.
    pub fn slow_disk(&self, i: usize) -> Option<SlowDisk> {
        use std::os::unix::fs::MetadataExt;
        let device = std::fs::metadata(&self.members[i].data).ok()?.dev();
        let device = format!("{}:{}", (device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & !0xff));
        let group = PathBuf::from(format!("/sys/fs/cgroup/blkio/store-test-{}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let slow = SlowDisk(group);
        std::fs::write(slow.0.join("blkio.throttle.write_iops_device"), format!("{device} 20")).ok()?;
        let pid = self.members[i].process.as_ref()?.id();
        std::fs::write(slow.0.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(slow)
    }

    pub fn resume(&self, i: usize) {
        self.signal(i, "-CONT");
    }

    /// Which member leads, by asking each with etcdctl.
    pub fn leader(&self) -> Option<usize> {
        let status = |endpoint: &String| {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args([
                "--endpoints",
                endpoint,
                "endpoint",
                "status",
                "-w",
                "json",
            ]);
            let out = command.stderr(Stdio::null()).output().ok()?;
            let all: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
            let status = &all[0]["Status"];
            (status["leader"].as_u64()? == status["header"]["member_id"].as_u64()?).then_some(())
        };
        let endpoints = self.endpoints();
        (0..endpoints.len()).find(|i| self.members[*i].process.is_some() && status(&endpoints[*i]).is_some())
    }
}

/// A control group with a slow disk.
pub struct SlowDisk(PathBuf);

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let inside = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let _ = std::fs::write("/sys/fs/cgroup/blkio/cgroup.procs", pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
