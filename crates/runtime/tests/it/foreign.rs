//! The same pods by another OCI runtime, and over the CRI socket: what holds for ours must hold there.

use std::sync::Arc;

use runtime::cri::{self, Remote, RuntimeService, v1};
use tokio_util::sync::CancellationToken;

use crate::world::{World, oci_runtimes, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_class_runs_by_runc() {
    let Some(world) = World::new().await else { return };
    if oci_runtimes().is_empty() {
        eprintln!("skipped: needs runc");
        return;
    }
    let config = world.sandbox_config("runc");
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "runc".into() };
    let id = world.runtime.run_pod_sandbox(request).await.unwrap().pod_sandbox_id;
    let sandbox = (id, config);
    let mut config = shell("main", "echo out; grep Seccomp: /proc/self/status; sleep 1000");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.seccomp = Some(v1::SecurityProfile::default());
    let main = world.run(&sandbox, config).await;
    let out = world.sh(&main, "hostname; grep CapEff /proc/self/status").await;
    assert_eq!(out, "runc\nCapEff:\t00000000a80425fb\n");
    let failed = world.exec(&main, &["unshare", "-U", "true"]).await;
    assert_ne!(failed.exit_code, 0);
    while !world.log(&main).await.contains("F Seccomp:\t2") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let ends = world.run(&sandbox, shell("ends", "exit 6")).await;
    assert_eq!(world.ended(&ends).await.exit_code, 6);
    let missing = v1::ContainerConfig { command: vec!["nothing".into()], ..shell("none", "") };
    let missing = world.create(&sandbox, missing).await.unwrap();
    let error = world.start(&missing).await.unwrap_err();
    assert!(error.message.contains("exec: \"nothing\": executable file not found in $PATH"), "{error}");
    let tty = v1::ContainerConfig { tty: true, ..shell("tty", "tty; exit 3") };
    let tty = world.run(&sandbox, tty).await;
    assert_eq!(world.ended(&tty).await.exit_code, 3);
    assert!(world.log(&tty).await.contains("/dev/pts/0"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_is_served_on_a_socket() {
    let Some(world) = World::new().await else { return };
    let socket = world.dir.path().join("cri.sock");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn({
        let (socket, shutdown, runtime) = (socket.clone(), shutdown.clone(), Arc::new(world.runtime.clone()));
        async move { cri::serve(&socket, runtime.clone(), runtime, shutdown).await }
    });
    let remote = loop {
        match Remote::connect(&socket.to_string_lossy()).await {
            Ok(remote) => break remote,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let config = Some(world.sandbox_config("remote"));
    let request = v1::RunPodSandboxRequest { config, runtime_handler: String::new() };
    let id = remote.run_pod_sandbox(request).await.unwrap().pod_sandbox_id;
    let listed = remote.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|item| &item.id).collect::<Vec<_>>(), [&id]);
    let status = remote.status(v1::StatusRequest { verbose: false }).await.unwrap();
    assert!(status.status.unwrap().conditions.iter().all(|condition| condition.status));
    let config = Some(world.sandbox_config("x"));
    let request = v1::RunPodSandboxRequest { config, runtime_handler: "none".into() };
    assert!(remote.run_pod_sandbox(request).await.unwrap_err().message.contains("no runtime for \"none\""));
    shutdown.cancel();
    server.await.unwrap().unwrap();
    world.close().await;
}
