//! CRI served on a unix socket from any implementation of the traits, so that crictl and a kubelet in
//! another process can use our runtime.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use super::calls::{image_calls, runtime_calls};
use super::service::{ImageService, RuntimeService, Stream};
use super::v1;

#[derive(Debug, thiserror::Error)]
#[error("CRI socket {path}")]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

/// Serves both services on the unix socket `path` (mode 0600; a stale socket is replaced) until `shutdown`.
pub async fn serve(
    path: &Path,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let failed = |source| ServeError { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (runtime, images) = (Arc::clone(&runtime), Arc::clone(&images));
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                answer(Arc::clone(&runtime), Arc::clone(&images), request)
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "CRI connection ended");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

async fn answer(
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let request =
        request.map(|body| Body::new(body.map_err(|error| tonic::Status::internal(error.to_string()))));
    let path = request.uri().path().to_owned();
    Ok(if path.starts_with("/runtime.v1.ImageService/") {
        image_call(images, path, request).await
    } else {
        runtime_call(runtime, path, request).await
    })
}

fn unknown(path: &str) -> http::Response<Body> {
    tonic::Status::unimplemented(format!("unknown service or method {path}")).into_http()
}

/// Turns a function into the tower service that tonic's server side wants.
struct Call<F>(F);

impl<Q, A, F> tonic::server::UnaryService<Q> for Call<F>
where
    A: 'static,
    F: FnMut(Q) -> BoxFuture<'static, Result<A, super::Error>>,
{
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, tonic::Status>>;
    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answer.await?)) })
    }
}

impl<Q, A, F> tonic::server::ServerStreamingService<Q> for Call<F>
where
    A: Send + 'static,
    F: FnMut(Q) -> BoxFuture<'static, Result<Stream<A>, super::Error>>,
{
    type Response = A;
    type ResponseStream = futures_util::stream::BoxStream<'static, Result<A, tonic::Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, tonic::Status>>;
    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move {
            use futures_util::StreamExt;
            let stream = answer.await?;
            Ok(tonic::Response::new(stream.map(|item| item.map_err(tonic::Status::from)).boxed()))
        })
    }
}

type Pending<T> = BoxFuture<'static, Result<T, super::Error>>;

fn unary<Q, A>(
    request: http::Request<Body>,
    call: impl FnMut(Q) -> Pending<A> + Send + 'static,
) -> BoxFuture<'static, http::Response<Body>>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    Box::pin(async move {
        tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).unary(Call(call), request).await
    })
}

fn stream<Q, A>(
    request: http::Request<Body>,
    call: impl FnMut(Q) -> Pending<Stream<A>> + Send + 'static,
) -> BoxFuture<'static, http::Response<Body>>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    Box::pin(async move {
        tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(Call(call), request).await
    })
}

macro_rules! make_server {
    (@fn $function:ident $service:ident $($kind:ident $name:ident $call:ident($q:ident) $a:ident;)*) => {
        fn $function(services: Arc<dyn $service>, path: String, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
            match path.as_str() {
                $(concat!("/runtime.v1.", stringify!($service), "/", stringify!($call)) =>
                    $kind::<v1::$q, v1::$a>(request, move |message| {
                        let services = Arc::clone(&services);
                        Box::pin(async move { services.$name(message).await })
                    }),)*
                other => Box::pin(std::future::ready(unknown(other))),
            }
        }
    };
    (service RuntimeService $($rest:tt)*) => { make_server!(@fn runtime_call RuntimeService $($rest)*); };
    (service ImageService $($rest:tt)*) => { make_server!(@fn image_call ImageService $($rest)*); };
}

runtime_calls!(make_server);
image_calls!(make_server);
