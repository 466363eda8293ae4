use super::*;
use crate::decide::ProbeResults;
use crate::observed::{Container as Seen, Sandbox, State};
use serde_json::{Value, json};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec, "status": status
    }))
    .unwrap()
}

fn seen(name: &str, state: State, exit_code: i32) -> Seen {
    let reason = match (state, exit_code) {
        (State::Exited, 0) => "Completed",
        (State::Exited, _) => "Error",
        _ => "",
    };
    Seen {
        id: format!("{name}-id"),
        name: name.into(),
        state,
        exit_code,
        reason: reason.into(),
        sandbox_id: "s".into(),
        started_at: at(5),
        finished_at: at(9),
        ..Seen::default()
    }
}

fn observed(containers: Vec<Seen>) -> Observed {
    let sandbox = Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.7".into()], ..Sandbox::default() };
    Observed { sandboxes: vec![sandbox], containers, runtime_name: "r8s".into() }
}

#[derive(Default)]
struct Case {
    probes: Probes,
    failures: HashMap<String, StartFailure>,
    terminal: bool,
    last: Option<PodStatus>,
}

impl Case {
    fn run(&self, pod: &Pod, seen: &Observed) -> PodStatus {
        let api = pod.status.clone().unwrap_or_default();
        generate(&Inputs {
            pod,
            last: self.last.as_ref().unwrap_or(&api),
            seen,
            probes: &self.probes,
            failures: &self.failures,
            terminal: self.terminal,
            ended: None,
            host_ips: &["192.168.0.2".to_owned()],
            now: at(100),
            extra_conditions: &[],
        })
    }
}

fn spec(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]})
}

fn state_words(status: &ContainerStatus) -> String {
    let word = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| match state {
        None => "none".to_owned(),
        Some(s) => match (&s.waiting, &s.running, &s.terminated) {
            (Some(w), ..) => format!("waiting:{}", w.reason.as_deref().unwrap_or_default()),
            (_, Some(_), _) => "running".to_owned(),
            (.., Some(t)) => format!("ended:{}:{}", t.exit_code, t.reason.as_deref().unwrap_or_default()),
            _ => "-".to_owned(),
        },
    };
    format!(
        "{} last {} restarts {} ready {}",
        word(&status.state),
        word(&status.last_state),
        status.restart_count,
        status.ready
    )
}

fn first(status: &PodStatus) -> String {
    state_words(&status.container_statuses.as_ref().unwrap()[0])
}

#[test]
fn creating_then_running() {
    let pod = pod(spec("Always"), json!({}));
    let status = Case::default().run(&pod, &Observed::default());
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(first(&status), "waiting:ContainerCreating last - restarts 0 ready false");
    assert_eq!(
        condition_words(&status),
        "ContainersReady=False(ContainersNotReady) Initialized=True PodReadyToStartContainers=False PodScheduled=True \
         Ready=False(ContainersNotReady)"
    );
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.pod_ip.is_none());

    let last = Some(status);
    let status = Case { last, ..Case::default() }.run(&pod, &observed(vec![seen("a", State::Running, 0)]));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(first(&status), "running last - restarts 0 ready true");
    assert_eq!(
        condition_words(&status),
        "ContainersReady=True Initialized=True PodReadyToStartContainers=True PodScheduled=True Ready=True"
    );
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.2"));
    let id = status.container_statuses.unwrap()[0].container_id.clone();
    assert_eq!(id.as_deref(), Some("r8s://a-id"));
}

#[test]
fn ends_by_policy() {
    for (policy, exit, phase, conditions) in [
        ("Always", 0, "Running", "ContainersNotReady"),
        ("OnFailure", 0, "Succeeded", "PodCompleted"),
        ("OnFailure", 1, "Running", "ContainersNotReady"),
        ("Never", 0, "Succeeded", "PodCompleted"),
        ("Never", 1, "Failed", "PodFailed"),
    ] {
        let status = Case::default()
            .run(&pod(spec(policy), json!({})), &observed(vec![seen("a", State::Exited, exit)]));
        assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {exit}");
        assert!(condition_words(&status).contains(&format!("Ready=False({conditions})")), "{policy} {exit}");
    }
    let terminal = Case { terminal: true, ..Case::default() };
    let status =
        terminal.run(&pod(spec("Always"), json!({})), &observed(vec![seen("a", State::Exited, 137)]));
    assert_eq!(status.phase.as_deref(), Some("Failed"), "a deleted pod that ended badly");
}

