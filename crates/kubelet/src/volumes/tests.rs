use super::*;
use crate::dns::NodeDns;
use crate::env::PodFields;
use crate::refs::Found;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::sync::Arc;

fn node(root: &Path) -> NodeFacts {
    NodeFacts {
        name: "node".into(),
        ips: vec!["192.168.0.1".into()],
        dns: NodeDns { cluster_domain: "cluster.local".into(), ..NodeDns::default() },
        memory: 1 << 30,
        allocatable: Default::default(),
        root: root.to_owned(),
        log_root: root.join("logs"),
        cgroup_root: String::new(),
        systemd_cgroups: false,
    }
}

fn pod(volumes: Value, mounts: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts,
            "terminationMessagePath": "/dev/termination-log"}]}}))
    .unwrap()
}

fn run(pod: &Pod, node: &NodeFacts, data: &str) -> Result<PreparedVolumes, VolumeError> {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"key": data}})).unwrap();
    let found = Found { config_maps: [("m".to_owned(), Arc::new(map))].into(), ..Found::default() };
    let inputs = VolumeInputs {
        node,
        sources: Sources {
            fields: PodFields { pod, pod_ips: &[], host_ips: &[], allocatable: &node.allocatable },
            found: &found,
            tokens: &HashMap::new(),
            bundles: &HashMap::new(),
        },
        claims: &HashMap::new(),
        now: Timestamp::now(),
    };
    prepare(pod, &inputs)
}

#[test]
fn made_updated_removed() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let pod = pod(
        json!([{"name": "cfg", "configMap": {"name": "m"}}, {"name": "tmp", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": dir.path(), "type": "Directory"}}]),
        json!([{"name": "cfg", "mountPath": "/cfg"}, {"name": "tmp", "mountPath": "rel", "mountPropagation": "HostToContainer"},
            {"name": "host", "mountPath": "/h", "readOnly": true}]),
    );
    let volumes = run(&pod, &node, "1").unwrap();
    let Prepared::Path { path, read_only: true } = &volumes["cfg"] else { panic!("{volumes:?}") };
    assert_eq!(fs::read_to_string(path.join("key")).unwrap(), "1");
    run(&pod, &node, "2").unwrap();
    assert_eq!(fs::read_to_string(path.join("key")).unwrap(), "2");
    let Prepared::Path { path: tmp, .. } = &volumes["tmp"] else { panic!() };
    assert_eq!(fs::metadata(tmp).unwrap().permissions().mode() & 0o777, 0o777);

    let inputs = MountInputs {
        node: &node,
        volumes: &volumes,
        env: &[],
        pod_ips: &["10.0.0.1".into()],
        attempt: 2,
        images: &HashMap::new(),
        userns: None,
    };
    let made = container_mounts(&pod, &pod.spec().containers[0], &inputs).unwrap();
    let words: Vec<_> = made
        .mounts
        .iter()
        .map(|m| format!("{} {} {}", m.container_path, m.readonly, m.propagation))
        .collect();
    assert_eq!(
        words,
        ["/cfg true 0", "/rel false 1", "/h true 0", "/etc/hosts false 0", "/dev/termination-log false 0"]
    );
    remove_tree(&node.pod_dir("u")).unwrap();
    assert!(!node.pod_dir("u").exists());
    remove_tree(&node.pod_dir("u")).unwrap();
}

#[test]
fn failures_name_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let error = |volumes: Value| run(&pod(volumes, json!([])), &node, "1").unwrap_err().to_string();
    assert_eq!(
        error(json!([{"name": "x", "configMap": {"name": "no"}}])),
        "MountVolume.SetUp failed for volume \"x\" : configmap \"no\" not found"
    );
    assert!(
        error(json!([{"name": "x", "persistentVolumeClaim": {"claimName": "c"}}]))
            .contains("\"c\" not found")
    );
}

#[test]
fn in_memory_and_sub_paths_as_root() {
    if !is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let pod = pod(
        json!([{"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]),
        json!([{"name": "mem", "mountPath": "/m", "subPathExpr": "$(A)/b"}]),
    );
    let volumes = match run(&pod, &node, "1") {
        Err(e) if e.to_string().contains("ermi") => {
            println!("skipped: this root may not mount: {e}");
            return;
        }
        other => other.unwrap(),
    };
    let Prepared::Path { path, .. } = &volumes["mem"] else { panic!() };
    assert!(mounts::is_mount_point(path));
    let env = [("A".to_owned(), "a".to_owned())];
    let mut inputs = MountInputs {
        node: &node,
        volumes: &volumes,
        env: &env,
        pod_ips: &[],
        attempt: 0,
        images: &HashMap::new(),
        userns: None,
    };
    let made = container_mounts(&pod, &pod.spec().containers[0], &inputs).unwrap();
    let bound = Path::new(&made.mounts[0].host_path);
    fs::write(bound.join("f"), "x").unwrap();
    assert_eq!(fs::read_to_string(path.join("a/b/f")).unwrap(), "x");
    inputs.env = &[];
    assert!(
        container_mounts(&pod, &pod.spec().containers[0], &inputs)
            .unwrap_err()
            .contains("missing value for \"A\"")
    );
    remove_tree(&node.pod_dir("u")).unwrap();
    assert!(!node.pod_dir("u").exists());
}
