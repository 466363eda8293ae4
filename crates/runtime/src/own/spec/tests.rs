use super::*;

fn with(container: v1::ContainerConfig) -> Result<Value, String> {
    let known: Vec<String> = ALL_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    make(&Input {
        container: &container,
        sandbox: &v1::PodSandboxConfig::default(),
        image: &RunConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["arg".into()],
            env: vec!["A=image".into(), "B=image".into()],
            working_dir: "/work".into(),
            ..RunConfig::default()
        },
        user: &User { uid: 1, gid: 2, groups: vec![2, 3], home: Some("/home/u".into()) },
        rootfs: Path::new("/r"),
        cgroup: "/pod/c",
        holder: 77,
        target: None,
        sandbox_dir: Path::new("/run/sb"),
        hostname: "pod",
        unified_cgroups: true,
        swap_is_limited: true,
        v1_cgroups: &[],
        known_capabilities: &known,
        least_oom_score: None,
        host_devices: &[],
        devices: &[],
        image_mounts: &BTreeMap::new(),
    })
}

fn security(security: v1::LinuxContainerSecurityContext) -> v1::ContainerConfig {
    let linux = v1::LinuxContainerConfig { security_context: Some(security), ..Default::default() };
    v1::ContainerConfig { linux: Some(linux), ..Default::default() }
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn command_and_arguments() {
    let check = |command: &[&str], args: &[&str], expected: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let config = v1::ContainerConfig { command: own(command), args: own(args), ..Default::default() };
        assert_eq!(names(&with(config).unwrap()["process"]["args"]), expected);
    };
    check(&[], &[], &["/entry", "arg"]);
    check(&[], &["x"], &["/entry", "x"]);
    check(&["/c"], &[], &["/c"]);
    check(&["/c"], &["x"], &["/c", "x"]);
}

#[test]
fn environment_is_layered() {
    let config = v1::ContainerConfig {
        envs: vec![v1::KeyValue { key: "B".into(), value: b"pod".to_vec() }],
        ..Default::default()
    };
    let spec = with(config).unwrap();
    let env = names(&spec["process"]["env"]);
    for expected in ["A=image", "B=pod", "HOSTNAME=pod", "HOME=/home/u"] {
        assert!(env.contains(&expected), "{expected} in {env:?}");
    }
    assert_eq!(spec["process"]["cwd"], "/work");
}

#[test]
fn capabilities_added_and_dropped() {
    let check = |add: &[&str], drop: &[&str], has: &[&str], lacks: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let capabilities =
            v1::Capability { add_capabilities: own(add), drop_capabilities: own(drop), ..Default::default() };
        let context =
            v1::LinuxContainerSecurityContext { capabilities: Some(capabilities), ..Default::default() };
        let spec = with(security(context)).unwrap();
        let set = names(&spec["process"]["capabilities"]["effective"]);
        assert!(has.iter().all(|name| set.contains(name)), "{set:?}");
        assert!(!lacks.iter().any(|name| set.contains(name)), "{set:?}");
    };
    check(&[], &[], &["CAP_CHOWN"], &["CAP_SYS_ADMIN"]);
    check(&["NET_ADMIN"], &["CHOWN"], &["CAP_NET_ADMIN", "CAP_KILL"], &["CAP_CHOWN"]);
    check(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"], &["CAP_CHOWN", "CAP_KILL"]);
    check(&["ALL"], &["CHOWN"], &["CAP_SYS_ADMIN"], &["CAP_CHOWN"]);
    let capabilities = v1::Capability { add_capabilities: vec!["NONSENSE".into()], ..Default::default() };
    let context =
        v1::LinuxContainerSecurityContext { capabilities: Some(capabilities), ..Default::default() };
    assert!(with(security(context)).is_err());
}

#[test]
fn host_namespaces_are_left_out() {
    let options = v1::NamespaceOption {
        network: NamespaceMode::Node as i32,
        pid: NamespaceMode::Node as i32,
        ipc: NamespaceMode::Pod as i32,
        ..Default::default()
    };
    let context =
        v1::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    let spec = with(security(context)).unwrap();
    let kinds: Vec<&str> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["mount", "ipc", "cgroup"]);
}

#[test]
fn mounts_are_sorted_and_replace_defaults() {
    let mount =
        |at: &str| v1::Mount { container_path: at.into(), host_path: "/h".into(), ..Default::default() };
    let config = v1::ContainerConfig {
        mounts: vec![mount("/a/b/"), mount("/a"), mount("/etc/hosts")],
        ..Default::default()
    };
    let spec = with(config).unwrap();
    let at: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    let place = |wanted: &str| at.iter().position(|have| *have == wanted).unwrap();
    assert!(place("/a") < place("/a/b"));
    assert_eq!(at.iter().filter(|have| **have == "/etc/hosts").count(), 1);
    let config = v1::ContainerConfig {
        mounts: vec![v1::Mount { recursive_read_only: true, ..mount("/x") }],
        ..Default::default()
    };
    assert!(with(config).is_err());
}
