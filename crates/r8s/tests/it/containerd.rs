//! Debian's containerd (with runc and CNI plugins) instead of the built-in runtime, and the built-in runtime with CNI
//! plugins instead of the built-in network. All of it below a directory and in a network namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Cluster, Host, Options, root_or_skip, wait_for};

use crate::web::{LIMIT, all_answer, available, from_host, pods, roll_out};

/// A containerd of this test's own; ends with it.
struct Containerd {
    child: Child,
    dir: PathBuf,
}

impl Containerd {
    fn start(host: &Host, dir: &Path) -> Self {
        let at = |name: &str| dir.join(name).display().to_string();
        // Lowering the OOM score below one's own is not everywhere allowed; copying files always works.
        let config = format!(
            r#"version = 2
root = "{}"
state = "{}"
[grpc]
  address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.org/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"#,
            at("root"),
            at("state"),
            at("sock"),
            at("cni")
        );
        fs::write(dir.join("config.toml"), config).expect("write");
        let log = fs::File::create(dir.join("log")).expect("log");
        let mut command = host.command("containerd");
        let child = command.args(["-c", &at("config.toml")]).stdout(Stdio::null()).stderr(log).spawn();
        let containerd = Self { child: child.expect("containerd"), dir: dir.to_owned() };
        wait_for("containerd to answer", LIMIT, || {
            let output = containerd.ctr(&["version"]);
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
        });
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> std::process::Output {
        let socket = self.dir.join("sock");
        let command =
            Command::new("ctr").arg("-a").arg(socket).args(["-n", "k8s.io"]).args(arguments).output();
        command.expect("ctr")
    }

    fn import(&self, archive: &Path) {
        let output = self.ctr(&["images", "import", &archive.display().to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // A test that failed half-way leaves containers, whose shims outlive containerd.
        for task in String::from_utf8_lossy(&self.ctr(&["tasks", "ls", "-q"]).stdout).lines() {
            self.ctr(&["tasks", "delete", "--force", task]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `docker save`'s archive of one image: busybox with all its names.
pub fn archive(dir: &Path, name: &str, command: &str) -> PathBuf {
    let folder = dir.join("image");
    fs::create_dir_all(folder.join("root/bin")).expect("dir");
    for place in ["www", "tmp", "etc"] {
        fs::create_dir_all(folder.join("root").join(place)).expect("dir");
    }
    fs::copy("/bin/busybox", folder.join("root/bin/busybox")).expect("busybox-static");
    let script = format!(
        r#"cd {dir} && for a in $(/bin/busybox --list); do [ $a = busybox ] || ln -sf busybox root/bin/$a; done
tar -C root -cf layer.tar . && d=$(sha256sum layer.tar | cut -d' ' -f1)
echo '{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":{command}}},"rootfs":{{"type":"layers","diff_ids":["sha256:'$d'"]}}}}' > config.json
echo '[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]' > manifest.json
tar -cf image.tar config.json manifest.json layer.tar"#,
        dir = folder.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("image.tar")
}

/// The plugins' configuration: a bridge whose addresses are those that the example's cluster gives its pods.
fn conflist(dir: &Path) -> PathBuf {
    let conf = dir.join("cni");
    fs::create_dir_all(&conf).expect("dir");
    let text = format!(
        r#"{{"cniVersion": "0.4.0", "name": "test", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": true,
    "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.244.0.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#,
        dir.join("addresses").display()
    );
    fs::write(conf.join("10-test.conflist"), text).expect("write");
    conf
}

/// Addresses that host-local has given out.
fn addresses(dir: &Path) -> usize {
    let names = fs::read_dir(dir.join("addresses/test")).into_iter().flatten().flatten();
    names.filter(|name| name.file_name().to_string_lossy().starts_with("10.")).count()
}

pub fn installed(test: &str, programs: &[&str]) -> bool {
    if !root_or_skip(test) {
        return false;
    }
    let there = |path: &&&str| Path::new(path).exists();
    match programs.iter().find(|path| !there(path)) {
        Some(missing) => println!("skipped: {test} needs {missing}"),
        None => return true,
    }
    false
}

fn web_works(cluster: &Cluster) {
    roll_out(cluster);
    all_answer(cluster, "from the host", || from_host(cluster));
    let pod = pods(cluster).first().and_then(|pod| Some(pod.split_once('/')?.0.to_owned())).expect("a pod");
    let ask = |command: &[&str]| {
        let mut words = vec!["exec", &pod, "--"];
        words.extend_from_slice(command);
        cluster.kubectl_ok(&words).map_err(|e| e.to_string())
    };
    all_answer(cluster, "by name from a pod", || ask(&["wget", "-q", "-O", "-", "http://web/"]));
}

#[test]
fn containerd_runs_the_pods() {
    let test = "containerd_runs_the_pods";
    let needs =
        ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/usr/lib/cni/bridge", "/bin/busybox"];
    if !installed(test, &needs) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("r8s-ctd-").tempdir().expect("dir");
    let host = Host::new().expect("host");
    conflist(dir.path());
    let containerd = Containerd::start(&host, dir.path());
    containerd.import(&archive(dir.path(), "example.org/pause:1", r#"["/bin/sleep","2147483647"]"#));
    containerd.import(&archive(dir.path(), "example.org/web:1", r#"["/bin/sh"]"#));
    let endpoint = format!("--container-runtime-endpoint=unix://{}", dir.path().join("sock").display());
    let options = Options { flags: vec![endpoint] };
    let mut cluster = Cluster::start_on(host, crate::BINARY, options).expect("the cluster starts");
    let version = cluster.kubectl_ok(&["get", "node", "-o", "jsonpath={.items[0].status.nodeInfo}"]);
    assert!(version.expect("node").contains("containerd://1."));

    web_works(&cluster);
    let talks = "apiVersion: v1\nkind: Pod\nmetadata: {name: talks}\nspec:\n  terminationGracePeriodSeconds: 20\n  containers:\n  - name: c\n    image: example.org/web:1\n    command: [sh, -c, \"trap 'echo bye; exit 0' TERM; echo hello; sleep 1000 & wait\"]\n    livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}\n";
    cluster.apply(talks).expect("apply");
    wait_for("the pod's words", LIMIT, || match cluster.kubectl_ok(&["logs", "talks"]) {
        Ok(text) if text == "hello\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait_for("the pod's use of memory", LIMIT, || {
        let text = cluster.kubectl_ok(&["get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"]);
        let text = text.map_err(|e| e.to_string())?;
        if text.contains("\"talks\"") && text.contains("workingSetBytes") { Ok(()) } else { Err(text) }
    });

    let before = pods(&cluster);
    cluster.kill().expect("kill");
    cluster.start_server().expect("start again");
    available(&cluster, 3);
    assert_eq!(pods(&cluster), before, "the same pods, none restarted");

    let held = addresses(dir.path());
    assert_eq!(held, 4);
    cluster.kubectl_ok(&["delete", "pod/talks", "deployment/web"]).expect("delete");
    wait_for("the addresses to be free", LIMIT, || match addresses(dir.path()) {
        0 => Ok(()),
        left => Err(format!("{left} left")),
    });
    wait_for("containerd to have no sandbox", LIMIT, || {
        let left = String::from_utf8_lossy(&containerd.ctr(&["containers", "ls", "-q"]).stdout).into_owned();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    drop(cluster);
}

#[test]
fn plugins_connect_the_pods() {
    let test = "plugins_connect_the_pods";
    if !installed(test, &["/usr/lib/cni/bridge", "/usr/lib/cni/portmap", "/bin/busybox"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("r8s-cni-").tempdir().expect("dir");
    let conf = conflist(dir.path());
    let flags = ["--cni-conf-dir", &conf.display().to_string(), "--cni-bin-dir", "/usr/lib/cni"];
    let Some(cluster) = crate::web::bare(test, &flags) else { return };
    crate::web::image(&cluster);
    web_works(&cluster);
    assert_eq!(addresses(dir.path()), 3);
    cluster.kubectl_ok(&["delete", "deployment/web"]).expect("delete");
    wait_for("the addresses to be free", LIMIT, || match addresses(dir.path()) {
        0 => Ok(()),
        left => Err(format!("{left} left")),
    });
}
