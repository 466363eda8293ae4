//! Services to packet rules on this node.

use anyhow::Result;
use apiserver::ApiServer;
use proxy::Config;

use super::identity;
use crate::config::Server;
use crate::supervise::Supervisor;

pub fn start(api: &ApiServer, config: &Server, supervisor: &mut Supervisor) -> Result<()> {
    let settings = Config {
        node_name: config.node_name.clone(),
        cluster_cidrs: vec![config.cluster_cidr.kernel()],
        service_cidrs: vec![config.service_cidr.kernel()],
    };
    let api = api.clone();
    supervisor.run("proxy", move |ready, shutdown| {
        let client = identity::client(&api, identity::proxy(), "kube-proxy");
        proxy::run(settings.clone(), client, ready, shutdown)
    });
    Ok(())
}
