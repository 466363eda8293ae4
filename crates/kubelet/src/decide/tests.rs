use super::*;
use crate::amounts::Amounts;
use crate::observed::{Container as Seen, Sandbox};
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn seen(name: &str, state: State, exit_code: i32) -> Seen {
    Seen {
        id: format!("{name}-id"),
        name: name.into(),
        state,
        exit_code,
        sandbox_id: "s".into(),
        ..Seen::default()
    }
}

fn observed(containers: Vec<Seen>) -> Observed {
    let sandbox = Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.1".into()], ..Sandbox::default() };
    Observed { sandboxes: vec![sandbox], containers, runtime_name: "t".into() }
}

/// A plan in one line: `sandbox kill[..] init[..] start[..]`, only what is there.
fn words(plan: &Plan) -> String {
    let mut out = vec![];
    if plan.kill_pod {
        out.push("killpod".into());
    }
    if let Some(attempt) = plan.create_sandbox {
        out.push(format!("sandbox{attempt}"));
    }
    for k in &plan.kill {
        out.push(format!("kill:{}", k.name));
    }
    for r in &plan.reset {
        out.push(format!("reset:{}", r.name));
    }
    for (word, list) in [("eph", &plan.start_ephemeral), ("init", &plan.start_init), ("start", &plan.start)] {
        out.extend(list.iter().map(|i| format!("{word}{i}")));
    }
    for r in &plan.resize {
        out.push(format!("resize:{}", r.name));
    }
    out.join(" ")
}

fn check(name: &str, spec: Value, seen: &Observed, probes: &[(&str, ProbeResults)], expected: &str) {
    let probes = probes.iter().map(|(id, r)| ((*id).to_owned(), *r)).collect();
    assert_eq!(words(&plan(&pod(spec), seen, &probes, false)), expected, "{name}");
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

fn with_init(policy: &str) -> Value {
    json!({"restartPolicy": policy, "initContainers": [{"name": "i0"}, {"name": "i1"}], "containers": [{"name": "a"}]})
}

fn sidecars() -> Value {
    json!({"restartPolicy": "Always",
        "initContainers": [{"name": "s0", "restartPolicy": "Always"}, {"name": "i1"}], "containers": [{"name": "a"}]})
}

#[test]
fn sandboxes() {
    let none = Observed::default();
    check("new", two("Always"), &none, &[], "killpod sandbox0 start0 start1");
    check("new with init", with_init("Always"), &none, &[], "killpod sandbox0 init0");

    let mut dead = observed(vec![seen("a", State::Exited, 1), seen("b", State::Exited, 0)]);
    dead.sandboxes[0].ready = false;
    check("dead, always", two("Always"), &dead, &[], "killpod sandbox1 start0 start1");
    check("dead, on failure", two("OnFailure"), &dead, &[], "killpod sandbox1 start0");
    check("dead, never", two("Never"), &dead, &[], "killpod");

    let mut done = observed(vec![seen("a", State::Exited, 0), seen("b", State::Exited, 0)]);
    done.sandboxes[0].ready = false;
    check("all succeeded", two("OnFailure"), &done, &[], "killpod");

    let mut addressless = observed(vec![]);
    addressless.sandboxes[0].ips.clear();
    check("no address", two("Always"), &addressless, &[], "killpod sandbox1 start0 start1");
    let host = json!({"hostNetwork": true, "containers": [{"name": "a"}]});
    addressless.sandboxes[0].host_network = true;
    check("host network needs none", host, &addressless, &[], "start0");
}

#[test]
fn restart_policies() {
    let running = || seen("b", State::Running, 0);
    for (policy, exit, expected) in [
        ("Always", 0, "start0"),
        ("Always", 1, "start0"),
        ("OnFailure", 0, ""),
        ("OnFailure", 1, "start0"),
        ("Never", 1, ""),
    ] {
        let state = observed(vec![seen("a", State::Exited, exit), running()]);
        check(policy, two(policy), &state, &[], expected);
    }
    let both = observed(vec![seen("a", State::Exited, 0), seen("b", State::Exited, 0)]);
    check("both done", two("OnFailure"), &both, &[], "killpod");
    let unknown = observed(vec![seen("a", State::Unknown, 0), running()]);
    check("unknown", two("Always"), &unknown, &[], "kill:a start0");

    let rules = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "b"}]});
    let exited = |code| observed(vec![seen("a", State::Exited, code), running()]);
    check("rule matches", rules.clone(), &exited(42), &[], "start0");
    check("rule does not match", rules, &exited(1), &[], "");
}

