//! The CRI services of our own runtime: requests to calls, nothing decided here.

use std::collections::BTreeMap;

use super::lifecycle::Runtime;
use crate::cri::{self, Answer, Error, ImageService, RuntimeService, Stream, v1};

/// What `Version` answers as the runtime's name; container ids are `NAME://ID` in pod status.
pub const RUNTIME_NAME: &str = "r8s";

fn now<'a, T: Send + 'a>(answer: cri::Result<T>) -> Answer<'a, T> {
    Box::pin(std::future::ready(answer))
}

fn once<T: Send + 'static>(answer: cri::Result<T>) -> Answer<'static, Stream<T>> {
    now(answer.map(|item| Box::pin(futures_util::stream::iter([Ok(item)])) as Stream<T>))
}

impl RuntimeService for Runtime {
    fn version(&self, _: v1::VersionRequest) -> Answer<'_, v1::VersionResponse> {
        now(Ok(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    fn status(&self, _: v1::StatusRequest) -> Answer<'_, v1::StatusResponse> {
        Box::pin(async move {
            let condition = |kind: &str, failure: Option<String>, reason: &str| v1::RuntimeCondition {
                r#type: kind.to_owned(),
                status: failure.is_none(),
                reason: failure.as_ref().map(|_| reason.to_owned()).unwrap_or_default(),
                message: failure.unwrap_or_default(),
            };
            let network = match &self.0.config.network {
                Some(network) => network.status().await.err().map(|error| error.to_string()),
                None => None,
            };
            let features =
                v1::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true };
            let others = self.0.config.oci_runtimes.keys().map(String::as_str);
            let handler = |name: &str| v1::RuntimeHandler { name: name.to_owned(), features: Some(features) };
            Ok(v1::StatusResponse {
                status: Some(v1::RuntimeStatus {
                    conditions: vec![
                        condition("RuntimeReady", None, ""),
                        condition("NetworkReady", network, "NetworkPluginNotReady"),
                    ],
                }),
                info: BTreeMap::new(),
                runtime_handlers: ["", RUNTIME_NAME].into_iter().chain(others).map(handler).collect(),
                features: Some(v1::RuntimeFeatures {
                    supplemental_groups_policy: true,
                    user_namespaces_host_network: false,
                }),
            })
        })
    }

    fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest) -> Answer<'_, v1::RunPodSandboxResponse> {
        Box::pin(async move {
            let config = request.config.ok_or_else(|| Error::invalid("sandbox config is missing"))?;
            let pod_sandbox_id = self.0.run_pod_sandbox(config, request.runtime_handler).await?;
            Ok(v1::RunPodSandboxResponse { pod_sandbox_id })
        })
    }

    fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Answer<'_, v1::StopPodSandboxResponse> {
        Box::pin(async move {
            self.0.stop_pod_sandbox(&request.pod_sandbox_id).await?;
            Ok(v1::StopPodSandboxResponse {})
        })
    }

    fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Answer<'_, v1::RemovePodSandboxResponse> {
        Box::pin(async move {
            self.0.remove_pod_sandbox(&request.pod_sandbox_id).await?;
            Ok(v1::RemovePodSandboxResponse {})
        })
    }

    fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
    ) -> Answer<'_, v1::PodSandboxStatusResponse> {
        Box::pin(async move {
            let sandbox = self.0.sandbox(&request.pod_sandbox_id)?;
            let containers = self.0.containers_of(&sandbox.id);
            let mut info = BTreeMap::new();
            if request.verbose {
                let state = serde_json::to_string(&*sandbox.state()).unwrap_or_default();
                info.insert("info".to_owned(), state);
            }
            Ok(v1::PodSandboxStatusResponse {
                status: Some(self.0.sandbox_status(&sandbox)),
                info,
                containers_statuses: containers.iter().map(|c| self.0.container_status(c)).collect(),
                timestamp: super::state::now(),
            })
        })
    }

    fn list_pod_sandbox(&self, request: v1::ListPodSandboxRequest) -> Answer<'_, v1::ListPodSandboxResponse> {
        now(Ok(v1::ListPodSandboxResponse { items: self.0.list_sandboxes(request.filter) }))
    }

    fn stream_pod_sandboxes(
        &self,
        request: v1::StreamPodSandboxesRequest,
    ) -> Answer<'_, Stream<v1::StreamPodSandboxesResponse>> {
        once(Ok(v1::StreamPodSandboxesResponse { pod_sandboxes: self.0.list_sandboxes(request.filter) }))
    }

    fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Answer<'_, v1::CreateContainerResponse> {
        Box::pin(async move {
            let container_id = self.0.create_container(request).await?;
            Ok(v1::CreateContainerResponse { container_id })
        })
    }

    fn start_container(&self, request: v1::StartContainerRequest) -> Answer<'_, v1::StartContainerResponse> {
        Box::pin(async move {
            self.0.start_container(&request.container_id).await?;
            Ok(v1::StartContainerResponse {})
        })
    }

    fn stop_container(&self, request: v1::StopContainerRequest) -> Answer<'_, v1::StopContainerResponse> {
        Box::pin(async move {
            if let Ok(container) = self.0.container(&request.container_id) {
                self.0.stop_container(&container, request.timeout).await?;
            }
            Ok(v1::StopContainerResponse {})
        })
    }

    fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
    ) -> Answer<'_, v1::RemoveContainerResponse> {
        Box::pin(async move {
            if let Ok(container) = self.0.container(&request.container_id) {
                self.0.remove_container(&container).await?;
            }
            Ok(v1::RemoveContainerResponse {})
        })
    }

    fn list_containers(&self, request: v1::ListContainersRequest) -> Answer<'_, v1::ListContainersResponse> {
        now(Ok(v1::ListContainersResponse { containers: self.0.list_containers(request.filter) }))
    }

    fn stream_containers(
        &self,
        request: v1::StreamContainersRequest,
    ) -> Answer<'_, Stream<v1::StreamContainersResponse>> {
        once(Ok(v1::StreamContainersResponse { containers: self.0.list_containers(request.filter) }))
    }

    fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Answer<'_, v1::ContainerStatusResponse> {
        Box::pin(async move {
            let container = self.0.container(&request.container_id)?;
            let mut info = BTreeMap::new();
            if request.verbose {
                let state = container.state().clone();
                let oci = std::fs::read_to_string(container.run.join("config.json")).unwrap_or_default();
                let oci: serde_json::Value = serde_json::from_str(&oci).unwrap_or_default();
                let text = serde_json::json!({ "sandboxID": container.sandbox_id, "pid": state.pid, "runtimeSpec": oci });
                info.insert("info".to_owned(), text.to_string());
            }
            Ok(v1::ContainerStatusResponse { status: Some(self.0.container_status(&container)), info })
        })
    }

    fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Answer<'_, v1::UpdateContainerResourcesResponse> {
        Box::pin(async move {
            let container = self.0.container(&request.container_id)?;
            self.0.update_resources(&container, request.linux.unwrap_or_default())?;
            Ok(v1::UpdateContainerResourcesResponse {})
        })
    }

    fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Answer<'_, v1::UpdatePodSandboxResourcesResponse> {
        // The pod's cgroup is the kubelet's; the call only announces what it did.
        now(self.0.sandbox(&request.pod_sandbox_id).map(|_| v1::UpdatePodSandboxResourcesResponse {}))
    }

    fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Answer<'_, v1::ReopenContainerLogResponse> {
        Box::pin(async move {
            let container = self.0.running_container(&request.container_id)?;
            let reopened = self.0.shim(&container.sandbox_id).reopen_log(&container.id).await;
            reopened.map_err(|error| Error::unknown(error.to_string()))?;
            Ok(v1::ReopenContainerLogResponse {})
        })
    }

    fn exec_sync(&self, request: v1::ExecSyncRequest) -> Answer<'_, v1::ExecSyncResponse> {
        Box::pin(self.0.exec_sync(request))
    }

    fn exec(&self, request: v1::ExecRequest) -> Answer<'_, v1::ExecResponse> {
        now(self.0.exec_url(request).map(|url| v1::ExecResponse { url }))
    }

    fn attach(&self, request: v1::AttachRequest) -> Answer<'_, v1::AttachResponse> {
        now(self.0.attach_url(request).map(|url| v1::AttachResponse { url }))
    }

    fn port_forward(&self, request: v1::PortForwardRequest) -> Answer<'_, v1::PortForwardResponse> {
        now(self.0.port_forward_url(&request).map(|url| v1::PortForwardResponse { url }))
    }

    fn container_stats(&self, request: v1::ContainerStatsRequest) -> Answer<'_, v1::ContainerStatsResponse> {
        let container = self.0.container(&request.container_id);
        now(container.map(|c| v1::ContainerStatsResponse { stats: Some(self.0.container_stats(&c)) }))
    }

    fn list_container_stats(
        &self,
        request: v1::ListContainerStatsRequest,
    ) -> Answer<'_, v1::ListContainerStatsResponse> {
        now(Ok(v1::ListContainerStatsResponse { stats: self.0.list_container_stats(request.filter) }))
    }

    fn stream_container_stats(
        &self,
        request: v1::StreamContainerStatsRequest,
    ) -> Answer<'_, Stream<v1::StreamContainerStatsResponse>> {
        once(Ok(v1::StreamContainerStatsResponse {
            container_stats: self.0.list_container_stats(request.filter),
        }))
    }

    fn pod_sandbox_stats(
        &self,
        request: v1::PodSandboxStatsRequest,
    ) -> Answer<'_, v1::PodSandboxStatsResponse> {
        let sandbox = self.0.sandbox(&request.pod_sandbox_id);
        now(sandbox.map(|s| v1::PodSandboxStatsResponse { stats: Some(self.0.pod_stats(&s)) }))
    }

    fn list_pod_sandbox_stats(
        &self,
        request: v1::ListPodSandboxStatsRequest,
    ) -> Answer<'_, v1::ListPodSandboxStatsResponse> {
        now(Ok(v1::ListPodSandboxStatsResponse { stats: self.0.list_pod_stats(request.filter) }))
    }

    fn stream_pod_sandbox_stats(
        &self,
        request: v1::StreamPodSandboxStatsRequest,
    ) -> Answer<'_, Stream<v1::StreamPodSandboxStatsResponse>> {
        once(Ok(v1::StreamPodSandboxStatsResponse {
            pod_sandbox_stats: self.0.list_pod_stats(request.filter),
        }))
    }

    fn update_runtime_config(
        &self,
        _: v1::UpdateRuntimeConfigRequest,
    ) -> Answer<'_, v1::UpdateRuntimeConfigResponse> {
        // The pod network learns the node's pod range from the API.
        now(Ok(v1::UpdateRuntimeConfigResponse {}))
    }

    fn runtime_config(&self, _: v1::RuntimeConfigRequest) -> Answer<'_, v1::RuntimeConfigResponse> {
        let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs as i32 };
        now(Ok(v1::RuntimeConfigResponse { linux: Some(linux) }))
    }

    fn get_container_events(
        &self,
        _: v1::GetEventsRequest,
    ) -> Answer<'_, Stream<v1::ContainerEventResponse>> {
        now(Ok(self.0.event_stream()))
    }
}

