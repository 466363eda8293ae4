//! Images from a registry that wants a password (Debian's docker-registry), and archives that are damaged.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::{Cluster, Host, wait_for};

use crate::containerd::{archive, installed};
use crate::web::{LIMIT, bare};

const REGISTRY: &str = "127.0.0.1:5000";
/// `user` with the password `word`, as htpasswd writes it.
const USERS: &str = "user:$2y$05$abcdefghijklmnopqrstuuQDoL5Sa/TtfS/XN4AY/jgq.HBbO1BTu\n";

/// A registry on the host's loopback; ends with this.
struct Registry(Child);

impl Registry {
    fn start(host: &Host, dir: &Path) -> Self {
        fs::write(dir.join("users"), USERS).expect("write");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/blobs}}}}\n\
             http: {{addr: {REGISTRY}}}\nauth: {{htpasswd: {{realm: test, path: {0}/users}}}}\n",
            dir.display()
        );
        fs::write(dir.join("registry.yaml"), config).expect("write");
        let mut command = host.command("docker-registry");
        command.arg("serve").arg(dir.join("registry.yaml")).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(command.spawn().expect("docker-registry"));
        wait_for("the registry to answer", LIMIT, || {
            let mut command = host.command("curl");
            let output = command.args(["-s", "-m", "5", &format!("http://{REGISTRY}/v2/")]).output();
            let output = output.map_err(|e| e.to_string())?;
            if output.status.success() { Ok(()) } else { Err(output.status.to_string()) }
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Uploads the layer and configuration that [`archive`] left in `dir`, as `NAME:1`.
fn push(host: &Host, dir: &Path, name: &str) {
    let script = format!(
        r#"set -e
cd {}
digest() {{ echo "sha256:$(sha256sum $1 | cut -d' ' -f1)"; }}
ask() {{ curl -sSf -u user:word "$@"; }}
blob() {{
  place=$(ask -D - -o /dev/null -X POST http://{REGISTRY}/v2/{name}/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  case $place in /*) place=http://{REGISTRY}$place ;; esac
  ask -X PUT -H 'Content-Type: application/octet-stream' --data-binary @$1 "$place&digest=$(digest $1)"
}}
blob layer.tar; blob config.json
cat > pushed.json <<END
{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
 "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "$(digest config.json)", "size": $(stat -c %s config.json)}},
 "layers": [{{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "$(digest layer.tar)", "size": $(stat -c %s layer.tar)}}]}}
END
ask -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @pushed.json http://{REGISTRY}/v2/{name}/manifests/1
"#,
        dir.join("image").display()
    );
    let output = host.command("bash").args(["-c", &script]).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn image(cluster: &Cluster, arguments: &[&str], password: Option<&str>) -> Result<String, String> {
    let root = cluster.root().display().to_string();
    let mut command: Command = cluster.r8s(&["image", "--root", &root]);
    command.args(arguments);
    if let Some(password) = password {
        let file = cluster.root().join("password");
        fs::write(&file, password).expect("write");
        command.stdin(fs::File::open(&file).expect("open"));
    }
    let output = command.output().expect("r8s image");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn pod(name: &str, image: &str, secret: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  imagePullSecrets: [{{name: {secret}}}]\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: c, image: \"{image}\", imagePullPolicy: Always, command: [sleep, \"100000\"]}}\n---\n"
    )
}

#[test]
fn a_registry_wants_its_password() {
    let test = "a_registry_wants_its_password";
    if !installed(test, &["/usr/bin/docker-registry", "/usr/bin/curl", "/bin/busybox"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("r8s-registry-").tempdir().expect("dir");
    let Some(cluster) = bare(test, &[]) else { return };
    let _registry = Registry::start(cluster.host(), dir.path());
    archive(dir.path(), "example.org/app:1", r#"["/bin/sh"]"#);
    push(cluster.host(), dir.path(), "app");
    let name = format!("{REGISTRY}/app:1");

    let says = image(&cluster, &["pull", &name], None).expect_err("no password");
    assert!(says.contains("pull access denied"), "{says}");
    let says =
        image(&cluster, &["pull", &name, "--user", "user"], Some("wrong\n")).expect_err("wrong password");
    assert!(says.contains("pull access denied"), "{says}");
    let says = image(&cluster, &["pull", &name, "--user", "user"], Some("word\n")).expect("the right one");
    assert!(says.contains(&name), "{says}");
    let says = image(&cluster, &["prune"], None).expect("prune");
    assert!(says.contains(&name) && says.contains("1 images"), "{says}");

    for (secret, password) in [("right", "word"), ("wrong", "other")] {
        let password = format!("--docker-password={password}");
        let server = format!("--docker-server={REGISTRY}");
        let words =
            ["create", "secret", "docker-registry", secret, &server, "--docker-username=user", &password];
        cluster.kubectl_ok(&words).expect("a secret");
    }
    let manifest =
        pod("allowed", &name, "right") + &pod("denied", &name, "wrong") + &pod("nobody", &name, "none");
    cluster.apply(&manifest).expect("apply");
    let get = |pod: &str, path: &str| {
        let path = format!("jsonpath={{.status{path}}}");
        cluster.kubectl_ok(&["get", "pod", pod, "-o", &path]).map_err(|e| e.to_string())
    };
    wait_for("the image to be pulled with the pod's secret", LIMIT, || match get("allowed", ".phase")? {
        phase if phase == "Running" => Ok(()),
        phase => Err(phase),
    });
    for denied in ["denied", "nobody"] {
        wait_for("the registry to refuse", LIMIT, || {
            let waiting = get(denied, ".containerStatuses[0].state.waiting")?;
            let refused = waiting.contains("ImagePull") && waiting.contains("pull access denied");
            if refused { Ok(()) } else { Err(waiting) }
        });
    }
}

#[test]
fn damaged_archives_are_refused() {
    let test = "damaged_archives_are_refused";
    if !installed(test, &["/bin/busybox"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("r8s-archive-").tempdir().expect("dir");
    // No server is needed: the command does it itself.
    let root = dir.path().join("root").display().to_string();
    let import = |file: &Path| {
        let mut command = Command::new(crate::BINARY);
        let output =
            command.args(["image", "--root", &root, "import"]).arg(file).output().expect("r8s image");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let good = archive(dir.path(), "example.org/app:1", r#"["/bin/sh"]"#);
    let bytes = fs::read(&good).expect("read");
    let bad = dir.path().join("bad.tar");
    // In the middle of busybox.
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for there in [false, true] {
        for (what, damaged) in [("flipped", &flipped[..]), ("cut", &bytes[..bytes.len() / 2]), ("empty", &[])]
        {
            fs::write(&bad, damaged).expect("write");
            let (done, says) = import(&bad);
            assert!(!done && says.starts_with("error: "), "{what}, the layer is there: {there}: {says}");
        }
        let (done, says) = import(&good);
        assert!(done, "{says}");
    }
}
