use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::json;

use super::decide::{FINALIZER, Plan, Prefix, SAYS_READY, decide};
use crate::common::test::at;

fn cidr(name: &str, cidrs: &[&str], deleted: bool) -> Arc<ServiceCIDR> {
    let mut object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
        object["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    Arc::new(serde_json::from_value(object).unwrap())
}

fn check(all: &[Arc<ServiceCIDR>], addresses: &[&str], second: i64, wanted: Plan) {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap());
    assert_eq!(decide(&all[0], all, addresses, at(second)), wanted);
}

#[test]
fn what_lives_is_held_and_ready() {
    check(&[cidr("a", &["10.0.0.0/24"], false)], &[], 0, Plan::Keep { finalizer: true, condition: true });
    let mut settled = (*cidr("a", &["10.0.0.0/24"], false)).clone();
    settled.metadata.finalizers = Some(vec![FINALIZER.into()]);
    let [status, reason, message] = SAYS_READY;
    let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": at(0).to_string()});
    settled.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
    check(&[Arc::new(settled)], &[], 0, Plan::Keep { finalizer: false, condition: false });
}

#[test]
fn what_goes_waits_for_its_addresses() {
    let going = cidr("a", &["10.0.0.0/24"], true);
    check(&[going.clone()], &["10.0.0.7"], 60, Plan::Blocked { condition: true });
    check(&[going.clone()], &["10.0.1.7", "10.0.0.0", "10.0.0.255"], 60, Plan::Release);
    check(&[going.clone()], &[], 4, Plan::Wait(Duration::from_secs(6)));
    // Within a larger one nothing is lost, and in a smaller one what that holds.
    let larger = cidr("b", &["10.0.0.0/16"], false);
    check(&[going.clone(), larger], &["10.0.0.7"], 60, Plan::Release);
    let smaller = cidr("b", &["10.0.0.0/28"], false);
    check(&[going.clone(), smaller.clone()], &["10.0.0.7"], 60, Plan::Release);
    check(&[going.clone(), smaller], &["10.0.0.7", "10.0.0.17"], 60, Plan::Blocked { condition: true });
    let two = cidr("a", &["10.0.0.0/24", "fd00::/112"], true);
    let one = cidr("b", &["10.0.0.0/24"], false);
    check(&[two, one], &["fd00::1"], 60, Plan::Blocked { condition: true });
}

#[test]
fn ranges() {
    let prefix = |text: &str| Prefix::parse(text).unwrap();
    let serves = |range: &str, ip: &str| prefix(range).serves(ip.parse().unwrap());
    assert!(serves("fd00::/112", "fd00::ffff") && !serves("fd00::/112", "fd00::"));
    assert!(serves("0.0.0.0/0", "1.2.3.4") && serves("::/0", "1::1") && !serves("::/0", "1.2.3.4"));
    assert!(!serves("10.0.0.1/32", "10.0.0.1"));
    assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.1.0.0/16")));
    assert!(!prefix("10.0.0.0/16").overlaps(&prefix("10.1.0.0/16")));
    assert!([Prefix::parse("10.0.0.0/33"), Prefix::parse("x/1"), Prefix::parse("10.0.0.0")] == [None; 3]);
}
