use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::claim::{self, View, Write};
use super::{protection, volume};

fn claim(spec: Value) -> PersistentVolumeClaim {
    let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let meta = json!({"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "7"});
    serde_json::from_value(json!({"metadata": meta, "spec": whole, "status": {"phase": "Pending"}})).unwrap()
}

fn free(name: &str, size: &str, modes: &[&str], class: &str) -> Arc<PersistentVolume> {
    let spec = json!({"capacity": {"storage": size}, "accessModes": modes, "storageClassName": class});
    let object = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}});
    Arc::new(serde_json::from_value(object).unwrap())
}

#[test]
fn the_smallest_that_fits() {
    let volumes = [
        free("small", "1Gi", &["ReadWriteOnce"], ""),
        free("large", "10Gi", &["ReadWriteOnce"], ""),
        free("right", "3Gi", &["ReadWriteOnce"], ""),
        free("spare", "2Gi", &["ReadWriteOnce", "ReadOnlyMany"], ""),
        free("class", "2Gi", &["ReadWriteOnce"], "fast"),
    ];
    let best = |claim: &PersistentVolumeClaim, delayed| {
        claim::best(claim, &volumes, delayed).and_then(|v| v.metadata.name.clone())
    };
    assert_eq!(best(&claim(json!({})), false).as_deref(), Some("right"));
    assert_eq!(best(&claim(json!({})), true), None);
    assert_eq!(best(&claim(json!({"storageClassName": "fast"})), false).as_deref(), Some("class"));
    assert_eq!(best(&claim(json!({"accessModes": ["ReadOnlyMany"]})), false).as_deref(), Some("spare"));
    assert_eq!(best(&claim(json!({"volumeMode": "Block"})), false), None);
    assert_eq!(best(&claim(json!({"selector": {"matchLabels": {"a": "b"}}})), false), None);
}

/// Follows the decisions until nothing is left to do; the kinds of writes on the way.
fn run(
    claim: &mut PersistentVolumeClaim,
    volumes: &mut [Arc<PersistentVolume>],
    classes: &[Value],
) -> Vec<String> {
    let classes: Vec<_> =
        classes.iter().map(|class| Arc::new(serde_json::from_value(class.clone()).unwrap())).collect();
    let mut way = Vec::new();
    for _ in 0..10 {
        let view = View { claim, volumes, classes: &classes, waiting: &[] };
        let plan = claim::decide(&view);
        way.extend(plan.note.map(|note| note.reason.to_owned()));
        let mut put = |new: PersistentVolume| {
            let place = volumes.iter_mut().find(|old| old.metadata.name == new.metadata.name).unwrap();
            *place = Arc::new(new);
        };
        match plan.write.map(|write| *write) {
            None => return way,
            Some(Write::Claim(new)) => (*claim, _) = (new, way.push("claim".into())),
            Some(Write::ClaimStatus(new)) => (*claim, _) = (new, way.push("claim status".into())),
            Some(Write::Volume(new)) => (put(new), way.push("volume".into())).0,
            Some(Write::VolumeStatus(new)) => (put(new), way.push("volume status".into())).0,
        }
    }
    panic!("no end: {way:?}");
}

#[test]
fn binding_goes_step_by_step() {
    let (mut c, mut volumes) = (claim(json!({})), [free("v", "3Gi", &["ReadWriteOnce"], "")]);
    assert_eq!(run(&mut c, &mut volumes, &[]), ["volume", "volume status", "claim", "claim status"]);
    let annotations = c.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations.keys().collect::<Vec<_>>(),
        ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"]
    );
    let status = c.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    assert_eq!(status.capacity.as_ref().unwrap()["storage"].0, "3Gi");
    assert_eq!(volume::decide(&volumes[0], Some(&c)), (None, None));

    // The claim goes: the volume keeps its data and waits for a hand.
    let (write, _) = volume::decide(&volumes[0], None);
    let Some(Write::VolumeStatus(released)) = write else { panic!("{write:?}") };
    assert_eq!(released.status.as_ref().unwrap().phase.as_deref(), Some("Released"));
    assert_eq!(volume::decide(&released, None), (None, None));

    // The volume goes: the claim has lost it.
    assert_eq!(run(&mut c, &mut [], &[]), ["ClaimLost", "claim status"]);
    assert_eq!(run(&mut c, &mut [], &[]), [""; 0]);
}

#[test]
fn claims_without_volume() {
    let fast = json!({"metadata": {"name": "fast"}, "provisioner": "example.org/p"});
    let mut late = fast.clone();
    late["volumeBindingMode"] = json!("WaitForFirstConsumer");
    let mut default = fast.clone();
    default["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let way = |spec: Value, classes: &[Value]| run(&mut claim(spec), &mut [], classes);
    assert_eq!(way(json!({"storageClassName": ""}), &[]), ["FailedBinding"]);
    assert_eq!(way(json!({"storageClassName": "fast"}), &[]), ["ProvisioningFailed"]);
    assert_eq!(way(json!({"storageClassName": "fast"}), &[fast]), ["claim", "ExternalProvisioning"]);
    assert_eq!(way(json!({"storageClassName": "fast"}), &[late]), ["WaitForFirstConsumer"]);
    assert_eq!(way(json!({}), &[default]), ["claim", "claim", "ExternalProvisioning"]);
    assert_eq!(way(json!({"volumeName": "gone"}), &[]), [""; 0]);
}

#[test]
fn volumes_by_name() {
    let mut c = claim(json!({"volumeName": "v"}));
    assert_eq!(
        run(&mut c, &mut [free("v", "1Gi", &["ReadWriteOnce"], "")], &[]),
        ["VolumeMismatch"],
        "too small"
    );
    let mut reserved = (*free("v", "2Gi", &["ReadWriteOnce"], "")).clone();
    let of = json!({"name": "other", "namespace": "ns"});
    reserved.spec.as_mut().unwrap().claim_ref = Some(serde_json::from_value(of).unwrap());
    assert_eq!(run(&mut c, &mut [Arc::new(reserved)], &[]), ["FailedBinding"]);
}

#[test]
fn what_is_in_use_stays() {
    let decide = |meta: Value, used| protection::decide(&serde_json::from_value(meta).unwrap(), "f", || used);
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f", "g"]});
    assert_eq!(decide(json!({}), false), Some(vec!["f".to_owned()]));
    assert_eq!(decide(json!({"finalizers": ["f"]}), false), None);
    assert_eq!(decide(going.clone(), true), None);
    assert_eq!(decide(going, false), Some(vec!["g".to_owned()]));
    let pod = |node: &str| -> Pod {
        let volumes = json!([{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}]);
        let spec = json!({"containers": [], "nodeName": node, "volumes": volumes});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    };
    assert!(protection::uses(&pod("n"), "c") && protection::uses(&pod("n"), "p-e"));
    assert!(!protection::uses(&pod(""), "c") && !protection::uses(&pod("n"), "x"));
}
