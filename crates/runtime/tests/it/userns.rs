//! Pods with a user namespace of their own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use runtime::cri::v1::{self, NamespaceMode};

use crate::world::{World, own_namespaces, shell};

const BASE: u32 = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_is_nobody_outside() {
    let Some(world) = World::new().await else { return };
    // Every directory above the roots must let the namespace's users through.
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let map = v1::IdMapping { container_id: 0, host_id: BASE, length: 65536 };
    let userns = v1::UserNamespace { mode: NamespaceMode::Pod as i32, uids: vec![map], gids: vec![map] };
    let options = v1::NamespaceOption { userns_options: Some(userns), ..own_namespaces() };
    let mut config = world.sandbox_config("userns");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(options.clone());
    let sandbox = (world.run_sandbox(config.clone()).await, config);
    let mut config = shell(
        "main",
        "id -u; cat /proc/self/uid_map; touch /made; ls -ln /bin/busybox; hostname; sleep 1000",
    );
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(options);
    security.seccomp = Some(v1::SecurityProfile::default());
    let id = world.run(&sandbox, config).await;
    while !world.log(&id).await.contains("F userns") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let log = world.log(&id).await;
    assert!(log.contains("F 0\n") && log.contains(&BASE.to_string()), "{log}");
    let binary = log.lines().find(|line| line.ends_with("/bin/busybox")).unwrap();
    assert_eq!(binary.split_whitespace().skip(5).take(2).collect::<Vec<_>>(), ["0", "0"], "{log}");
    let made = world.dir.path().join("root/containers").join(&id).join("upper/made");
    assert_eq!(made.metadata().unwrap().uid(), BASE);

    // A command put into it is in the same namespace.
    assert_eq!(world.sh(&id, "id -u").await, "0\n");
    assert!(world.sh(&id, "cat /proc/self/uid_map").await.contains(&BASE.to_string()));
    let inside = world.sh(&id, "readlink /proc/self/ns/user").await;
    assert_eq!(inside, world.sh(&id, "readlink /proc/1/ns/user").await);
    assert_ne!(inside.trim(), std::fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy());
    world.close().await;
}
