//! A runtime in another process (containerd, CRI-O, cri-dockerd, r8s itself) over CRI on a unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::calls::{image_calls, runtime_calls};
use super::error::Error;
use super::service::{Answer, ImageService, RuntimeService, Stream};
use super::v1;

/// Answers larger than this are refused, as the kubelet does.
const MAX_MESSAGE: usize = 16 << 20;

/// A connection to a CRI endpoint. Cheap to clone; it reconnects by itself when the runtime restarts.
#[derive(Clone, Debug)]
pub struct Remote {
    channel: Channel,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("CRI endpoint {0:?}: only unix:// addresses and absolute paths work")]
    Address(String),
    #[error("CRI endpoint {path}: {message}")]
    Connect { path: PathBuf, message: String },
}

impl Remote {
    /// `endpoint` is `unix:///path/to.sock` or the path alone. The socket must answer now.
    pub async fn connect(endpoint: &str) -> Result<Remote, ConnectError> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
        if !Path::new(path).is_absolute() {
            return Err(ConnectError::Address(endpoint.to_owned()));
        }
        let failed = |error: tonic::transport::Error| ConnectError::Connect {
            path: PathBuf::from(path),
            message: error_chain(&error),
        };
        let address = Endpoint::from_shared(format!("unix://{path}")).map_err(failed)?;
        let channel = address.connect_timeout(Duration::from_secs(5)).connect().await.map_err(failed)?;
        Ok(Remote { channel })
    }

    fn grpc(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        ready(&mut grpc).await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }

    async fn stream<Q, A>(&self, path: &'static str, request: Q) -> Result<Stream<A>, Error>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        ready(&mut grpc).await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await?;
        Ok(answer.into_inner().map(|item| item.map_err(Error::from)).boxed())
    }
}

async fn ready(grpc: &mut tonic::client::Grpc<Channel>) -> Result<(), Error> {
    grpc.ready().await.map_err(|error| Error::new(super::Code::Unavailable, error_chain(&error)))
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

macro_rules! make_client {
    (@call unary $service:ident $name:ident $call:ident $request:ident $response:ident) => {
        fn $name(&self, request: v1::$request) -> Answer<'_, v1::$response> {
            Box::pin(self.unary(concat!("/runtime.v1.", stringify!($service), "/", stringify!($call)), request))
        }
    };
    (@call stream $service:ident $name:ident $call:ident $request:ident $response:ident) => {
        fn $name(&self, request: v1::$request) -> Answer<'_, Stream<v1::$response>> {
            Box::pin(self.stream(concat!("/runtime.v1.", stringify!($service), "/", stringify!($call)), request))
        }
    };
    (service $service:ident $($kind:ident $name:ident $call:ident($request:ident) $response:ident;)*) => {
        impl $service for Remote {
            $(make_client!(@call $kind $service $name $call $request $response);)*
        }
    };
}

runtime_calls!(make_client);
image_calls!(make_client);
