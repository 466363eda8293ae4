use serde_json::{Value, json};

use crate::harness::{Node, PODS, is_ready, phase, waiting};

#[tokio::test]
async fn registers_and_keeps_its_lease() {
    let node = Node::start().await;
    let ready = || {
        let found = node.api.get("/api/v1/nodes", "node")?;
        let conditions = found["status"]["conditions"].as_array()?.clone();
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then_some(found)
    };
    node.wait_for("a ready node", || ready().is_some()).await;
    let found = ready().unwrap();
    assert_eq!(found["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    assert_eq!(found["status"]["addresses"][0], json!({"type": "InternalIP", "address": "192.168.0.1"}));
    assert_eq!(found["status"]["nodeInfo"]["containerRuntimeVersion"], "fake://1");
    assert_eq!(found["status"]["capacity"]["pods"], "110");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    node.wait_for("a lease", || node.api.get(leases, "node").is_some()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_pod_from_first_sight_to_last_trace() {
    let node = Node::start().await;
    node.api.put(
        "/api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "m", "namespace": "ns"}, "data": {"key": "one"}}),
    );
    node.api.put(
        "/api/v1/namespaces/ns/secrets",
        json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"word": "aGlkZGVu"}}),
    );
    node.api.put(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
    );
    node.pod("p", json!({
        "serviceAccountName": "sa", "terminationGracePeriodSeconds": 7,
        "volumes": [
            {"name": "cfg", "configMap": {"name": "m"}}, {"name": "tmp", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}],
        "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
            "command": ["run", "$(WORD)"], "terminationMessagePath": "/dev/termination-log",
            "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}, {"name": "tmp", "mountPath": "/tmp"}, {"name": "token", "mountPath": "/token"}]}]
    }));
    let pod = node.wait("p", "a ready pod", is_ready).await;
    assert_eq!(phase(&pod), "Running");
    assert_eq!(pod["status"]["podIP"], "10.0.0.1");
    assert_eq!(pod["status"]["hostIP"], "192.168.0.1");
    assert_eq!(pod["status"]["containerStatuses"][0]["image"], "ref:busybox:latest");
    assert_eq!(node.cri.calls(), ["sandbox p", "pull busybox:latest", "create c", "start c"]);

    let config = node.cri.config("c").unwrap();
    let env = |name: &str| {
        let found = config.envs.iter().find(|e| e.key == name);
        found.map(|e| String::from_utf8(e.value.clone()).unwrap()).unwrap_or_default()
    };
    assert_eq!(config.command, ["run", "hidden"]);
    assert_eq!((env("IP"), env("KUBERNETES_SERVICE_HOST")), ("10.0.0.1".into(), "10.96.0.1".into()));
    let host = |at: &str| config.mounts.iter().find(|m| m.container_path == at).unwrap().host_path.clone();
    let read = |at: &str, name: &str| std::fs::read_to_string(format!("{}/{name}", host(at))).unwrap();
    assert_eq!(read("/cfg", "key"), "one");
    assert_eq!(read("/token", "token"), "token-of-sa");
    assert!(std::fs::read_to_string(host("/etc/hosts")).unwrap().contains("10.0.0.1\tp\n"));

    // A change reaches the volume by itself.
    node.api.put(
        "/api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "m", "namespace": "ns"}, "data": {"key": "two"}}),
    );
    node.wait_for("the new configuration", || read("/cfg", "key") == "two").await;

    node.delete("p");
    node.wait("p", "the pod's end", Value::is_null).await;
    assert!(node.cri.calls().contains(&"stop c 7".to_owned()), "{:?}", node.cri.calls());
    node.wait_for("an empty runtime", || node.cri.is_empty()).await;
    let pods = node.root.path().join("kubelet/pods");
    node.wait_for("removed directories", || std::fs::read_dir(&pods).unwrap().next().is_none()).await;
    node.wait_for("events", || node.events().iter().any(|e| e.starts_with("Killing"))).await;
    let events = node.events();
    for expected in [
        "Pulling: Pulling image \"busybox\"",
        "Created: Container created",
        "Started: Container started",
        "Killing: Stopping container c",
    ] {
        assert!(events.iter().any(|e| e == expected), "{expected}: {events:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn crashes_back_off_and_completions_end() {
    let node = Node::start().await;
    node.pod("p", json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "x:1"}]}));
    node.wait("p", "running", |p| phase(p) == "Running").await;
    node.cri.exit("c", 1);
    // The first restart comes at once, the second waits.
    let restarted = |p: &Value| p["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(p);
    node.wait("p", "a restart", restarted).await;
    node.cri.exit("c", 1);
    let pod = node.wait("p", "back-off", |p| waiting(p) == "CrashLoopBackOff").await;
    assert_eq!(phase(&pod), "Running");
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=p_ns("), "{message}");
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);

    node.pod("q", json!({"restartPolicy": "Never", "containers": [{"name": "d", "image": "x:1"}]}));
    node.wait("q", "running", |p| phase(p) == "Running").await;
    node.cri.exit("d", 0);
    let pod = node.wait("q", "success", |p| phase(p) == "Succeeded").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    node.stop().await;
}

