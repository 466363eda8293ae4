//! A Deployment answers through its Service, from the host and by name from a pod; kubectl works on it.

use testkit::wait_for;

use crate::web::{LIMIT, all_answer, available, cluster, from_host, pods, roll_out};

#[test]
fn a_deployment_answers_through_its_service() {
    let Some(cluster) = cluster("a_deployment_answers_through_its_service") else { return };
    roll_out(&cluster);
    all_answer(&cluster, "from the host", || from_host(&cluster));

    let pod = pods(&cluster).first().and_then(|pod| Some(pod.split_once('/')?.0.to_owned())).expect("a pod");
    let ask = |command: &[&str]| {
        let mut words = vec!["exec", &pod, "--"];
        words.extend_from_slice(command);
        cluster.kubectl_ok(&words).map_err(|e| e.to_string())
    };
    all_answer(&cluster, "by name from a pod", || ask(&["wget", "-q", "-O", "-", "http://web/"]));
    let full = ask(&["nslookup", "web.default.svc.cluster.local"]).expect("the name resolves");
    assert!(full.contains("10.96."), "{full}");

    cluster.kubectl_ok(&["scale", "deployment/web", "--replicas=5"]).expect("scale");
    available(&cluster, 5);
    cluster.kubectl_ok(&["scale", "deployment/web", "--replicas=1"]).expect("scale");
    available(&cluster, 1);

    let before = pods(&cluster);
    cluster.kubectl_ok(&["rollout", "restart", "deployment/web"]).expect("restart");
    wait_for("the pods to be replaced", LIMIT, || {
        let now = pods(&cluster);
        if now.len() == 1 && now.is_disjoint(&before) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    available(&cluster, 1);

    cluster.kubectl_ok(&["delete", "deployment/web", "service/web"]).expect("delete");
    wait_for("the pods to be gone", LIMIT, || match pods(&cluster) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_pod_that_cannot_start_says_why() {
    let Some(cluster) = cluster("a_pod_that_cannot_start_says_why") else { return };
    let pod = |name: &str, image: &str, command: &str, policy: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: c\n    image: {image}\n    imagePullPolicy: {policy}\n    command: {command}\n---\n"
        )
    };
    let manifest = [
        pod("no-image", "127.0.0.1:1/none:1", "[sh]", "IfNotPresent"),
        pod("never", "example.org/none:1", "[sh]", "Never"),
        pod("no-command", "example.org/web:1", "[/no/such]", "IfNotPresent"),
        pod("bad-name", "example.org/Web:1", "[sh]", "IfNotPresent"),
        pod(
            "no-config",
            "example.org/web:1",
            "[sh]\n    envFrom: [{configMapRef: {name: none}}]",
            "IfNotPresent",
        ),
        pod("crashes", "example.org/web:1", "[sh, -c, exit 3]", "IfNotPresent"),
    ];
    cluster.apply(&manifest.concat()).expect("apply");
    let reasons: &[(&str, &[&str])] = &[
        ("no-image", &["ImagePullBackOff"]),
        ("never", &["ErrImageNeverPull"]),
        ("no-command", &["RunContainerError", "CrashLoopBackOff"]),
        ("bad-name", &["InvalidImageName"]),
        ("no-config", &["CreateContainerConfigError"]),
        ("crashes", &["CrashLoopBackOff"]),
    ];
    for (name, wanted) in reasons {
        wait_for(&format!("{name} to say why"), LIMIT, || {
            let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
            let reason = cluster.kubectl_ok(&["get", "pod", name, "-o", path]).map_err(|e| e.to_string())?;
            if wanted.contains(&reason.as_str()) { Ok(()) } else { Err(reason) }
        });
    }
    // What came before the back-offs, by its words.
    let word = |pod: &str, path: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[0].{path}}}");
        cluster.kubectl_ok(&["get", "pod", pod, "-o", &path]).expect("get")
    };
    let message = word("no-image", "state.waiting.message");
    assert!(message.contains("ErrImagePull: "), "{message}");
    let code = word("crashes", "lastState.terminated.exitCode");
    assert_eq!(code, "3");
    let events = cluster.kubectl_ok(&[
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}",
    ]);
    let events = events.expect("events");
    for wanted in [
        "Failed: Failed to pull image",
        "BackOff: Back-off pulling image",
        "ErrImageNeverPull: ",
        "InspectFailed: ",
        "BackOff: Back-off restarting failed container",
    ] {
        assert!(events.contains(wanted), "{wanted:?} in {events}");
    }
}
