//! Pod networking by CNI plugins: the first configuration list of a directory, executed as the specification says.
//!
//! Source: <https://www.cni.dev/docs/spec/> 1.0.0 (older versions' results are understood too).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{fs, io};

use futures_util::future::BoxFuture;
use kernel::net::{Cidr, Rtnl};
use runtime::network::{NetworkError, PodNetwork, PodNetworkRequest, PodNetworkStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long one plugin may take.
const PATIENCE: Duration = Duration::from_secs(90);
const INTERFACE: &str = "eth0";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Cni {
    /// Usually `/etc/cni/net.d`; the first file by name counts, and is read anew for every pod.
    pub conf_dir: PathBuf,
    /// Usually `/opt/cni/bin` and `/usr/lib/cni`.
    pub bin_dirs: Vec<PathBuf>,
    /// What was set up for whom; a teardown uses the configuration of its setup.
    pub state_dir: PathBuf,
}

/// A configuration list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    name: String,
    cni_version: String,
    plugins: Vec<Value>,
}

/// Kept per sandbox.
#[derive(Serialize, Deserialize)]
struct Done {
    list: List,
    result: Value,
}

impl Cni {
    /// Is there any configuration?
    pub fn is_configured(&self) -> bool {
        matches!(self.list(), Ok(Some(_)))
    }

