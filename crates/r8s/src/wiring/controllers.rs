//! The controller manager.

use apiserver::ApiServer;
use controllers::Config;

use super::identity;
use crate::config::Server;
use crate::credentials::Credentials;
use crate::supervise::Supervisor;

pub fn start(api: &ApiServer, config: &Server, credentials: &Credentials, supervisor: &mut Supervisor) {
    let settings = Config {
        root_ca: Some(credentials.authority.certificate_pem().to_owned()),
        authority: Some(credentials.authority.clone()),
        cluster_cidrs: vec![config.cluster_cidr.to_string()],
        ..Config::default()
    };
    let api = api.clone();
    supervisor.run("controllers", move |ready, shutdown| {
        let (api, settings) = (api.clone(), settings.clone());
        let own = identity::client(&api, identity::controller_manager(), "kube-controller-manager");
        async move {
            let each = |account: &str| {
                identity::client(
                    &api,
                    identity::service_account(account),
                    &format!("kube-controller-manager/{account}"),
                )
            };
            controllers::run(settings, own, each, ready, shutdown).await
        }
    });
}
