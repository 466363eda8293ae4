//! What a container can't do, and who it is.

use runtime::cri::v1::{self, NamespaceMode};

use crate::world::{World, own_namespaces, shell};

fn secured(
    name: &str,
    line: &str,
    change: impl FnOnce(&mut v1::LinuxContainerSecurityContext),
) -> v1::ContainerConfig {
    let mut config = shell(name, line);
    change(config.linux.as_mut().unwrap().security_context.as_mut().unwrap());
    config
}

fn profile(kind: v1::security_profile::ProfileType, path: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind as i32, localhost_ref: path.to_owned() })
}

const STATUS: &str = "grep -E '^(CapBnd|CapEff|CapPrm|Seccomp|NoNewPrivs):' /proc/self/status";

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
        .unwrap_or_else(|| panic!("{name} in {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_seccomp_profile_holds() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("seccomp").await;
    let default = profile(v1::security_profile::ProfileType::RuntimeDefault, "");
    let line = "sleep 1000";
    let root = world.run(&sandbox, secured("root", line, |s| s.seccomp = default.clone())).await;
    let user = secured("user", line, |s| {
        s.seccomp = default.clone();
        s.run_as_user = Some(v1::Int64Value { value: 1000 });
    });
    let user = world.run(&sandbox, user).await;
    let nnp = secured("nnp", line, |s| {
        s.seccomp = default.clone();
        s.no_new_privs = true;
    });
    let nnp = world.run(&sandbox, nnp).await;
    let free = world.run(&sandbox, shell("free", line)).await;

    // The default capabilities, with and without the detour that loading the filter takes.
    let status = world.sh(&root, STATUS).await;
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(field(&status, set), "00000000a80425fb", "{set}");
    }
    let init = world.sh(&root, "cat /proc/1/status").await;
    assert_eq!((field(&init, "CapEff"), field(&init, "CapBnd")), ("00000000a80425fb", "00000000a80425fb"));
    assert_eq!((field(&init, "Seccomp"), field(&init, "NoNewPrivs")), ("2", "0"));
    let status = world.sh(&user, STATUS).await;
    assert_eq!(
        (field(&status, "CapEff"), field(&status, "CapBnd")),
        ("0000000000000000", "00000000a80425fb")
    );
    assert_eq!(field(&status, "Seccomp"), "2");
    let status = world.sh(&nnp, STATUS).await;
    assert_eq!(
        (field(&status, "NoNewPrivs"), field(&status, "Seccomp"), field(&status, "CapEff")),
        ("1", "2", "00000000a80425fb")
    );
    let status = world.sh(&free, STATUS).await;
    assert_eq!((field(&status, "Seccomp"), field(&status, "CapEff")), ("0", "00000000a80425fb"));

    for id in [&root, &nnp] {
        let refused = world.exec(id, &["unshare", "-U", "true"]).await;
        assert_ne!(refused.exit_code, 0);
        let refused = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.contains("Operation not permitted"), "{refused}");
    }
    assert_eq!(world.exec(&free, &["unshare", "-U", "true"]).await.exit_code, 0);

    let path = world.dir.path().join("profile.json");
    std::fs::write(&path, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#).unwrap();
    let own = profile(v1::security_profile::ProfileType::Localhost, &path.to_string_lossy());
    let own = world.run(&sandbox, secured("own", line, |s| s.seccomp = own)).await;
    assert!(world.sh(&own, "busybox mkdir /x").await.contains("not supported"));
    let missing = profile(v1::security_profile::ProfileType::Localhost, "/nowhere.json");
    assert!(world.create(&sandbox, secured("missing", line, |s| s.seccomp = missing)).await.is_err());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_cgroups_are_out_of_reach() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("devices").await;
    let id = world.run(&sandbox, shell("main", "sleep 1000")).await;
    // A node of the host's disks can be made, as with every runtime, but not opened.
    let disk = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = disk.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let (major, minor) = root.split(' ').nth(2).unwrap().split_once(':').unwrap();
    let line = format!("mknod /disk b {major} {minor} && head -c 1 /disk");
    let out = world.sh(&id, &line).await;
    assert!(out.contains("Operation not permitted"), "{out}");
    assert_eq!(
        world.exec(&id, &["sh", "-c", "head -c 4 /dev/urandom | wc -c; : > /dev/null"]).await.exit_code,
        0
    );
    // The container's own limits are not its to change.
    let out = world.sh(&id, "find /sys/fs/cgroup -name 'pids.max' -o -name memory.limit_in_bytes -o -name memory.max | while read f; do echo 999 > $f && echo WRITTEN $f; done").await;
    assert!(!out.contains("WRITTEN"), "{out}");
    assert!(!world.sh(&id, "grep ' cgroup' /proc/self/mounts").await.contains(" rw,"));
    let out = world.sh(&id, "mount -t tmpfs x /tmp || echo 1 > /proc/sys/kernel/panic").await;
    assert!(!out.is_empty());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_groups_are_as_asked() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("users").await;
    let user = |name: &str, change: fn(&mut v1::LinuxContainerSecurityContext)| {
        secured(name, "id; echo $HOME; echo out > /dev/stdout; touch /no", change)
    };
    let app = world.run(&sandbox, user("app", |s| s.run_as_username = "app".into())).await;
    let numbers = user("numbers", |s| {
        s.run_as_user = Some(v1::Int64Value { value: 1000 });
        s.run_as_group = Some(v1::Int64Value { value: 77 });
        s.supplemental_groups = vec![88];
        s.supplemental_groups_policy = v1::SupplementalGroupsPolicy::Strict as i32;
    });
    let numbers = world.run(&sandbox, numbers).await;
    let status = world.ended(&app).await;
    let log = world.log(&app).await;
    assert!(log.contains("uid=1000(app) gid=1000(app) groups=") && log.contains("50(extra)"), "{log}");
    assert!(
        log.contains("F /home/app") && log.contains("F out") && log.contains("Permission denied"),
        "{log}"
    );
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups.as_slice()),
        (1000, 1000, [1000, 50].as_slice())
    );
    world.ended(&numbers).await;
    let log = world.log(&numbers).await;
    assert!(log.contains("uid=1000(app) gid=77 groups=77,88"), "{log}");
    let nobody = world.create(&sandbox, secured("nobody", "", |s| s.run_as_username = "nobody".into())).await;
    assert!(nobody.unwrap_err().message.contains("no users found"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_masked_and_privileged() {
    let Some(world) = World::new().await else { return };
    let sandbox = world.sandbox("modes").await;
    let closed = secured("closed", "sleep 1000", |s| {
        s.readonly_rootfs = true;
        s.masked_paths = vec!["/proc/meminfo".into(), "/proc/scsi".into(), "/sys/firmware".into()];
        s.readonly_paths = vec!["/proc/sys".into(), "/proc/bus".into()];
    });
    let closed = world.run(&sandbox, closed).await;
    assert!(world.sh(&closed, "touch /x").await.contains("Read-only file system"));
    assert!(world.sh(&closed, "echo 1 > /proc/sys/vm/drop_caches").await.contains("Read-only"));
    assert_eq!(world.sh(&closed, "head -c 1 /proc/meminfo | wc -c").await, "0\n");
    let open = world.run(&sandbox, secured("open", "sleep 1000", |s| s.privileged = true)).await;
    let status = world.sh(&open, STATUS).await;
    assert_eq!(field(&status, "Seccomp"), "0");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&status, "CapEff"), field(&own, "CapEff"));
    assert_eq!(world.exec(&open, &["sh", "-c", "mount -t tmpfs x /tmp && ls /dev/kmsg"]).await.exit_code, 0);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_shared_as_asked() {
    let Some(world) = World::new().await else { return };
    // One pid namespace for the pod, with the pause process as its first.
    let mut config = world.sandbox_config("shared");
    let options = v1::NamespaceOption { pid: NamespaceMode::Pod as i32, ..own_namespaces() };
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(options.clone());
    let sandbox = (world.run_sandbox(config.clone()).await, config);
    let pod = |name: &str| {
        secured(name, "sleep 1000 & echo x > /dev/shm/seen; sleep 1000", |s| {
            s.namespace_options = Some(options.clone())
        })
    };
    let a = world.run(&sandbox, pod("a")).await;
    let b = world.run(&sandbox, pod("b")).await;
    let out = world.sh(&b, "cat /proc/1/comm; ps").await;
    assert!(out.starts_with("pause\n") && out.matches("sleep 1000").count() >= 4, "{out}");
    assert_eq!(world.sh(&b, "cat /dev/shm/seen").await, "x\n");
    let stop = v1::StopContainerRequest { container_id: a.clone(), timeout: 0 };
    runtime::cri::RuntimeService::stop_container(&world.runtime, stop).await.unwrap();
    // Its background process has ended with it, the other container has not.
    for _ in 0..500 {
        if world.sh(&b, "ps").await.matches("sleep 1000").count() <= 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(world.status(&b).await.state(), v1::ContainerState::ContainerRunning);

    let mut config = world.sandbox_config("host");
    let node = NamespaceMode::Node as i32;
    let options = v1::NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() };
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(options.clone());
    let sandbox = (world.run_sandbox(config.clone()).await, config);
    let host =
        world.run(&sandbox, secured("host", "sleep 1000", |s| s.namespace_options = Some(options))).await;
    for kind in ["net", "pid", "ipc", "uts"] {
        let inside = world.sh(&host, &format!("readlink /proc/self/ns/{kind}")).await;
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(inside.trim(), outside.to_string_lossy(), "{kind}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_the_host_can_not_be_changed() {
    let Some(world) = World::new().await else { return };
    for name in std::fs::read_dir(world.dir.path().join("run")).unwrap().flatten() {
        let path = name.path();
        if path.is_file() {
            let refused = std::fs::File::options().write(true).open(&path).unwrap_err();
            let expected = [std::io::ErrorKind::ReadOnlyFilesystem, std::io::ErrorKind::ExecutableFileBusy];
            assert!(expected.contains(&refused.kind()), "{}: {refused}", path.display());
        }
    }
    world.close().await;
}
