//! Certificate requests: what has been approved for one of the cluster's own signers is signed by its authority.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#signers>

mod decide;

use client::write::ignore_not_found;
use client::{Outcome, Queue, run_workers};
use futures_util::FutureExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::PostParams;
use pki::Authority;

use crate::common::{Context, seen};
use crate::table::Controller;

pub(crate) const SIGNING: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    service_account: "certificate-controller",
    component: "certificate-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

async fn run(context: Context) {
    let Some(authority) = context.config.authority.clone() else { return };
    let store = context.informers.of::<CertificateSigningRequest>();
    store.synced().await;
    let queue = Queue::named("certificate");
    let added = queue.clone();
    let _requests = store.on_change(move |change| {
        if change.new.is_some_and(|csr| decide::is_due(csr)) {
            added.add(change.key.clone());
        }
    });
    let reconcile = |key: client::Key| {
        let (store, client, authority) = (&store, &context.client, &authority);
        async move {
            let Some(csr) = store.get(&key).filter(|csr| decide::is_due(csr)) else {
                return Ok(Outcome::Done);
            };
            let mut csr = (*csr).clone();
            if let Err(error) = answer(authority, &mut csr) {
                tracing::warn!(%key, %error, "a certificate request cannot be signed");
                return Ok(Outcome::Done);
            }
            let api: Api<CertificateSigningRequest> = Api::all(client.clone());
            let written = api.replace_status(key.name(), &PostParams::default(), &csr).await;
            if let Some(csr) = ignore_not_found(written)? {
                seen(store, &csr).await;
            }
            Ok::<_, kube::Error>(Outcome::Done)
        }
    };
    run_workers(&queue, context.config.concurrency, &context.shutdown, reconcile).await;
}

/// Puts the certificate into the status, or the condition that says why there is none.
fn answer(authority: &Authority, csr: &mut CertificateSigningRequest) -> Result<(), pki::Error> {
    let asked = pki::asked(&csr.spec.request.0)?;
    let usages = csr.spec.usages.clone().unwrap_or_default();
    let status = csr.status.get_or_insert_default();
    match decide::check(&csr.spec.signer_name, &asked, &usages) {
        Err(message) => {
            let now = Time(k8s_openapi::jiff::Timestamp::now());
            status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(message),
                last_update_time: Some(now),
                last_transition_time: None,
            });
        }
        Ok(()) => {
            let pem = String::from_utf8_lossy(&csr.spec.request.0).into_owned();
            let life = decide::life(csr);
            let signed = authority.sign(&pem, &usages, life)?;
            csr.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
        }
    }
    Ok(())
}
