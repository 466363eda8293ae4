//! The table of all strategies, one constant per kind's file.

use crate::Strategy;

pub(crate) static STRATEGIES: &[&Strategy] = &[
    &crate::apps::controllerrevision::STRATEGY,
    &crate::apps::daemonset::STRATEGY,
    &crate::apps::deployment::STRATEGY,
    &crate::apps::replicaset::STRATEGY,
    &crate::apps::statefulset::STRATEGY,
    &crate::coordination::lease::STRATEGY,
    &crate::coordination::leasecandidate::STRATEGY,
    &crate::core::binding::STRATEGY,
    &crate::core::configmap::STRATEGY,
    &crate::core::endpoints::STRATEGY,
    &crate::core::event::CORE,
    &crate::core::event::EVENTS,
    &crate::core::namespace::STRATEGY,
    &crate::core::node::STRATEGY,
    &crate::core::pod::STRATEGY,
    &crate::core::podtemplate::STRATEGY,
    &crate::core::replicationcontroller::STRATEGY,
    &crate::core::secret::STRATEGY,
    &crate::core::service::STRATEGY,
    &crate::core::serviceaccount::STRATEGY,
    &crate::discovery::endpointslice::STRATEGY,
    &crate::rbac::clusterrole::STRATEGY,
    &crate::rbac::clusterrolebinding::STRATEGY,
    &crate::rbac::role::STRATEGY,
    &crate::rbac::rolebinding::STRATEGY,
];
