//! Carries out what is decided of one Endpoints object.

use client::write::{ErrorKind, ignore_not_found, namespace_terminating, namespaced};
use client::{Key, Outcome, Queue, Store, run_workers};
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use super::decide::{MANAGER, MOST, Plan, decide, should_mirror};
use crate::common::{Context, gone, seen};
use crate::endpointslice::{BY_SERVICE, MANAGED_BY, index_by_service, service_of};
use crate::table::Controller;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-mirroring-controller",
    service_account: "endpointslicemirroring-controller",
    component: "endpoint-slice-mirroring-controller",
    on_by_default: true,
    start: |context| run(context).boxed(),
};

struct Worker {
    context: Context,
    services: Store<Service>,
    endpoints: Store<Endpoints>,
    slices: Store<EndpointSlice>,
}

async fn run(context: Context) {
    let worker = Worker {
        services: context.informers.of(),
        endpoints: context.informers.of(),
        slices: context.informers.of(),
        context,
    };
    index_by_service(&worker.slices);
    worker.services.synced().await;
    worker.endpoints.synced().await;
    worker.slices.synced().await;
    let queue = Queue::named("endpoint_slice_mirroring");
    let added = queue.clone();
    let _services = worker.services.on_change(move |change| {
        let chosen = |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
        let before = change.old.map(|old| chosen(old));
        let after = change.new.map(|new| chosen(new));
        if before != after && [before, after].contains(&Some(false)) {
            added.add(change.key.clone());
        }
    });
    let added = queue.clone();
    let _endpoints = worker.endpoints.on_change(move |change| {
        if [change.old, change.new].into_iter().flatten().any(|endpoints| should_mirror(endpoints)) {
            added.add(change.key.clone());
        }
    });
    let added = queue.clone();
    let _slices = worker.slices.on_change(move |change| {
        for slice in [change.old, change.new].into_iter().flatten().filter(|slice| is_own(slice)) {
            if let Some(key) = service_of(slice) {
                added.add(key);
            }
        }
    });
    let Context { config, shutdown, .. } = &worker.context;
    run_workers(&queue, config.concurrency, shutdown, |key| worker.reconcile(key)).await;
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Result<Outcome, kube::Error> {
        let mut slices = self.slices.by_index(BY_SERVICE, key.as_str());
        slices.retain(|slice| is_own(slice) && slice.metadata.deletion_timestamp.is_none());
        let endpoints = self.endpoints.get(&key).filter(|endpoints| should_mirror(endpoints));
        let service = self.services.get(&key);
        let mirrored = service.is_some_and(|s| s.spec.as_ref().is_none_or(|spec| spec.selector.is_none()));
        let Some(endpoints) = endpoints.filter(|_| mirrored) else {
            let delete = slices.iter().map(|slice| (**slice).clone()).collect();
            return self.carry_out(&key, Plan { delete, ..Default::default() }).await;
        };
        let plan = decide(&endpoints, &slices);
        let warn = |reason, text| self.context.recorder.warning(&*endpoints, reason, text);
        if plan.invalid > 0 {
            let text =
                format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", plan.invalid);
            warn("InvalidIPAddress", text);
        }
        if plan.skipped > plan.invalid {
            let text = format!(
                "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                plan.skipped
            );
            warn("TooManyAddressesToMirror", text);
        }
        self.carry_out(&key, plan).await
    }

    async fn carry_out(&self, key: &Key, plan: Plan) -> Result<Outcome, kube::Error> {
        let api: Api<EndpointSlice> = namespaced(&self.context.client, key.namespace());
        let params = PostParams::default();
        for slice in &plan.create {
            match api.create(&params, slice).await {
                Ok(slice) => seen(&self.slices, &slice).await,
                Err(error) if namespace_terminating(&error) => return Ok(Outcome::Done),
                Err(error) => return Err(error),
            }
        }
        for slice in &plan.update {
            match api.replace(&slice.name_any(), &params, slice).await {
                Ok(slice) => seen(&self.slices, &slice).await,
                // Its deletion brings the key back.
                Err(error) if ErrorKind::of(&error) == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for slice in &plan.delete {
            ignore_not_found(api.delete(&slice.name_any(), &DeleteParams::default()).await)?;
            gone(&self.slices, slice).await;
        }
        Ok(Outcome::Done)
    }
}