    fn list(&self) -> Result<Option<List>, NetworkError> {
        let mut files: Vec<PathBuf> = match fs::read_dir(&self.conf_dir) {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(NetworkError(format!("{}: {e}", self.conf_dir.display()))),
        };
        let kind = |p: &Path| p.extension().and_then(|e| e.to_str()).map(str::to_owned);
        files.retain(|p| matches!(kind(p).as_deref(), Some("conflist" | "conf" | "json")));
        files.sort();
        let Some(path) = files.first() else { return Ok(None) };
        let broken = |why: String| NetworkError(format!("CNI configuration {}: {why}", path.display()));
        let text = fs::read(path).map_err(|e| broken(e.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        parse(value).map(Some).map_err(broken)
    }

    async fn add(&self, pod: &PodNetworkRequest) -> Result<Vec<IpAddr>, NetworkError> {
        if let Some(done) = self.done(&pod.sandbox_id) {
            return Ok(addresses(&done.result));
        }
        let Some(list) = self.list()? else { return Err(self.unconfigured()) };
        loopback_up(&pod.netns)?;
        let mut done = Done { list, result: Value::Null };
        for plugin in &done.list.plugins {
            match self.execute("ADD", &done.list, plugin, &done.result, pod).await {
                Ok(Some(result)) => done.result = result,
                Ok(None) => {}
                Err(error) => {
                    // The specification wants a DEL after a failed ADD. Its own failure says nothing new.
                    let _ = self.delete_all(&done, pod).await;
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.keep(&pod.sandbox_id, &done) {
            let _ = self.delete_all(&done, pod).await;
            return Err(NetworkError(format!("{}: {error}", self.state_dir.display())));
        }
        Ok(addresses(&done.result))
    }

    async fn delete(&self, pod: &PodNetworkRequest) -> Result<(), NetworkError> {
        let Some(done) = self.done(&pod.sandbox_id) else { return Ok(()) };
        self.delete_all(&done, pod).await?;
        match fs::remove_file(self.file(&pod.sandbox_id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(NetworkError(e.to_string())),
            _ => Ok(()),
        }
    }

    async fn delete_all(&self, done: &Done, pod: &PodNetworkRequest) -> Result<(), NetworkError> {
        for plugin in done.list.plugins.iter().rev() {
            self.execute("DEL", &done.list, plugin, &done.result, pod).await?;
        }
        Ok(())
    }

    async fn execute(
        &self,
        command: &str,
        list: &List,
        plugin: &Value,
        previous: &Value,
        pod: &PodNetworkRequest,
    ) -> Result<Option<Value>, NetworkError> {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let failed = |why: String| NetworkError(format!("CNI plugin {kind:?} {command}: {why}"));
        let found = self.bin_dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
        let Some(program) = found.filter(|_| !kind.is_empty() && !kind.contains('/')) else {
            return Err(failed(format!("not found in {:?}", self.bin_dirs)));
        };
        let paths: Vec<String> = self.bin_dirs.iter().map(|d| d.display().to_string()).collect();
        // A namespace that is gone is an empty name: the plugin frees what it holds elsewhere.
        let netns = if pod.netns.exists() { pod.netns.display().to_string() } else { String::new() };
        let mut child = Command::new(program)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.sandbox_id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", paths.join(":"))
            .env("CNI_ARGS", arguments(pod))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let input = configuration(list, plugin, previous, pod).to_string();
        let talk = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A plugin that fails early does not read all of it; its own message is better than ours.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(PATIENCE, talk).await {
            Ok(output) => output.map_err(|e| failed(e.to_string()))?,
            Err(_) => return Err(failed(format!("no end after {} s", PATIENCE.as_secs()))),
        };
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(answer);
        }
        let text = |key: &str| answer.as_ref().and_then(|a| a[key].as_str()).unwrap_or_default().to_string();
        let why = [text("msg"), text("details"), String::from_utf8_lossy(&output.stderr).trim().to_string()];
        let why: Vec<String> = why.into_iter().filter(|w| !w.is_empty()).collect();
        Err(failed(if why.is_empty() { output.status.to_string() } else { why.join("; ") }))
    }

    fn unconfigured(&self) -> NetworkError {
        NetworkError(format!("no CNI configuration in {}", self.conf_dir.display()))
    }

    fn file(&self, sandbox: &str) -> PathBuf {
        self.state_dir.join(format!("{}.json", sandbox.replace('/', "_")))
    }

    fn done(&self, sandbox: &str) -> Option<Done> {
        serde_json::from_slice(&fs::read(self.file(sandbox)).ok()?).ok()
    }

    fn keep(&self, sandbox: &str, done: &Done) -> io::Result<()> {
        fs::create_dir_all(&self.state_dir)?;
        let temporary = self.state_dir.join(format!(".{}", sandbox.replace('/', "_")));
        fs::write(&temporary, serde_json::to_vec(done).map_err(io::Error::other)?)?;
        fs::rename(temporary, self.file(sandbox))
    }
}

impl PodNetwork for Cni {
    fn setup<'a>(
        &'a self,
        pod: &'a PodNetworkRequest,
    ) -> BoxFuture<'a, Result<PodNetworkStatus, NetworkError>> {
        Box::pin(async move { Ok(PodNetworkStatus { ips: self.add(pod).await? }) })
    }

    fn teardown<'a>(&'a self, pod: &'a PodNetworkRequest) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(self.delete(pod))
    }

    fn status(&self) -> BoxFuture<'_, Result<(), NetworkError>> {
        let status = self.list().and_then(|list| list.map(drop).ok_or_else(|| self.unconfigured()));
        Box::pin(std::future::ready(status))
    }
}

/// A list as it is, a single plugin's configuration as a list of one.
fn parse(value: Value) -> Result<List, String> {
    let version = value["cniVersion"].as_str().unwrap_or("0.2.0").to_string();
    let Some(name) = value["name"].as_str().map(str::to_owned) else { return Err("it has no name".into()) };
    let plugins = match value.get("plugins") {
        Some(Value::Array(plugins)) => plugins.clone(),
        Some(_) => return Err("plugins is not a list".into()),
        None => vec![value],
    };
    if plugins.is_empty() || plugins.iter().any(|p| !p["type"].is_string()) {
        return Err("a plugin has no type".into());
    }
    Ok(List { name, cni_version: version, plugins })
}

/// What a plugin reads.
fn configuration(list: &List, plugin: &Value, previous: &Value, pod: &PodNetworkRequest) -> Value {
    let mut config = plugin.clone();
    config["name"] = list.name.clone().into();
    config["cniVersion"] = list.cni_version.clone().into();
    if !previous.is_null() {
        config["prevResult"] = previous.clone();
    }
    let able = |name: &str| plugin["capabilities"][name] == json!(true);
    let mut runtime = BTreeMap::new();
    if able("portMappings") {
        let ports = crate::ports::host_ports(&pod.port_mappings).unwrap_or_default();
        let ports: Vec<Value> = ports
            .iter()
            .map(|p| {
                let protocol = match p.protocol {
                    17 => "udp",
                    132 => "sctp",
                    _ => "tcp",
                };
                let host_ip = p.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
                json!({"hostPort": p.host_port, "containerPort": p.pod_port, "protocol": protocol, "hostIP": host_ip})
            })
            .collect();
        if !ports.is_empty() {
            runtime.insert("portMappings", Value::from(ports));
        }
    }
    if able("io.kubernetes.cri.pod-annotations") {
        runtime.insert("io.kubernetes.cri.pod-annotations", json!(pod.annotations));
    }
    if !runtime.is_empty() {
        config["runtimeConfig"] = json!(runtime);
    }
    if let Some(config) = config.as_object_mut() {
        config.remove("capabilities");
    }
    config
}

fn arguments(pod: &PodNetworkRequest) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.sandbox_id, pod.uid
    )
}