impl ImageService for Runtime {
    fn list_images(&self, request: v1::ListImagesRequest) -> Answer<'_, v1::ListImagesResponse> {
        now(Ok(v1::ListImagesResponse { images: self.0.list_images(request.filter) }))
    }

    fn stream_images(
        &self,
        request: v1::StreamImagesRequest,
    ) -> Answer<'_, Stream<v1::StreamImagesResponse>> {
        once(Ok(v1::StreamImagesResponse { images: self.0.list_images(request.filter) }))
    }

    fn image_status(&self, request: v1::ImageStatusRequest) -> Answer<'_, v1::ImageStatusResponse> {
        now(Ok(self.0.image_status(&request)))
    }

    fn pull_image(&self, request: v1::PullImageRequest) -> Answer<'_, v1::PullImageResponse> {
        Box::pin(async move { Ok(v1::PullImageResponse { image_ref: self.0.pull_image(request).await? }) })
    }

    fn remove_image(&self, request: v1::RemoveImageRequest) -> Answer<'_, v1::RemoveImageResponse> {
        Box::pin(async move {
            self.0.remove_image(request.image).await?;
            Ok(v1::RemoveImageResponse {})
        })
    }

    fn image_fs_info(&self, _: v1::ImageFsInfoRequest) -> Answer<'_, v1::ImageFsInfoResponse> {
        now(Ok(self.0.image_fs_info()))
    }
}
