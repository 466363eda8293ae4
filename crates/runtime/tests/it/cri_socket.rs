//! The gRPC client and server of the CRI seam, against each other.

use std::sync::Arc;

use futures_util::StreamExt;
use runtime::cri::{self, Answer, Code, ImageService, Remote, RuntimeService, v1};
use tokio_util::sync::CancellationToken;

struct Fake;

impl RuntimeService for Fake {
    fn version(&self, request: v1::VersionRequest) -> Answer<'_, v1::VersionResponse> {
        Box::pin(async move {
            Ok(v1::VersionResponse {
                version: request.version,
                runtime_name: "fake".into(),
                ..Default::default()
            })
        })
    }
    fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Answer<'_, v1::ContainerStatusResponse> {
        Box::pin(async move { Err(cri::Error::not_found(format!("no container {}", request.container_id))) })
    }
    fn get_container_events(
        &self,
        _: v1::GetEventsRequest,
    ) -> Answer<'_, cri::Stream<v1::ContainerEventResponse>> {
        let event = |n: i64| Ok(v1::ContainerEventResponse { created_at: n, ..Default::default() });
        Box::pin(async move { Ok(futures_util::stream::iter([event(1), event(2)]).boxed()) })
    }
}

impl ImageService for Fake {}

#[tokio::test]
async fn calls_streams_and_errors_cross_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn({
        let (socket, shutdown) = (socket.clone(), shutdown.clone());
        async move { cri::serve(&socket, Arc::new(Fake), Arc::new(Fake), shutdown).await }
    });
    let remote = loop {
        match Remote::connect(&format!("unix://{}", socket.display())).await {
            Ok(remote) => break remote,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let version = remote.version(v1::VersionRequest { version: "v1".into() }).await.unwrap();
    assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("v1", "fake"));

    let error = remote
        .container_status(v1::ContainerStatusRequest { container_id: "x".into(), verbose: false })
        .await
        .unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no container x");

    let events = remote.get_container_events(v1::GetEventsRequest {}).await.unwrap();
    let times: Vec<i64> = events.map(|event| event.unwrap().created_at).collect().await;
    assert_eq!(times, [1, 2]);

    let error = remote.list_images(v1::ListImagesRequest::default()).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented);

    shutdown.cancel();
    server.await.unwrap().unwrap();
    assert!(!socket.exists());
}
