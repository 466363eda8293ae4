//! The store with other processes: real etcd clusters, etcdctl, crashing children. Skipped with a word where the
//! programs are not there.

mod cluster;
mod crashes;
mod etcd;
mod etcdctl;
mod face;
mod migrate;
mod partition;
mod same_answers;
