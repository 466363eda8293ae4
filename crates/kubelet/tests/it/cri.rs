//! A stand-in for a container runtime: remembers what it was asked, runs nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use runtime::cri::{Answer, Error, ImageService, Result, RuntimeService, Stream, v1};
use tokio::sync::broadcast;

#[derive(Default)]
struct State {
    calls: Vec<String>,
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    containers: BTreeMap<String, (String, v1::ContainerStatus, v1::ContainerConfig)>,
    images: HashSet<String>,
    missing_images: HashSet<String>,
    /// Containers that ignore SIGTERM.
    stubborn: HashSet<String>,
    next: u64,
    clock: i64,
}

#[derive(Clone)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<v1::ContainerEventResponse>,
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }
    fn now(&mut self) -> i64 {
        self.clock += 1;
        i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap() + self.clock
    }
}

fn done<T: Send + 'static>(value: Result<T>) -> Answer<'static, T> {
    Box::pin(std::future::ready(value))
}

fn has(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

impl Recorder {
    pub fn new() -> Self {
        Recorder { state: Arc::default(), events: broadcast::channel(1024).0 }
    }

    /// The calls that change something, as `verb name`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }
    pub fn without_image(&self, image: &str) {
        self.state.lock().unwrap().missing_images.insert(image.into());
    }
    pub fn stubborn(&self, name: &str) {
        self.state.lock().unwrap().stubborn.insert(name.into());
    }
    /// The configuration of the newest container of this name.
    pub fn config(&self, name: &str) -> Option<v1::ContainerConfig> {
        let state = self.state.lock().unwrap();
        let found = state.containers.values().rfind(|(_, s, _)| s.metadata.as_ref().unwrap().name == name);
        found.map(|(_, _, c)| c.clone())
    }
    pub fn running(&self) -> usize {
        let state = self.state.lock().unwrap();
        let running = v1::ContainerState::ContainerRunning as i32;
        state.containers.values().filter(|(_, s, _)| s.state == running).count()
    }
    pub fn is_empty(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.containers.is_empty() && state.sandboxes.is_empty()
    }

    /// Ends the newest container of this name.
    pub fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock().unwrap();
            let found =
                state.containers.iter().rfind(|(_, (_, s, _))| s.metadata.as_ref().unwrap().name == name);
            found.map(|(id, _)| id.clone()).unwrap()
        };
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock().unwrap();
        let now = state.now();
        let Some((_, status, _)) = state.containers.get_mut(id) else { return };
        if status.state != v1::ContainerState::ContainerRunning as i32 {
            return;
        }
        status.state = v1::ContainerState::ContainerExited as i32;
        status.exit_code = code;
        status.finished_at = now;
        status.reason = if code == 0 { "Completed" } else { "Error" }.into();
        drop(state);
        self.tell(id, v1::ContainerEventType::ContainerStoppedEvent);
    }

    fn tell(&self, id: &str, kind: v1::ContainerEventType) {
        let state = self.state.lock().unwrap();
        let Some((sandbox, ..)) = state.containers.get(id) else { return };
        let _ = self.events.send(v1::ContainerEventResponse {
            container_id: id.into(),
            container_event_type: kind as i32,
            pod_sandbox_status: state.sandboxes.get(sandbox).cloned(),
            ..Default::default()
        });
    }
}