#[test]
fn crash_loop_and_pull_failures() {
    let pod = pod(spec("Always"), json!({}));
    let failure = |reason: &str| Case {
        failures: [("a".to_owned(), StartFailure { reason: reason.into(), message: "m".into() })].into(),
        ..Case::default()
    };
    let mut crashed = seen("a", State::Exited, 1);
    crashed.restart_count = 2;
    let status = failure("CrashLoopBackOff").run(&pod, &observed(vec![crashed]));
    assert_eq!(first(&status), "waiting:CrashLoopBackOff last ended:1:Error restarts 2 ready false");
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let status = failure("ErrImagePull").run(&pod, &observed(vec![]));
    assert_eq!(first(&status), "waiting:ErrImagePull last - restarts 0 ready false");
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn two_attempts_show_state_and_last_state() {
    let mut newer = seen("a", State::Running, 0);
    newer.id = "a2".into();
    newer.restart_count = 1;
    let status = Case::default()
        .run(&pod(spec("Always"), json!({})), &observed(vec![newer, seen("a", State::Exited, 3)]));
    assert_eq!(first(&status), "running last ended:3:Error restarts 1 ready true");
}

#[test]
fn init_containers() {
    let spec = json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let pod = pod(spec, json!({}));
    let status = Case::default().run(&pod, &observed(vec![seen("i", State::Running, 0)]));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(first(&status), "waiting:PodInitializing last - restarts 0 ready false");
    assert!(condition_words(&status).contains("Initialized=False(ContainersNotInitialized)"));
    let message = crate::pod::condition(&status, "Initialized").unwrap().message.clone();
    assert_eq!(message.as_deref(), Some("containers with incomplete status: [i s]"));

    let up = vec![seen("a", State::Running, 0), seen("s", State::Running, 0), seen("i", State::Exited, 0)];
    let status = Case::default().run(&pod, &observed(up));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(condition_words(&status).contains(" Initialized=True "));
    let init = status.init_container_statuses.unwrap();
    assert_eq!(state_words(&init[0]), "ended:0:Completed last - restarts 0 ready true");
    assert_eq!(state_words(&init[1]), "running last - restarts 0 ready true");
}

#[test]
fn probes_hold_back_readiness() {
    let spec = json!({"containers": [{"name": "a", "readinessProbe": {}, "startupProbe": {}}]});
    let pod = pod(spec, json!({}));
    let up = observed(vec![seen("a", State::Running, 0)]);
    for (startup, readiness, started, ready) in [
        (None, None, false, false),
        (Some(true), None, true, false),
        (Some(true), Some(true), true, true),
        (Some(true), Some(false), true, false),
    ] {
        let probes = [("a-id".to_owned(), ProbeResults { startup, readiness, liveness: None })].into();
        let status = Case { probes, ..Case::default() }.run(&pod, &up);
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!((container.started, container.ready), (Some(started), ready));
    }
}

#[test]
fn readiness_gates() {
    let spec = json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]});
    let up = observed(vec![seen("a", State::Running, 0)]);
    for (conditions, ready) in [
        (json!([]), "False"),
        (json!([{"type": "x/y", "status": "False"}]), "False"),
        (json!([{"type": "x/y", "status": "True"}]), "True"),
    ] {
        let status = Case::default().run(&pod(spec.clone(), json!({"conditions": conditions})), &up);
        assert_eq!(crate::pod::condition(&status, "Ready").unwrap().status, ready);
        assert_eq!(crate::pod::condition(&status, "ContainersReady").unwrap().status, "True");
    }
}

#[test]
fn a_vanished_container_has_ended() {
    let last = json!({"phase": "Running", "containerStatuses": [{"name": "a", "image": "x", "imageID": "", "ready": true,
        "restartCount": 1, "state": {"running": {}}, "containerID": "r8s://old"}]});
    let pod = pod(spec("Always"), last);
    let status = Case::default().run(&pod, &observed(vec![]));
    assert_eq!(
        first(&status),
        "waiting:ContainerCreating last ended:137:ContainerStatusUnknown restarts 2 ready false"
    );
    assert_eq!(status.phase.as_deref(), Some("Running"), "not back to pending");
}

#[test]
fn ended_pods_stay_ended() {
    let pod = pod(spec("Always"), json!({"phase": "Failed", "reason": "Evicted", "message": "m"}));
    let status = Case::default().run(&pod, &observed(vec![seen("a", State::Running, 0)]));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
}

#[test]
fn transition_times_move_with_the_status() {
    let pod = pod(spec("Always"), json!({}));
    let first = Case::default().run(&pod, &Observed::default());
    let mut later = first.clone();
    for c in later.conditions.as_mut().unwrap() {
        c.last_transition_time = Some(Time(at(50)));
    }
    let again = Case { last: Some(later), ..Case::default() }.run(&pod, &observed(vec![]));
    let time = |kind: &str| crate::pod::condition(&again, kind).unwrap().last_transition_time.clone();
    assert_eq!(time("Ready"), Some(Time(at(50))), "still false");
    assert_eq!(time("PodReadyToStartContainers"), Some(Time(at(100))), "now true");
}
