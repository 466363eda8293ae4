//! Resources, mounts and logs.

use runtime::cri::{RuntimeService, v1};

use crate::world::{IMAGE, World, shell};

fn limited(name: &str, line: &str, resources: v1::LinuxContainerResources) -> v1::ContainerConfig {
    let mut config = shell(name, line);
    config.linux.as_mut().unwrap().resources = Some(resources);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited_and_its_want_is_named() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("memory").await;
    let resources = v1::LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        oom_score_adj: 900,
        ..Default::default()
    };
    let id = world
        .run(
            &sandbox,
            limited(
                "hungry",
                "cat /proc/self/oom_score_adj; awk 'BEGIN { s = \"x\"; while (1) s = s s }'; exit 1",
                resources.clone(),
            ),
        )
        .await;
    let status = world.ended(&id).await;
    // The shell or its child: the kernel chooses. When it is the child, the shell ends with 1.
    assert!(status.exit_code == 137 && status.reason == "OOMKilled" || status.exit_code == 1, "{status:?}");
    assert!(world.log(&id).await.contains("F 900"));
    let direct = v1::ContainerConfig {
        command: vec!["awk".into(), "BEGIN { s = \"x\"; while (1) s = s s }".into()],
        ..limited("direct", "", resources.clone())
    };
    let id = world.run(&sandbox, direct).await;
    let status = world.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));

    let id = world.run(&sandbox, limited("steady", "sleep 1000", resources)).await;
    // The container sees its own limit, read-only (security.rs).
    let seen = world
        .sh(&id, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null")
        .await;
    assert_eq!(seen, format!("{}\n", 16 << 20));
    let update = v1::LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        cpu_quota: 20_000,
        ..Default::default()
    };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(update),
        ..Default::default()
    };
    world.runtime.update_container_resources(request).await.unwrap();
    let now = world.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((now.memory_limit_in_bytes, now.cpu_quota, now.cpu_shares), (32 << 20, 20_000, 512));
    let usage = kernel::cgroup::Hierarchy::detect().unwrap().cgroup(format!("{}/{id}", world.cgroup)).usage();
    assert_eq!(usage.memory_limit, Some(32 << 20));
    let stats = world
        .runtime
        .container_stats(v1::ContainerStatsRequest { container_id: id.clone() })
        .await
        .unwrap()
        .stats
        .unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: sandbox.0.clone() };
    let stats = world.runtime.pod_sandbox_stats(request).await.unwrap().stats.unwrap().linux.unwrap();
    assert_eq!(stats.containers.len(), 1);
    assert_eq!(stats.network.unwrap().default_interface, None);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_as_asked() {
    let Some(world) = World::new().await else { return };
    let host = world.dir.path().join("host");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(host.join("file"), "from the host").unwrap();
    let mount = |at: &str, source: &std::path::Path| v1::Mount {
        container_path: at.into(),
        host_path: source.to_string_lossy().into_owned(),
        ..Default::default()
    };
    let image = v1::ImageSpec { image: IMAGE.into(), ..Default::default() };
    let config = v1::ContainerConfig {
        mounts: vec![
            v1::Mount { readonly: true, ..mount("/ro", &host) },
            mount("/rw", &host),
            mount("/etc/one", &host.join("file")),
            v1::Mount { readonly: true, recursive_read_only: true, ..mount("/rro", &host) },
            v1::Mount {
                propagation: v1::MountPropagation::PropagationHostToContainer as i32,
                ..mount("/slave", &host)
            },
            mount("/made", &world.dir.path().join("not/there/yet")),
            v1::Mount { container_path: "/image".into(), image: Some(image.clone()), ..Default::default() },
            v1::Mount {
                container_path: "/part".into(),
                image: Some(image),
                image_sub_path: "etc".into(),
                ..Default::default()
            },
        ],
        ..shell("main", "sleep 1000")
    };
    let sandbox = world.sandbox("mounts").await;
    let id = world.run(&sandbox, config).await;
    assert!(world.sh(&id, "cat /ro/file; touch /ro/x").await.contains("Read-only"));
    assert!(world.sh(&id, "touch /rro/x").await.contains("Read-only"));
    assert_eq!(world.sh(&id, "echo in > /rw/in; cat /etc/one").await, "from the host");
    assert_eq!(std::fs::read_to_string(host.join("in")).unwrap(), "in\n");
    assert_eq!(
        world.sh(&id, "ls /image/bin/busybox; ls /part; ls -d /made; touch /image/x 2>&1 | wc -l").await,
        "/image/bin/busybox\ngroup\npasswd\n/made\n1\n"
    );
    assert_eq!(
        world
            .sh(&id, "cat /etc/hostname; grep -c localhost /etc/hosts; ls /sys/fs; echo; tty </dev/null")
            .await
            .lines()
            .next(),
        Some("mounts")
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_split_and_rotated() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("logs").await;
    let line = "head -c 40000 /dev/zero | busybox tr '\\0' x; echo; while ! test -e /go; do sleep 0.02; done; printf last";
    let id = world.run(&sandbox, shell("main", line)).await;
    let path = world.status(&id).await.log_path;
    let wait_for = async |path: &str, text: &str| {
        while !std::fs::read_to_string(path).unwrap_or_default().contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        std::fs::read_to_string(path).unwrap()
    };
    let log = wait_for(&path, "stdout F ").await;
    let lengths: Vec<(&str, usize)> =
        log.lines().map(|l| (l.split(' ').nth(2).unwrap(), l.splitn(4, ' ').nth(3).unwrap().len())).collect();
    assert_eq!(lengths, [("P", 16384), ("P", 16384), ("F", 7232)]);
    let old = format!("{path}.1");
    std::fs::rename(&path, &old).unwrap();
    world
        .runtime
        .reopen_container_log(v1::ReopenContainerLogRequest { container_id: id.clone() })
        .await
        .unwrap();
    world.exec(&id, &["touch", "/go"]).await;
    world.ended(&id).await;
    assert_eq!(std::fs::read_to_string(&old).unwrap(), log);
    assert!(world.log(&id).await.ends_with("stdout P last\n"));
    world.close().await;
}
