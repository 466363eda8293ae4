use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeSpec, NodeStatus, Taint};

use super::decide::{condition, taints, time_left, unknown};
use crate::common::test::{at, meta};

fn node(ready: Option<&str>) -> Node {
    let conditions = ready.map(|status| {
        vec![NodeCondition { type_: "Ready".into(), status: status.into(), ..Default::default() }]
    });
    Node {
        metadata: meta("n"),
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus { conditions, ..Default::default() }),
    }
}

fn shown(taints: &[Taint]) -> Vec<String> {
    taints.iter().map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect)).collect()
}

#[test]
fn silence_has_its_time() {
    let second = Duration::from_secs;
    assert_eq!(time_left(&node(Some("True")), second(20), second(50)), Some(second(30)));
    assert_eq!(time_left(&node(Some("True")), second(50), second(50)), None);
    assert_eq!(time_left(&node(None), second(50), second(50)), Some(second(10)));
}

#[test]
fn unknown_is_said_once() {
    let mut silent = node(Some("True"));
    let conditions = unknown(&silent, at(5)).unwrap();
    silent.status.as_mut().unwrap().conditions = Some(conditions);
    assert_eq!(unknown(&silent, at(6)), None);
    assert_eq!(condition(&silent, "Ready").unwrap().reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(condition(&silent, "DiskPressure").unwrap().reason.as_deref(), Some("NodeStatusNeverUpdated"));
}

#[test]
fn taints_follow_conditions_and_leave_others_alone() {
    let mut node = node(Some("Unknown"));
    let foreign = Taint { key: "mine".into(), effect: "NoExecute".into(), ..Default::default() };
    node.spec.as_mut().unwrap().taints = Some(vec![foreign]);
    let new = taints(&node, true, at(1)).unwrap();
    assert_eq!(shown(&new), ["mine:NoExecute", "unreachable:NoSchedule", "unreachable:NoExecute"]);
    node.spec.as_mut().unwrap().taints = Some(new);
    assert_eq!(taints(&node, true, at(2)), None);
    node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".into();
    let new = taints(&node, true, at(3)).unwrap();
    assert_eq!(shown(&new), ["mine:NoExecute", "not-ready:NoSchedule", "not-ready:NoExecute"]);
    node.spec.as_mut().unwrap().taints = Some(new);
    node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into();
    node.spec.as_mut().unwrap().unschedulable = Some(true);
    assert_eq!(shown(&taints(&node, true, at(4)).unwrap()), ["mine:NoExecute", "unschedulable:NoSchedule"]);
}

#[test]
fn nothing_is_driven_away_while_no_node_is_ready() {
    assert_eq!(shown(&taints(&node(Some("Unknown")), false, at(1)).unwrap()), ["unreachable:NoSchedule"]);
}