impl RuntimeService for Recorder {
    fn version(&self, _: v1::VersionRequest) -> Answer<'_, v1::VersionResponse> {
        done(Ok(v1::VersionResponse {
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            ..Default::default()
        }))
    }
    fn status(&self, _: v1::StatusRequest) -> Answer<'_, v1::StatusResponse> {
        done(Ok(v1::StatusResponse::default()))
    }
    fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest) -> Answer<'_, v1::RunPodSandboxResponse> {
        let config = request.config.unwrap();
        let mut state = self.state.lock().unwrap();
        let metadata = config.metadata.clone().unwrap();
        state.calls.push(format!("sandbox {}", metadata.name));
        let id = state.id("s");
        let ip = format!("10.0.0.{}", state.next);
        let options =
            config.linux.as_ref().unwrap().security_context.as_ref().unwrap().namespace_options.clone();
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: v1::PodSandboxState::SandboxReady as i32,
            created_at: state.now(),
            network: Some(v1::PodSandboxNetworkStatus { ip, additional_ips: vec![] }),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
            labels: config.labels,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        done(Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id }))
    }
    fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Answer<'_, v1::StopPodSandboxResponse> {
        let mut state = self.state.lock().unwrap();
        if let Some(sandbox) = state.sandboxes.get_mut(&request.pod_sandbox_id) {
            sandbox.state = v1::PodSandboxState::SandboxNotready as i32;
            sandbox.network = None;
        }
        done(Ok(v1::StopPodSandboxResponse {}))
    }
    fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Answer<'_, v1::RemovePodSandboxResponse> {
        self.state.lock().unwrap().sandboxes.remove(&request.pod_sandbox_id);
        done(Ok(v1::RemovePodSandboxResponse {}))
    }
    fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
    ) -> Answer<'_, v1::PodSandboxStatusResponse> {
        let status = self.state.lock().unwrap().sandboxes.get(&request.pod_sandbox_id).cloned();
        done(match status {
            Some(status) => Ok(v1::PodSandboxStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(Error::not_found("no such sandbox")),
        })
    }
    fn list_pod_sandbox(&self, request: v1::ListPodSandboxRequest) -> Answer<'_, v1::ListPodSandboxResponse> {
        let wanted = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock().unwrap();
        let items = state.sandboxes.values().filter(|s| has(&s.labels, &wanted)).map(|s| v1::PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            labels: s.labels.clone(),
            ..Default::default()
        });
        done(Ok(v1::ListPodSandboxResponse { items: items.collect() }))
    }
    fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Answer<'_, v1::CreateContainerResponse> {
        let config = request.config.unwrap();
        let mut state = self.state.lock().unwrap();
        let metadata = config.metadata.clone().unwrap();
        state.calls.push(format!("create {}", metadata.name));
        let id = state.id("c");
        let log_directory = request.sandbox_config.unwrap().log_directory;
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: v1::ContainerState::ContainerCreated as i32,
            created_at: state.now(),
            image: config.image.clone(),
            image_ref: "sha256:ref".into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{log_directory}/{}", config.log_path),
            ..Default::default()
        };
        state.containers.insert(id.clone(), (request.pod_sandbox_id, status, config));
        done(Ok(v1::CreateContainerResponse { container_id: id }))
    }
    fn start_container(&self, request: v1::StartContainerRequest) -> Answer<'_, v1::StartContainerResponse> {
        {
            let mut state = self.state.lock().unwrap();
            let now = state.now();
            let (_, status, _) = state.containers.get_mut(&request.container_id).unwrap();
            status.state = v1::ContainerState::ContainerRunning as i32;
            status.started_at = now;
            let name = status.metadata.as_ref().unwrap().name.clone();
            state.calls.push(format!("start {name}"));
        }
        self.tell(&request.container_id, v1::ContainerEventType::ContainerStartedEvent);
        done(Ok(v1::StartContainerResponse {}))
    }
    fn stop_container(&self, request: v1::StopContainerRequest) -> Answer<'_, v1::StopContainerResponse> {
        let stubborn = {
            let mut state = self.state.lock().unwrap();
            let Some((_, status, _)) = state.containers.get(&request.container_id) else {
                return done(Err(Error::not_found("no such container")));
            };
            let name = status.metadata.as_ref().unwrap().name.clone();
            state.calls.push(format!("stop {name} {}", request.timeout));
            state.stubborn.contains(&name)
        };
        Box::pin(async move {
            if stubborn {
                tokio::time::sleep(std::time::Duration::from_secs(request.timeout.unsigned_abs())).await;
            }
            self.end(&request.container_id, if stubborn { 137 } else { 143 });
            Ok(v1::StopContainerResponse {})
        })
    }
    fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
    ) -> Answer<'_, v1::RemoveContainerResponse> {
        self.state.lock().unwrap().containers.remove(&request.container_id);
        done(Ok(v1::RemoveContainerResponse {}))
    }
    fn list_containers(&self, request: v1::ListContainersRequest) -> Answer<'_, v1::ListContainersResponse> {
        let wanted = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock().unwrap();
        let found = state.containers.values().filter(|(_, s, _)| has(&s.labels, &wanted));
        let containers = found.map(|(sandbox, s, _)| v1::Container {
            id: s.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            labels: s.labels.clone(),
            ..Default::default()
        });
        done(Ok(v1::ListContainersResponse { containers: containers.collect() }))
    }
    fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Answer<'_, v1::ContainerStatusResponse> {
        let found =
            self.state.lock().unwrap().containers.get(&request.container_id).map(|(_, s, _)| s.clone());
        done(match found {
            Some(status) => Ok(v1::ContainerStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(Error::not_found("no such container")),
        })
    }
    fn exec_sync(&self, request: v1::ExecSyncRequest) -> Answer<'_, v1::ExecSyncResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("exec {}", request.cmd.join(" ")));
        let code = i32::from(request.cmd.first().is_some_and(|c| c == "false"));
        done(Ok(v1::ExecSyncResponse { exit_code: code, ..Default::default() }))
    }
    /// A streaming server for one connection that switches protocols and then repeats what it is told.
    fn exec(&self, request: v1::ExecRequest) -> Answer<'_, v1::ExecResponse> {
        self.state.lock().unwrap().calls.push(format!("exec-stream {}", request.cmd.join("|")));
        Box::pin(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /exec/token HTTP/1.1"));
                let switch =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test-echo\r\n\r\n";
                stream.write_all(switch).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            Ok(v1::ExecResponse { url })
        })
    }
    fn get_container_events(
        &self,
        _: v1::GetEventsRequest,
    ) -> Answer<'_, Stream<v1::ContainerEventResponse>> {
        let receiver = self.events.subscribe();
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|event| (Ok(event), receiver))
        });
        done(Ok(stream.boxed()))
    }
}

impl ImageService for Recorder {
    fn image_status(&self, request: v1::ImageStatusRequest) -> Answer<'_, v1::ImageStatusResponse> {
        let image = request.image.unwrap().image;
        let state = self.state.lock().unwrap();
        let found = state.images.contains(&image) || image.starts_with("ref:");
        let image = found.then(|| v1::Image {
            id: format!("ref:{}", image.trim_start_matches("ref:")),
            size: 10,
            uid: Some(v1::Int64Value { value: 0 }),
            ..Default::default()
        });
        done(Ok(v1::ImageStatusResponse { image, ..Default::default() }))
    }
    fn pull_image(&self, request: v1::PullImageRequest) -> Answer<'_, v1::PullImageResponse> {
        let image = request.image.unwrap().image;
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("pull {image}"));
        if state.missing_images.contains(&image) {
            return done(Err(Error::not_found(format!("{image}: not found"))));
        }
        state.images.insert(image.clone());
        done(Ok(v1::PullImageResponse { image_ref: format!("ref:{image}") }))
    }
    fn list_images(&self, _: v1::ListImagesRequest) -> Answer<'_, v1::ListImagesResponse> {
        done(Ok(v1::ListImagesResponse::default()))
    }
}
