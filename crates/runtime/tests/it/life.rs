//! The life of pods and containers.

use runtime::cri::{Code, RuntimeService, v1};

use crate::world::{World, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_and_is_stopped() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("first").await;
    let id = world.run(&sandbox, shell("main", "echo out; echo err >&2; hostname; exec sleep 1000")).await;
    assert_eq!(world.status(&id).await.state(), v1::ContainerState::ContainerRunning);

    assert_eq!(world.sh(&id, "hostname; cat /etc/resolv.conf").await, "first\nnameserver 10.0.0.10\n");
    let failed = world.exec(&id, &["sh", "-c", "echo no >&2; exit 3"]).await;
    assert_eq!((failed.exit_code, failed.stderr.as_slice()), (3, b"no\n".as_slice()));

    let stop = v1::StopContainerRequest { container_id: id.clone(), timeout: 0 };
    world.runtime.stop_container(stop).await.unwrap();
    let status = world.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    let log = world.log(&id).await;
    let texts: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert!(texts.contains(&"stdout F out") && texts.contains(&"stderr F err"), "{log}");
    assert!(log.starts_with("20") && log.as_bytes()[10] == b'T', "{log}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_reasons() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("codes").await;
    let ok = world.run(&sandbox, shell("ok", "exit 0")).await;
    let bad = world.run(&sandbox, shell("bad", "exit 7")).await;
    let status = world.ended(&ok).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert!(status.finished_at >= status.started_at && status.started_at > 0);
    let status = world.ended(&bad).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));

    let missing =
        world.create(&sandbox, v1::ContainerConfig { command: vec!["nothing".into()], ..shell("none", "") });
    let missing = missing.await.unwrap();
    let error = world.start(&missing).await.unwrap_err();
    assert!(error.message.contains("exec: \"nothing\": executable file not found in $PATH"), "{error}");
    let status = world.status(&missing).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_period_is_given() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("grace").await;
    let line = "trap 'echo bye; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    let id = world.run(&sandbox, shell("polite", line)).await;
    while !world.log(&id).await.contains("ready") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let stop = v1::StopContainerRequest { container_id: id.clone(), timeout: 30 };
    world.runtime.stop_container(stop).await.unwrap();
    assert_eq!(world.status(&id).await.exit_code, 5);
    assert!(world.log(&id).await.contains("stdout F bye"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_found_again() {
    let Some(mut world) = World::new().await else { return };
    let sandbox = world.sandbox("adopted").await;
    let stays = world
        .run(
            &sandbox,
            shell("stays", "echo one; while ! test -e /go; do sleep 0.02; done; echo two; sleep 1000"),
        )
        .await;
    let ends = world.run(&sandbox, shell("ends", "while ! test -e /go; do sleep 0.02; done; exit 9")).await;
    let created = world.create(&sandbox, shell("created", "exit 4")).await.unwrap();

    // The agent is gone without a word; meanwhile one container writes on and one ends.
    let rootfs = world.dir.path().join("run/containers");
    let old = world.runtime.clone();
    drop(old);
    let placeholder =
        runtime::Runtime::open(crate::world::config(&world.dir.path().join("elsewhere"))).await.unwrap();
    drop(std::mem::replace(&mut world.runtime, placeholder));
    for id in [&stays, &ends] {
        std::fs::write(rootfs.join(id).join("rootfs/go"), "").unwrap();
    }
    let exit_file = world.dir.path().join("run/sandboxes").join(&sandbox.0).join(format!("{ends}.exit"));
    while !exit_file.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.reopen().await;
    let status = world.status(&ends).await;
    assert_eq!((status.state(), status.exit_code), (v1::ContainerState::ContainerExited, 9));
    assert_eq!(world.status(&stays).await.state(), v1::ContainerState::ContainerRunning);
    assert_eq!(world.sh(&stays, "echo still").await, "still\n");
    while !world.log(&stays).await.contains("two") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.start(&created).await.unwrap();
    assert_eq!(world.ended(&created).await.exit_code, 4);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_a_timeout_and_errors() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("execs").await;
    let id = world.run(&sandbox, shell("main", "sleep 1000")).await;
    let error = world.try_exec(&id, &["sleep", "100"], 1).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    let error = world.try_exec(&id, &["nothing"], 5).await.unwrap_err();
    assert!(error.message.contains("executable file not found in $PATH"), "{error}");
    let many = world.exec(&id, &["sh", "-c", "yes | head -c 1000000"]).await;
    assert_eq!(many.stdout.len(), 1_000_000);
    let error = world.try_exec("nobody", &["true"], 5).await.unwrap_err();
    assert!(error.is_not_found());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_is_a_dead_sandbox() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("doomed").await;
    let id = world.run(&sandbox, shell("main", "sleep 1000")).await;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.0.clone(), verbose: true };
    let info = world.runtime.pod_sandbox_status(request.clone()).await.unwrap().info;
    let state: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    let shim = rustix::process::Pid::from_raw(state["shim"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let status = world.ended(&id).await;
    assert_eq!(status.exit_code, 255);
    let status = world.runtime.pod_sandbox_status(request).await.unwrap().status.unwrap();
    assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_runtime_leaves_no_mount() {
    let Some(world) = World::new().await else { return };
    let dir = tempfile::tempdir().unwrap();
    drop(runtime::Runtime::open(crate::world::config(dir.path())).await.unwrap());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*dir.path().to_string_lossy()), "{mounts}");
    world.close().await;
}