/// The first address of each family, in the result's order.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let listed = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = [&result["ip4"]["ip"], &result["ip6"]["ip"]];
    let mut seen = [false; 2];
    let all = listed.chain(old).filter_map(|text| text.as_str()?.parse::<Cidr>().ok()).map(|cidr| cidr.addr);
    all.filter(|ip| !std::mem::replace(&mut seen[usize::from(ip.is_ipv4())], true)).collect()
}

fn loopback_up(netns: &Path) -> Result<(), NetworkError> {
    let up = Rtnl::open_in(netns).and_then(|mut rtnl| {
        let lo = rtnl.link("lo")?.map_or(1, |l| l.index);
        rtnl.set_up(lo)
    });
    up.map_err(|e| NetworkError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::cri::v1::PortMapping;

    #[test]
    fn what_plugins_read() {
        let list = parse(json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "bridge", "x": 1}, {"type": "portmap", "capabilities": {"portMappings": true}}]}))
        .unwrap();
        let mapping =
            PortMapping { protocol: 1, container_port: 53, host_port: 5353, host_ip: String::new() };
        let pod = PodNetworkRequest { port_mappings: vec![mapping], ..Default::default() };
        let read = |n: usize, previous: Value| configuration(&list, &list.plugins[n], &previous, &pod);
        assert_eq!(
            read(0, Value::Null),
            json!({"type": "bridge", "x": 1, "name": "n", "cniVersion": "1.0.0"})
        );
        assert_eq!(
            read(1, json!({"ips": []})),
            json!({"type": "portmap", "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []}, "runtimeConfig":
                {"portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": ""}]}})
        );
        let single = parse(json!({"name": "n", "type": "ptp"})).unwrap();
        assert_eq!((single.plugins.len(), single.cni_version.as_str()), (1, "0.2.0"));
        for bad in [
            json!({}),
            json!({"name": "n"}),
            json!({"name": "n", "plugins": []}),
            json!({"name": "n", "plugins": 1}),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn results_of_all_versions() {
        let both = ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()];
        let new = json!({"ips": [{"address": "10.1.0.2/24"}, {"address": "fd00::2/64"}, {"address": "10.1.0.3/24"}]});
        let old = json!({"ip4": {"ip": "10.1.0.2/24"}, "ip6": {"ip": "fd00::2/64"}});
        assert_eq!(
            (addresses(&new), addresses(&old), addresses(&Value::Null)),
            (both.into(), both.into(), vec![])
        );
    }
}