#[tokio::test]
async fn missing_things_are_named_and_waited_for() {
    let node = Node::start().await;
    node.cri.without_image("gone:1");
    node.pod("p", json!({"containers": [{"name": "c", "image": "gone:1"}]}));
    let pod = node.wait("p", "a failed pull", |p| waiting(p) == "ErrImagePull").await;
    assert_eq!(phase(&pod), "Pending");
    node.wait("p", "back-off", |p| waiting(p) == "ImagePullBackOff").await;

    node.pod("q", json!({"containers": [{"name": "c", "image": "Not Valid"}]}));
    node.wait("q", "a refused name", |p| waiting(p) == "InvalidImageName").await;
    node.pod("r", json!({"containers": [{"name": "c", "image": "x", "imagePullPolicy": "Never"}]}));
    node.wait("r", "no image", |p| waiting(p) == "ErrImageNeverPull").await;

    let needs = json!({"containers": [{"name": "c", "image": "x:1", "env": [{"name": "A",
        "valueFrom": {"configMapKeyRef": {"name": "later", "key": "k"}}}]}]});
    node.pod("s", needs);
    node.wait("s", "a missing configuration", |p| waiting(p) == "CreateContainerConfigError").await;
    node.api.put(
        "/api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "later", "namespace": "ns"}, "data": {"k": "v"}}),
    );
    node.wait("s", "a start once it is there", is_ready).await;

    node.pod(
        "t",
        json!({"containers": [{"name": "c", "image": "x:1"}],
        "volumes": [{"name": "v", "secret": {"secretName": "later"}}]}),
    );
    node.wait_for("a FailedMount event", || {
        node.events().contains(
            &"FailedMount: MountVolume.SetUp failed for volume \"v\" : secret \"later\" not found".into(),
        )
    })
    .await;
    node.api.put("/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": "later", "namespace": "ns"}}));
    node.wait("t", "a start once it is there", is_ready).await;
    node.stop().await;
}

#[tokio::test]
async fn init_containers_then_sidecars_then_the_rest() {
    let node = Node::start().await;
    node.pod("p", json!({
        "initContainers": [{"name": "i", "image": "x:1"}, {"name": "s", "image": "x:1", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "x:1"}], "terminationGracePeriodSeconds": 3}));
    let first = |p: &Value| p.pointer("/status/initContainerStatuses/0/state/running").is_some();
    let pod = node.wait("p", "the first init container", first).await;
    assert_eq!(waiting(&pod), "PodInitializing");
    node.cri.exit("i", 0);
    node.wait("p", "all up", is_ready).await;
    node.delete("p");
    node.wait("p", "the pod's end", Value::is_null).await;
    let calls = node.cri.calls();
    let at = |call: &str| {
        calls.iter().position(|c| c.starts_with(call)).unwrap_or_else(|| panic!("{call}: {calls:?}"))
    };
    assert!(at("start i") < at("start s") && at("start s") < at("start c"));
    assert!(at("stop c") < at("stop s"), "sidecars go last: {calls:?}");
    node.stop().await;
}

