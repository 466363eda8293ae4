use k8s_openapi::api::core::v1::NamespaceStatus;

use super::decide::{Remains, conditions, pods_left_seconds};
use crate::common::test::at;

#[test]
fn a_clean_namespace_says_so_once() {
    let remains = Remains::default();
    assert!(remains.is_clean());
    let status = conditions(&NamespaceStatus::default(), &remains, at(1)).unwrap();
    let all = status.conditions.as_ref().unwrap();
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|condition| condition.status == "False"));
    assert_eq!(conditions(&status, &remains, at(2)), None);
}

#[test]
fn what_remains_is_named() {
    let mut remains = Remains::default();
    remains.add("pods", "", &[vec![], vec!["a.b/c".into()]], 30);
    remains.add("deployments", "apps", &[], 0);
    remains.delete_errors.push("no".into());
    assert!(!remains.is_clean());
    assert_eq!(remains.again().as_secs(), 16);
    let status = conditions(&NamespaceStatus::default(), &remains, at(1)).unwrap();
    let text: Vec<String> = status
        .conditions
        .unwrap()
        .into_iter()
        .filter(|c| c.status == "True")
        .map(|c| c.message.unwrap())
        .collect();
    assert_eq!(
        text,
        [
            "Failed to delete all resource types, 1 remaining: no",
            "Some resources are remaining: pods. has 2 resource instances",
            "Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances",
        ]
    );
}

#[test]
fn finalizers_are_given_time() {
    let mut remains = Remains::default();
    remains.add("widgets", "x.y", &[vec!["f".into()]], 0);
    assert_eq!(remains.estimate, 15);
}

#[test]
fn pods_may_take_their_grace_period() {
    assert_eq!(pods_left_seconds(&[30, 5], at(0), at(10)), 30);
    assert_eq!(pods_left_seconds(&[30, 5], at(0), at(31)), 0);
    assert_eq!(pods_left_seconds(&[], at(0), at(31)), 0);
}
