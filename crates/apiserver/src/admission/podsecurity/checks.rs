//! The checks of the Pod Security Standards at their latest version.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use machinery::field::go_quote;
use machinery::{Get, Value, meta};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Baseline,
    Restricted,
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

const SELINUX_TYPES: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// What a pod (or template) does that a level does not allow: `reason (detail)`, in upstream's order.
pub fn violations(level: Level, pod: &Value) -> Vec<String> {
    let view = View { pod, spec: pod.at("spec"), containers: containers(pod.at("spec")) };
    let restricted = level == Level::Restricted;
    let windows = view.spec.at("os").text("name") == "windows";
    let mut out = Vec::new();
    let mut add = |found: Option<(String, String)>| {
        out.extend(found.map(
            |(reason, detail)| {
                if detail.is_empty() { reason } else { format!("{reason} ({detail})") }
            },
        ));
    };
    add(view.app_armor());
    if !restricted {
        add(view.capabilities());
    }
    add(view.host_namespaces());
    if !restricted {
        add(view.host_paths());
    }
    add(view.host_ports());
    add(view.host_probes());
    add(view.privileged());
    add(view.proc_mount());
    add(view.selinux());
    if !restricted {
        add(view.seccomp_baseline());
    }
    add(view.sysctls());
    add(view.host_process());
    if restricted {
        if !windows {
            add(view.privilege_escalation());
            add(view.capabilities_restricted());
        }
        add(view.volumes());
        add(view.run_as_non_root());
        add(view.run_as_user());
        if !windows {
            add(view.seccomp_restricted());
        }
    }
    out
}

fn containers(spec: &Value) -> Vec<&Value> {
    ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| spec.list(list)).collect()
}

struct View<'a> {
    pod: &'a Value,
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

type Found = Option<(String, String)>;

fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|n| go_quote(n.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'s>(one: &'s str, many: &'s str, n: usize) -> &'s str {
    if n == 1 { one } else { many }
}

fn named(bad: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", bad.len()), quoted(bad))
}

/// `pod`, `container "a"`, or both with "and".
fn setters(pod: bool, bad: &[&str]) -> String {
    let mut out = Vec::new();
    if pod {
        out.push("pod".to_owned());
    }
    if !bad.is_empty() {
        out.push(named(bad));
    }
    out.join(" and ")
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values.dedup();
    values
}

impl<'a> View<'a> {
    fn context(&self) -> &'a Value {
        self.spec.at("securityContext")
    }

    fn bad(&self, test: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|c| test(c.at("securityContext"))).map(|c| c.text("name")).collect()
    }

    fn app_armor(&self) -> Found {
        let kind = |context: &Value| context.at("appArmorProfile").text("type").to_owned();
        let wrong = |kind: &str| !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        let pod = wrong(&kind(self.context()));
        let bad = self.bad(|c| wrong(&kind(c)));
        if !pod && bad.is_empty() {
            return None;
        }
        let mut values: Vec<String> =
            self.containers.iter().map(|c| kind(c.at("securityContext"))).filter(|k| wrong(k)).collect();
        if pod {
            values.push(kind(self.context()));
        }
        let values = sorted(values);
        let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
        let detail =
            format!("{} must not set AppArmor profile type to {}", setters(pod, &bad), quoted(&values));
        Some((reason.to_owned(), detail))
    }

    fn capabilities(&self) -> Found {
        let added = |c: &Value| -> Vec<String> {
            let list = c.at("capabilities").list("add").iter().filter_map(Value::as_str);
            list.filter(|cap| !CAPABILITIES.contains(cap)).map(str::to_owned).collect()
        };
        let bad = self.bad(|c| !added(c).is_empty());
        if bad.is_empty() {
            return None;
        }
        let all = sorted(self.containers.iter().flat_map(|c| added(c.at("securityContext"))).collect());
        let detail =
            format!("{} must not include {} in securityContext.capabilities.add", named(&bad), quoted(&all));
        Some(("non-default capabilities".to_owned(), detail))
    }

    fn host_namespaces(&self) -> Found {
        let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .filter(|key| self.spec.flag(key) == Some(true))
            .map(|key| format!("{key}=true"))
            .collect();
        (!set.is_empty()).then(|| ("host namespaces".to_owned(), set.join(", ")))
    }

    fn host_paths(&self) -> Found {
        let bad: Vec<&str> = self
            .spec
            .list("volumes")
            .iter()
            .filter(|v| v.at("hostPath").is_object())
            .map(|v| v.text("name"))
            .collect();
        let detail = format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad));
        (!bad.is_empty()).then(|| ("hostPath volumes".to_owned(), detail))
    }

    fn host_ports(&self) -> Found {
        let ports = |c: &Value| -> Vec<i64> {
            c.list("ports").iter().filter_map(|p| p.int("hostPort")).filter(|p| *p != 0).collect()
        };
        let bad: Vec<&str> =
            self.containers.iter().filter(|c| !ports(c).is_empty()).map(|c| c.text("name")).collect();
        if bad.is_empty() {
            return None;
        }
        let all = sorted(self.containers.iter().flat_map(|c| ports(c)).map(|p| p.to_string()).collect());
        let detail = format!(
            "{} {} {} {}",
            named(&bad),
            plural("uses", "use", bad.len()),
            plural("hostPort", "hostPorts", all.len()),
            all.join(", ")
        );
        Some(("hostPort".to_owned(), detail))
    }

    fn host_probes(&self) -> Found {
        let has_host = |c: &Value| {
            let probes = ["livenessProbe", "readinessProbe", "startupProbe"].iter().map(|p| c.at(p));
            let hooks = ["postStart", "preStop"].iter().map(|h| c.at("lifecycle").at(h));
            probes.chain(hooks).any(|action| {
                ["httpGet", "tcpSocket"].iter().any(|kind| !action.at(kind).text("host").is_empty())
            })
        };
        let bad: Vec<&str> = self.containers.iter().filter(|c| has_host(c)).map(|c| c.text("name")).collect();
        (!bad.is_empty()).then(|| {
            (
                "probe or lifecycle host".to_owned(),
                format!("{} must not set host in probes or lifecycle hooks", named(&bad)),
            )
        })
    }

    fn privileged(&self) -> Found {
        let bad = self.bad(|c| c.flag("privileged") == Some(true));
        (!bad.is_empty()).then(|| {
            ("privileged".to_owned(), format!("{} must not set securityContext.privileged=true", named(&bad)))
        })
    }

    fn proc_mount(&self) -> Found {
        let bad = self.bad(|c| !matches!(c.text("procMount"), "" | "Default"));
        if bad.is_empty() {
            return None;
        }
        let values = self.containers.iter().map(|c| c.at("securityContext").text("procMount").to_owned());
        let values = sorted(values.filter(|v| !matches!(v.as_str(), "" | "Default")).collect());
        let detail = format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(&values));
        Some(("procMount".to_owned(), detail))
    }

    fn selinux(&self) -> Found {
        let options = |c: &Value| c.at("seLinuxOptions").clone();
        let wrong = |o: &Value| {
            !SELINUX_TYPES.contains(&o.text("type"))
                || !o.text("user").is_empty()
                || !o.text("role").is_empty()
        };
        let pod = wrong(&options(self.context()));
        let bad = self.bad(|c| wrong(&options(c)));
        if !pod && bad.is_empty() {
            return None;
        }
        let mut all: Vec<Value> = self.containers.iter().map(|c| options(c.at("securityContext"))).collect();
        all.push(options(self.context()));
        let types = sorted(
            all.iter()
                .map(|o| o.text("type").to_owned())
                .filter(|t| !SELINUX_TYPES.contains(&t.as_str()))
                .collect(),
        );
        let mut said = Vec::new();
        if !types.is_empty() {
            said.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
        }
        for key in ["user", "role"] {
            if all.iter().any(|o| !o.text(key).is_empty()) {
                said.push(format!("{key} may not be set"));
            }
        }
        let detail = format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters(pod, &bad),
            said.join("; ")
        );
        Some(("seLinuxOptions".to_owned(), detail))
    }

    fn seccomp(&self) -> (bool, Vec<&'a str>, Vec<String>) {
        let kind = |context: &Value| context.at("seccompProfile").text("type").to_owned();
        let wrong = |kind: &str| !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        let pod = wrong(&kind(self.context()));
        let bad = self.bad(|c| wrong(&kind(c)));
        let mut values: Vec<String> =
            self.containers.iter().map(|c| kind(c.at("securityContext"))).filter(|k| wrong(k)).collect();
        if pod {
            values.push(kind(self.context()));
        }
        (pod, bad, sorted(values))
    }

    fn seccomp_baseline(&self) -> Found {
        let (pod, bad, values) = self.seccomp();
        (pod || !bad.is_empty()).then(|| {
            let detail = format!(
                "{} must not set securityContext.seccompProfile.type to {}",
                setters(pod, &bad),
                quoted(&values)
            );
            ("seccompProfile".to_owned(), detail)
        })
    }

    fn seccomp_restricted(&self) -> Found {
        if let Some(found) = self.seccomp_baseline() {
            return Some(found);
        }
        if self.context().at("seccompProfile").has("type") {
            return None;
        }
        let bad = self.bad(|c| !c.at("seccompProfile").has("type"));
        (!bad.is_empty()).then(|| {
            let detail = format!(
                "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                named(&bad)
            );
            ("seccompProfile".to_owned(), detail)
        })
    }

    fn sysctls(&self) -> Found {
        let all = self.context().list("sysctls").iter().map(|s| s.text("name"));
        let bad: Vec<&str> = all.filter(|name| !SYSCTLS.contains(name)).collect();
        (!bad.is_empty()).then(|| ("forbidden sysctls".to_owned(), bad.join(", ")))
    }

    fn host_process(&self) -> Found {
        let on = |c: &Value| c.at("windowsOptions").flag("hostProcess") == Some(true);
        let (pod, bad) = (on(self.context()), self.bad(on));
        (pod || !bad.is_empty()).then(|| {
            let detail = format!(
                "{} must not set securityContext.windowsOptions.hostProcess=true",
                setters(pod, &bad)
            );
            ("hostProcess".to_owned(), detail)
        })
    }

    fn privilege_escalation(&self) -> Found {
        let bad = self.bad(|c| c.flag("allowPrivilegeEscalation") != Some(false));
        (!bad.is_empty()).then(|| {
            let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
            ("allowPrivilegeEscalation != false".to_owned(), detail)
        })
    }

    fn capabilities_restricted(&self) -> Found {
        let keeps = self.bad(|c| !c.at("capabilities").list("drop").iter().any(|d| d == "ALL"));
        let added = |c: &Value| -> Vec<String> {
            let list = c.at("capabilities").list("add").iter().filter_map(Value::as_str);
            list.filter(|cap| *cap != "NET_BIND_SERVICE").map(str::to_owned).collect()
        };
        let adds = self.bad(|c| !added(c).is_empty());
        let mut said = Vec::new();
        if !keeps.is_empty() {
            said.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeps)));
        }
        if !adds.is_empty() {
            let all = sorted(self.containers.iter().flat_map(|c| added(c.at("securityContext"))).collect());
            said.push(format!(
                "{} must not include {} in securityContext.capabilities.add",
                named(&adds),
                quoted(&all)
            ));
        }
        (!said.is_empty()).then(|| ("unrestricted capabilities".to_owned(), said.join("; ")))
    }

    fn volumes(&self) -> Found {
        let mut names = Vec::new();
        let mut types = Vec::new();
        for volume in self.spec.list("volumes") {
            let source =
                volume.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).find(|k| *k != "name");
            if let Some(source) = source.filter(|s| !VOLUMES.contains(s)) {
                names.push(volume.text("name"));
                types.push(source.to_owned());
            }
        }
        if names.is_empty() {
            return None;
        }
        let types = sorted(types);
        let detail = format!(
            "{} {} {} restricted volume {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("type", "types", types.len()),
            quoted(&types)
        );
        Some(("restricted volume types".to_owned(), detail))
    }

    fn run_as_non_root(&self) -> Found {
        let pod = self.context().flag("runAsNonRoot");
        let explicit = self.bad(|c| c.flag("runAsNonRoot") == Some(false));
        let reason = "runAsNonRoot != true".to_owned();
        let bad_pod = pod == Some(false)
            && self.containers.iter().any(|c| c.at("securityContext").flag("runAsNonRoot") != Some(true));
        if bad_pod || !explicit.is_empty() {
            let detail =
                format!("{} must not set securityContext.runAsNonRoot=false", setters(bad_pod, &explicit));
            return Some((reason, detail));
        }
        if pod == Some(true) {
            return None;
        }
        let implicit = self.bad(|c| c.flag("runAsNonRoot").is_none());
        (!implicit.is_empty()).then(|| {
            (reason, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&implicit)))
        })
    }

    fn run_as_user(&self) -> Found {
        let pod = self.context().int("runAsUser") == Some(0);
        let bad = self.bad(|c| c.int("runAsUser") == Some(0));
        let _ = meta::name(self.pod);
        (pod || !bad.is_empty())
            .then(|| ("runAsUser=0".to_owned(), format!("{} must not set runAsUser=0", setters(pod, &bad))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_differ() {
        let pod = machinery::json!({"spec": {"hostNetwork": true, "containers": [{"name": "c",
            "securityContext": {"privileged": true, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}});
        let want = [
            "host namespaces (hostNetwork=true)",
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ];
        assert_eq!(violations(Level::Baseline, &pod), want);
        assert_eq!(violations(Level::Restricted, &pod), want);
    }
}
