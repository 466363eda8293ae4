//! A runtime of its own for each test, with an image made of Debian's static busybox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kernel::cgroup::Hierarchy;
use runtime::cri::{RuntimeService, v1};
use runtime::image::{Reference, build, manifest::RunConfig};
use runtime::{Config, Runtime};
use tempfile::TempDir;

pub const IMAGE: &str = "test/busybox:latest";
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct World {
    pub runtime: Runtime,
    pub dir: TempDir,
    pub cgroup: String,
}

/// The helper's place: `None` tells that this test can't run here, and why.
pub fn can_run() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !Path::new("/bin/busybox").exists() {
        "/bin/busybox (busybox-static)"
    } else {
        return true;
    };
    eprintln!("skipped: needs {missing}");
    false
}

pub fn config(dir: &Path) -> Config {
    Config {
        root: dir.join("root"),
        run: dir.join("run"),
        helper: vec![env!("CARGO_BIN_EXE_runtime-helper").to_owned()],
        network: None,
        registries: Default::default(),
        oci_runtimes: oci_runtimes(),
        durable_images: false,
    }
}

/// What is installed of the OCI command-line runtimes.
pub fn oci_runtimes() -> BTreeMap<String, PathBuf> {
    let places = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.map(|path| ("runc".to_owned(), path)).into_iter().collect()
}

impl World {
    pub async fn new() -> Option<World> {
        if !can_run() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(config(dir.path())).await.unwrap();
        let folder = dir.path().join("image");
        busybox_folder(&folder);
        let run = RunConfig { cmd: vec!["sh".into()], env: vec!["PATH=/bin".into()], ..RunConfig::default() };
        build::from_folder(runtime.images(), &folder, &Reference::parse(IMAGE).unwrap(), run).unwrap();
        let cgroup = format!("/r8s-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(World { runtime, dir, cgroup })
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    pub fn sandbox_config(&self, name: &str) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.logs().join(name).to_string_lossy().into_owned(),
            dns_config: Some(v1::DnsConfig { servers: vec!["10.0.0.10".into()], ..Default::default() }),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(own_namespaces()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&self, name: &str) -> (String, v1::PodSandboxConfig) {
        let config = self.sandbox_config(name);
        (self.run_sandbox(config.clone()).await, config)
    }

    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.runtime.run_pod_sandbox(request).await.unwrap().pod_sandbox_id
    }

    /// Creates and starts.
    pub async fn run(&self, sandbox: &(String, v1::PodSandboxConfig), config: v1::ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub async fn create(
        &self,
        (id, sandbox): &(String, v1::PodSandboxConfig),
        config: v1::ContainerConfig,
    ) -> runtime::cri::Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self.runtime.create_container(request).await?.container_id)
    }

    pub async fn start(&self, id: &str) -> runtime::cri::Result<()> {
        self.runtime
            .start_container(v1::StartContainerRequest { container_id: id.to_owned() })
            .await
            .map(drop)
    }

    pub async fn status(&self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.unwrap().status.unwrap()
    }

    /// Waits until the container has ended.
    pub async fn ended(&self, id: &str) -> v1::ContainerStatus {
        for _ in 0..3000 {
            let status = self.status(id).await;
            if status.state() == v1::ContainerState::ContainerExited {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not end: {:?}", self.status(id).await);
    }

    pub async fn exec(&self, id: &str, command: &[&str]) -> v1::ExecSyncResponse {
        self.try_exec(id, command, 30).await.unwrap()
    }

    pub async fn try_exec(
        &self,
        id: &str,
        command: &[&str],
        timeout: i64,
    ) -> runtime::cri::Result<v1::ExecSyncResponse> {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|s| (*s).to_owned()).collect(),
            timeout,
        };
        self.runtime.exec_sync(request).await
    }

    /// stdout of a shell line in the container.
    pub async fn sh(&self, id: &str, line: &str) -> String {
        let answer = self.exec(id, &["sh", "-c", line]).await;
        String::from_utf8(answer.stdout).unwrap() + std::str::from_utf8(&answer.stderr).unwrap()
    }

    pub async fn log(&self, id: &str) -> String {
        let path = self.status(id).await.log_path;
        std::fs::read_to_string(path).unwrap()
    }

    /// A new runtime on the same directories, as after a crash of the agent.
    pub async fn reopen(&mut self) {
        self.runtime = Runtime::open(config(self.dir.path())).await.unwrap();
    }

    /// Removes all pods; nothing may be left behind.
    pub async fn close(self) {
        let all = self.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap();
        for sandbox in all.items {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            self.runtime.remove_pod_sandbox(request).await.unwrap();
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.path().to_string_lossy().into_owned();
        // The runtime's own programs stay mounted as long as its directory is used.
        let own = |line: &str| line.contains("/run/helper") || line.contains("/run/pod-shim-");
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&dir) && !own(line)).collect();
        assert!(left.is_empty(), "mounts left: {left:#?}");
        let cgroup = Hierarchy::detect().unwrap().cgroup(&self.cgroup);
        assert_eq!(cgroup.children(), Vec::<String>::new(), "cgroups left");
        assert_eq!(cgroup.processes(), Vec::<u32>::new(), "processes left");
    }
}

impl Drop for World {
    /// Also after a failed assertion nothing stays on the machine.
    fn drop(&mut self) {
        let Ok(hierarchy) = Hierarchy::detect() else { return };
        let cgroup = hierarchy.cgroup(&self.cgroup);
        for _ in 0..500 {
            if cgroup.processes().is_empty() && cgroup.remove().is_ok() {
                break;
            }
            cgroup.kill();
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).rev();
        for point in points.filter(|point| Path::new(point).starts_with(self.dir.path())) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub fn own_namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container as i32, ..Default::default() }
}

/// A container of the test image that runs a shell line.
pub fn shell(name: &str, line: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: vec!["sh".into(), "-c".into(), line.into()],
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(own_namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn busybox_folder(folder: &Path) {
    let bin = folder.join("bin");
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        std::fs::create_dir_all(folder.join(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in [
        "sh", "cat", "echo", "ls", "id", "sleep", "hostname", "mknod", "mount", "ps", "kill", "head", "dd",
        "grep", "stat", "touch", "ln", "rm", "env", "true", "false", "tty", "stty", "nc", "httpd", "wc",
        "yes", "test", "trap", "chmod", "awk", "unshare", "ping", "ip", "seq", "tail", "readlink", "pwd",
        "nproc", "date", "find",
    ] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    std::fs::write(
        folder.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(folder.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:50:app\n").unwrap();
}