#[tokio::test]
async fn probes_decide() {
    let node = Node::start().await;
    let exec =
        |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    node.pod("p", json!({"containers": [{"name": "c", "image": "x:1", "readinessProbe": exec("true")}]}));
    node.wait("p", "readiness", is_ready).await;
    node.pod("q", json!({"containers": [{"name": "d", "image": "x:1", "readinessProbe": exec("false"), "livenessProbe": exec("false")}]}));
    let restarts = |p: &Value| p["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0);
    let pod = node.wait("q", "a restart", |p| restarts(p) >= 1).await;
    assert!(!is_ready(&pod));
    node.wait_for("events", || {
        node.events().iter().any(|e| e.contains("Container d failed liveness probe, will be restarted"))
    })
    .await;
    assert!(
        node.events().iter().any(|e| e.starts_with("Unhealthy: Liveness probe failed")),
        "{:?}",
        node.events()
    );
    node.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_adopts_and_clears_up() {
    let node = Node::start().await;
    for name in ["stays", "goes"] {
        node.pod(name, json!({"containers": [{"name": name, "image": "x:1"}]}));
        node.wait(name, "ready", is_ready).await;
    }
    let (api, cri, root) = node.stop().await;
    assert_eq!(cri.running(), 2, "containers outlive the agent");
    api.remove(PODS, "goes");
    let calls = cri.calls().len();
    let node = Node::start_with(api, cri, root).await;
    node.wait_for("the orphan's end", || node.cri.running() == 1).await;
    node.wait("stays", "still ready", is_ready).await;
    let new: Vec<String> = node.cri.calls()[calls..].to_vec();
    assert!(new.iter().all(|c| c.starts_with("stop goes")), "nothing is started anew: {new:?}");
    node.stop().await;
}

#[tokio::test]
async fn force_cuts_a_long_goodbye_short() {
    let node = Node::start().await;
    node.cri.stubborn("c");
    node.pod(
        "p",
        json!({"containers": [{"name": "c", "image": "x:1"}], "terminationGracePeriodSeconds": 3600}),
    );
    node.wait("p", "ready", is_ready).await;
    node.delete("p");
    node.wait_for("the first signal", || node.cri.calls().contains(&"stop c 3600".into())).await;
    node.api.remove(PODS, "p");
    node.wait_for("an empty runtime", || node.cri.is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn refusals_and_deadlines_fail_the_pod() {
    let node = Node::start().await;
    node.pod(
        "big",
        json!({"containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "4000"}}}]}),
    );
    let pod = node.wait("big", "refusal", |p| phase(p) == "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    assert!(
        pod["status"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Pod was rejected: Node didn't have enough resource: cpu")
    );
    node.pod("short", json!({"activeDeadlineSeconds": 1, "containers": [{"name": "c", "image": "x:1"}]}));
    let pod = node.wait("short", "the deadline", |p| phase(p) == "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(node.cri.running(), 0);
    node.stop().await;
}

#[tokio::test]
async fn static_pods_and_their_mirrors() {
    let node = Node::start().await;
    let manifest = node.root.path().join("manifests/web.yaml");
    let text = "metadata:\n  name: web\n  namespace: ns\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: x:1\n";
    std::fs::write(&manifest, text).unwrap();
    let pod = node.wait("web-node", "a ready mirror", is_ready).await;
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Node");
    let first = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].clone();

    // A mirror that someone deletes comes back; the pod goes on.
    node.api.remove(PODS, "web-node");
    node.wait("web-node", "a new mirror", is_ready).await;
    assert_eq!(node.cri.calls().iter().filter(|c| c.starts_with("start")).count(), 1);

    std::fs::write(&manifest, text.replace("x:1", "x:2")).unwrap();
    node.wait("web-node", "the changed pod", |p| {
        is_ready(p) && p["metadata"]["annotations"]["kubernetes.io/config.mirror"] != first
    })
    .await;
    std::fs::remove_file(&manifest).unwrap();
    node.wait("web-node", "the mirror's end", Value::is_null).await;
    node.wait_for("an empty runtime", || node.cri.is_empty()).await;
    node.stop().await;
}
