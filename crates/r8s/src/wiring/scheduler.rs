//! The scheduler.

use std::convert::Infallible;

use apiserver::ApiServer;
use scheduler::Config;

use super::identity;
use crate::config::Server;
use crate::supervise::Supervisor;

pub fn start(api: &ApiServer, config: &Server, supervisor: &mut Supervisor) {
    let api = api.clone();
    let settings = Config { host: config.node_name.clone(), ..Config::default() };
    supervisor.run("scheduler", move |ready, shutdown| {
        let client = identity::client(&api, identity::scheduler(), "kube-scheduler");
        let settings = settings.clone();
        async move {
            scheduler::run(settings, client, ready, shutdown).await;
            Ok::<(), Infallible>(())
        }
    });
}
