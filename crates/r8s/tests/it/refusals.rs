//! What cannot work is refused: exit status 1, one line that says what (and one what to do), nothing destroyed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::{Host, root_or_skip, wait_for};

/// Runs a command that must fail; what it says.
fn refused(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("r8s");
    let status = wait_for("r8s to end", crate::web::LIMIT, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    let mut says = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    std::io::Read::read_to_string(&mut stderr, &mut says).expect("text");
    assert_eq!(status.code(), Some(1), "{says}");
    let lines: Vec<&str> = says.lines().filter(|line| !line.contains(" WARN ")).collect();
    assert!(lines[0].starts_with("error: "), "{says}");
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("hint: ")), "{says}");
    says
}

fn server(host: &Host, root: &Path, arguments: &[&str]) -> Command {
    let mut command = host.command(crate::BINARY);
    command.args(["server", "--node-name", "node-1", "--root"]).arg(root).args(arguments);
    command
}

/// A cluster's directory as a short run leaves it.
fn seed(host: &Host, root: &Path) {
    let mut command = host.command(crate::BINARY);
    command.args(["apiserver", "--node-name", "node-1", "--root"]).arg(root).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("r8s apiserver");
    let out = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let ready = std::io::BufRead::lines(out).map_while(Result::ok).any(|line| line.starts_with("ready in"));
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(ready, "r8s apiserver starts");
}

#[test]
fn what_cannot_work_is_refused() {
    if !root_or_skip("what_cannot_work_is_refused") {
        return;
    }
    let host = Host::new().expect("host");
    let dir = tempfile::tempdir().expect("dir");
    let root = dir.path().join("root");
    let file = dir.path().join("config.yaml");
    let config = file.display().to_string();

    for (text, says) in [
        ("securePort: [", "config.yaml:1:"),
        ("securePrt: 1", "securePrt"),
        ("securePort: abc", "config.yaml:1:13"),
    ] {
        fs::write(&file, text).expect("write");
        let error = refused(server(&host, &root, &["--config", &config]));
        assert!(error.contains(says), "{text}: {error}");
    }
    for (arguments, says) in [
        (&["--config", "/no/such/file"][..], "cannot read /no/such/file"),
        (&["--cluster-cidr", "nonsense"], "--cluster-cidr"),
        (&["--eviction-hard", "nodefs<1"], "the signals are"),
        (&["--feature-gates", "NoSuchGate=true"], "unrecognized feature gate: NoSuchGate"),
        (&["--runtime-config", "no.such.group/v1=true"], "unknown api groups no.such.group/v1"),
        (&["--bind-address", "203.0.113.1"], "cannot listen on 203.0.113.1:6443"),
        (&["--container-runtime-endpoint", "unix:///no/such.sock"], "/no/such.sock"),
        (&["--etcd-servers", "http://127.0.0.1:1"], "etcd"),
    ] {
        let error = refused(server(&host, &root, arguments));
        assert!(error.contains(says), "{arguments:?}: {error}");
    }

    fs::write(dir.path().join("file"), "").expect("write");
    let error = refused(server(&host, &dir.path().join("file"), &[]));
    assert!(error.contains("Not a directory") && error.contains("hint:"), "{error}");
}

#[test]
fn taken_ports_are_named() {
    if !root_or_skip("taken_ports_are_named") {
        return;
    }
    let host = Host::new().expect("host");
    let dir = tempfile::tempdir().expect("dir");
    for (port, says) in [(6443, "--secure-port"), (10250, "another kubelet")] {
        let listen = || TcpListener::bind(("0.0.0.0", port)).expect("a port");
        let _listener = kernel::net::netns::within(&host.namespace(), listen).expect("the host's namespace");
        let error = refused(server(&host, dir.path(), &[]));
        assert!(error.contains(&port.to_string()) && error.contains(says), "{error}");
    }
}

#[test]
fn damage_is_named_and_not_made_worse() {
    if !root_or_skip("damage_is_named_and_not_made_worse") {
        return;
    }
    let host = Host::new().expect("host");
    let dir = tempfile::tempdir().expect("dir");
    let whole = dir.path().join("whole");
    fs::create_dir(&whole).expect("dir");
    seed(&host, &whole);
    let log = fs::read_dir(whole.join("var/lib/r8s/store")).expect("store").flatten();
    let log =
        log.map(|entry| entry.file_name().into_string().expect("name")).find(|name| name.ends_with(".log"));
    let log = format!("var/lib/r8s/store/{}", log.expect("a log"));
    let cases: &[(&str, &dyn Fn(Vec<u8>) -> Vec<u8>)] = &[
        ("etc/r8s/pki/ca.crt", &|_| Vec::new()),
        ("etc/r8s/pki/ca.key", &|bytes| bytes[..bytes.len() / 2].to_vec()),
        ("etc/r8s/pki/sa.key", &|_| b"\xff\xfe".to_vec()),
        ("etc/r8s/pki/front-proxy-ca.crt", &|_| b"nonsense".to_vec()),
        (&log, &|mut bytes| {
            bytes[200] ^= 1;
            bytes
        }),
        (&log, &|_| Vec::new()),
        (&log, &|bytes| bytes[..4096].to_vec()),
        (&log, &|bytes| bytes[..bytes.len() / 2].to_vec()),
    ];
    for (number, (path, damage)) in cases.iter().enumerate() {
        let root = dir.path().join(number.to_string());
        let copied = Command::new("cp").arg("-a").args([&whole, &root]).status().expect("cp");
        assert!(copied.success());
        let damaged = damage(fs::read(root.join(path)).expect("read"));
        fs::write(root.join(path), &damaged).expect("write");
        let error = refused(server(&host, &root, &[]));
        let name = Path::new(path).file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(error.contains(name) && error.contains("hint:"), "{path}: {error}");
        assert_eq!(fs::read(root.join(path)).expect("read"), damaged, "{path} is left as it was");
    }
}

#[test]
fn a_second_server_is_told_of_the_first() {
    let Some(cluster) = crate::web::bare("a_second_server_is_told_of_the_first", &[]) else { return };
    let error = refused(server(cluster.host(), cluster.root(), &[]));
    assert!(error.contains("already runs with the directory"), "{error}");
    let other = tempfile::tempdir().expect("dir");
    let error = refused(server(cluster.host(), other.path(), &["--secure-port", "7443"]));
    assert!(error.contains("runs pods on this host's network"), "{error}");
    assert!(!other.path().join("etc").exists(), "nothing is made in vain");
}

#[test]
fn without_root_there_are_no_pods() {
    if !root_or_skip("without_root_there_are_no_pods") {
        return;
    }
    // Where nobody can read it.
    let dir = tempfile::tempdir_in("/tmp").expect("dir");
    let binary = dir.path().join("r8s");
    fs::copy(crate::BINARY, &binary).expect("copy");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    for arguments in [&["server"][..], &["image", "list"], &["reset", "--yes"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary).args(arguments);
        let error = refused(command);
        assert!(error.contains("needs root") && error.contains("sudo"), "{error}");
    }
}