#[test]
fn probes_kill() {
    let state = observed(vec![seen("a", State::Running, 0), seen("b", State::Running, 0)]);
    let dead = ProbeResults { liveness: Some(false), ..Default::default() };
    let late = ProbeResults { startup: Some(false), ..Default::default() };
    check("liveness", two("Always"), &state, &[("a-id", dead)], "kill:a start0");
    check("liveness, never", two("Never"), &state, &[("a-id", dead)], "kill:a");
    check("startup", two("Always"), &state, &[("b-id", late)], "kill:b start1");
    let p = plan(&pod(two("Always")), &state, &[("a-id".to_owned(), dead)].into(), false);
    assert_eq!(p.kill[0].message, "Container a failed liveness probe, will be restarted");
}

#[test]
fn init_order() {
    check("none yet", with_init("Always"), &observed(vec![]), &[], "init0");
    for (name, containers, policy, expected) in [
        ("first runs", vec![seen("i0", State::Running, 0)], "Always", ""),
        ("first done", vec![seen("i0", State::Exited, 0)], "Always", "init1"),
        ("first failed", vec![seen("i0", State::Exited, 1)], "Always", "init0"),
        ("first failed, never", vec![seen("i0", State::Exited, 1)], "Never", "killpod"),
        ("both done", vec![seen("i1", State::Exited, 0), seen("i0", State::Exited, 0)], "Always", "start0"),
        ("first gone", vec![seen("i1", State::Exited, 0)], "Always", "start0"),
        ("regular runs, init gone", vec![seen("a", State::Running, 0)], "Always", ""),
    ] {
        check(name, with_init(policy), &observed(containers), &[], expected);
    }
}

#[test]
fn sidecars_keep_running() {
    let ok = |name: &str| seen(name, State::Running, 0);
    for (name, containers, expected) in [
        ("sidecar up", vec![ok("s0")], "init1"),
        ("then init done", vec![seen("i1", State::Exited, 0), ok("s0")], "start0"),
        ("sidecar died before", vec![seen("s0", State::Exited, 0)], "init0"),
        (
            "sidecar died beside",
            vec![ok("a"), seen("i1", State::Exited, 0), seen("s0", State::Exited, 1)],
            "init0",
        ),
        ("all up", vec![ok("a"), seen("i1", State::Exited, 0), ok("s0")], ""),
    ] {
        check(name, sidecars(), &observed(containers), &[], expected);
    }
    let mut probed = sidecars();
    probed["initContainers"][0]["startupProbe"] = json!({"exec": {"command": ["x"]}});
    let state = observed(vec![ok("s0")]);
    let result = |startup| ("s0-id", ProbeResults { startup, ..Default::default() });
    check("startup pending", probed.clone(), &state, &[result(None)], "");
    check("startup passed", probed.clone(), &state, &[result(Some(true))], "init1");
    check("startup failed", probed, &state, &[result(Some(false))], "kill:s0 init0");
}

#[test]
fn ephemeral_containers_run_once() {
    let mut spec = two("Always");
    spec["ephemeralContainers"] = json!([{"name": "e"}]);
    let up = || vec![seen("a", State::Running, 0), seen("b", State::Running, 0)];
    check("new", spec.clone(), &observed(up()), &[], "eph0");
    let mut after = up();
    after.push(seen("e", State::Exited, 1));
    check("ended", spec, &observed(after), &[], "");
}

#[test]
fn resizing() {
    let spec = |policy: &str| {
        json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": policy}]}]})
    };
    let mut up = seen("a", State::Running, 0);
    up.applied = Some(Amounts { cpu_shares: 1024, cpu_quota: 100_000, memory: 32 << 20 });
    check("in place", spec("NotRequired"), &observed(vec![up.clone()]), &[], "resize:a");
    check("by restart", spec("RestartContainer"), &observed(vec![up.clone()]), &[], "kill:a start0");
    up.applied = Some(Amounts { cpu_shares: 1024, cpu_quota: 100_000, memory: 64 << 20 });
    check("same", spec("NotRequired"), &observed(vec![up]), &[], "");
}

#[test]
fn restarting_all_removes_the_asking_one_last() {
    let spec = json!({"containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "b"}]});
    let state = observed(vec![seen("a", State::Exited, 42), seen("b", State::Running, 0)]);
    let p = plan(&pod(spec), &state, &Probes::new(), true);
    assert_eq!(words(&p), "reset:b reset:a");
    assert!(p.reset[0].kill && !p.reset[1].kill);
}

#[test]
fn image_change_restarts() {
    let mut up = seen("a", State::Running, 0);
    let with = |image: &str| json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]});
    up.spec_hash = spec_hash(&pod(with("x:1")).spec().containers[0]);
    check("same", with("x:1"), &observed(vec![up.clone()]), &[], "");
    check("new image", with("x:2"), &observed(vec![up]), &[], "kill:a start0");
}
