//! etcdctl against the face.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use store::embedded::{self, Options};

use super::cluster::available;
use super::face::served;

struct Etcdctl(String);

/// The body of a page.
async fn page(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

impl Etcdctl {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.0]).args(args);
        command
    }

    /// What it says when it fails.
    async fn fails(&self, args: &[&str]) -> String {
        let mut command = self.command(args);
        let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(!out.status.success(), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    async fn run(&self, args: &[&str]) -> String {
        let mut command = self.command(args);
        let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_does() {
    if !available("etcdctl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (address, _guard) =
        served(embedded::open(dir.path().join("data"), Options::default()).unwrap()).await;
    // Without a scheme: etcdctl 3.4 sends it as a part of the host name where it asks a single member.
    let etcdctl = Etcdctl(address.trim_start_matches("http://").to_owned());
    assert_eq!(etcdctl.run(&["put", "a/1", "one"]).await, "OK\n");
    etcdctl.run(&["put", "a/2", "two"]).await;
    etcdctl.run(&["put", "b", "bee"]).await;
    assert_eq!(etcdctl.run(&["get", "a/", "--prefix"]).await, "a/1\none\na/2\ntwo\n");
    assert_eq!(etcdctl.run(&["get", "", "--from-key", "--keys-only", "--limit=2"]).await, "a/1\n\na/2\n\n");
    let descending = ["get", "a/", "--prefix", "--order=DESCEND", "--sort-by=MODIFY", "--print-value-only"];
    assert_eq!(etcdctl.run(&descending).await, "two\none\n");
    assert_eq!(etcdctl.run(&["put", "--prev-kv", "a/1", "uno"]).await, "OK\na/1\none\n");
    assert_eq!(etcdctl.run(&["get", "a/1", "--rev=2", "--print-value-only"]).await, "one\n");
    assert_eq!(etcdctl.run(&["put", "--ignore-value", "a/1"]).await, "OK\n");
    assert_eq!(etcdctl.run(&["del", "b"]).await, "1\n");

    let mut watching =
        etcdctl.command(&["watch", "w", "--prefix", "--rev=1"]).stdout(Stdio::piped()).spawn().unwrap();
    etcdctl.run(&["put", "w/1", "seen"]).await;
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let lines =
        tokio::task::spawn_blocking(move || lines.take(3).map(Result::unwrap).collect::<Vec<_>>()).await;
    assert_eq!(lines.unwrap(), ["PUT", "w/1", "seen"]);
    watching.kill().unwrap();
    watching.wait().unwrap();

    let granted = etcdctl.run(&["lease", "grant", "300"]).await;
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    etcdctl.run(&["put", &format!("--lease={lease}"), "leased", "x"]).await;
    let told = etcdctl.run(&["lease", "timetolive", &lease, "--keys"]).await;
    assert!(told.contains("granted with TTL(300s)") && told.contains("leased"), "{told}");
    assert!(
        etcdctl.run(&["lease", "keep-alive", "--once", &lease]).await.contains("keepalived with TTL(300)")
    );
    assert!(etcdctl.run(&["lease", "list"]).await.contains(&lease));
    etcdctl.run(&["lease", "revoke", &lease]).await;
    assert_eq!(etcdctl.run(&["get", "leased"]).await, "");

    let mut txn = etcdctl.command(&["txn"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = "value(\"a/2\") = \"two\"\n\nput a/3 three\n\nput a/4 four\n\n";
    std::io::Write::write_all(&mut txn.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let out = tokio::task::spawn_blocking(move || txn.wait_with_output()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("SUCCESS"), "{out:?}");

    assert!(etcdctl.run(&["endpoint", "status", "-w", "table"]).await.contains("true"), "it leads");
    etcdctl.run(&["endpoint", "health"]).await;
    etcdctl.run(&["endpoint", "hashkv"]).await;
    assert!(etcdctl.run(&["member", "list"]).await.contains("r8s"));
    assert_eq!(etcdctl.run(&["alarm", "list"]).await, "");
    etcdctl.run(&["compact", "5"]).await;
    etcdctl.run(&["defrag"]).await;
    let file = dir.path().join("saved.r8s");
    etcdctl.run(&["snapshot", "save", file.to_str().unwrap()]).await;
    let summary = store::snapshot::verify(&file).unwrap();
    assert_eq!(summary.keys, 4);

    assert_eq!(etcdctl.run(&["user", "list"]).await + &etcdctl.run(&["role", "list"]).await, "");
    assert_eq!(etcdctl.run(&["lock", "l", "--", "echo", "locked"]).await, "locked\n");
    assert!(etcdctl.fails(&["user", "add", "me:secret"]).await.contains("no users and roles here"));
    assert!(etcdctl.fails(&["auth", "enable"]).await.contains("no users and roles here"));
    let add = ["member", "add", "second", "--peer-urls=http://127.0.0.1:1"];
    assert!(etcdctl.fails(&add).await.contains("a single member and stays one"));
    assert!(etcdctl.fails(&["move-leader", "1"]).await.contains("bad leader transferee"));
    assert!(etcdctl.fails(&["compact", "9999"]).await.contains("is a future revision"));
    assert!(etcdctl.fails(&["get", "a/1", "--rev=2"]).await.contains("has been compacted"));
    assert!(etcdctl.fails(&["lease", "revoke", "77"]).await.contains("requested lease not found"));
    assert!(etcdctl.run(&["lease", "timetolive", "77"]).await.contains("already expired"));

    assert_eq!(page(&etcdctl.0, "/health").await, r#"{"health":"true","reason":""}"#);
    assert!(page(&etcdctl.0, "/version").await.contains(r#""etcdserver":"3."#));
    assert!(page(&etcdctl.0, "/metrics").await.contains("\nprocess_resident_memory_bytes "));
}
