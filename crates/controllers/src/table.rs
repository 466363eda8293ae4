//! Every controller there is.

use futures_util::future::BoxFuture;

use crate::common::Context;

/// One row: names as upstream's `kube-controller-manager --controllers`.
pub struct Controller {
    pub name: &'static str,
    /// Its account in `kube-system`, when each controller has credentials of its own.
    pub service_account: &'static str,
    /// The component its Events come from.
    pub component: &'static str,
    pub on_by_default: bool,
    pub(crate) start: fn(Context) -> BoxFuture<'static, ()>,
}

/// In the order they are started.
pub const TABLE: &[Controller] = &[
    crate::nodeipam::CONTROLLER,
    crate::serviceaccount::CONTROLLER,
    crate::rootca::CONTROLLER,
    crate::replicaset::CONTROLLER,
    crate::replicaset::REPLICATION_CONTROLLER,
    crate::deployment::CONTROLLER,
    crate::statefulset::CONTROLLER,
    crate::daemonset::CONTROLLER,
    crate::endpointslice::CONTROLLER,
    crate::endpointslicemirroring::CONTROLLER,
    crate::endpoints::CONTROLLER,
    crate::servicecidrs::CONTROLLER,
    crate::clusterrole::CONTROLLER,
    crate::garbage::CONTROLLER,
    crate::namespace::CONTROLLER,
    crate::nodelifecycle::CONTROLLER,
    crate::tainteviction::CONTROLLER,
    crate::podgc::CONTROLLER,
    crate::job::CONTROLLER,
    crate::cronjob::CONTROLLER,
    crate::ttlafterfinished::CONTROLLER,
    crate::quota::CONTROLLER,
    crate::disruption::CONTROLLER,
    crate::volumes::BINDER,
    crate::volumes::CLAIM_PROTECTION,
    crate::volumes::VOLUME_PROTECTION,
    crate::policystatus::CONTROLLER,
    crate::volumes::CLASS_PROTECTION,
    crate::certificates::SIGNING,
];
