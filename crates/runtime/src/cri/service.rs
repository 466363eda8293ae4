//! The traits that the kubelet speaks to, whichever runtime is behind them.
//!
//! Every call has a default that answers `Unimplemented`, as an older runtime would, so that a test double
//! or a future call needs only what it is about. All calls may be made at once from many tasks.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::calls::{image_calls, runtime_calls};
use super::error::Error;
use super::v1;

pub type Result<T> = std::result::Result<T, Error>;
/// The pending answer of a call.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;
/// The answers of a streaming call. Dropping it ends the call.
pub type Stream<T> = BoxStream<'static, Result<T>>;

macro_rules! make_trait {
    (@sig unary $name:ident $call:ident $request:ident $response:ident) => {
        fn $name(&self, request: v1::$request) -> Answer<'_, v1::$response> {
            let _ = request;
            Box::pin(std::future::ready(Err(Error::unimplemented(stringify!($call)))))
        }
    };
    (@sig stream $name:ident $call:ident $request:ident $response:ident) => {
        fn $name(&self, request: v1::$request) -> Answer<'_, Stream<v1::$response>> {
            let _ = request;
            Box::pin(std::future::ready(Err(Error::unimplemented(stringify!($call)))))
        }
    };
    (service $service:ident $($kind:ident $name:ident $call:ident($request:ident) $response:ident;)*) => {
        #[doc = concat!("The calls of CRI's `", stringify!($service), "`, named and typed as there.")]
        pub trait $service: Send + Sync + 'static {
            $(make_trait!(@sig $kind $name $call $request $response);)*
        }
    };
}

runtime_calls!(make_trait);
image_calls!(make_trait);
