//! The one way to the API for every component.
//!
//! [`transport`] makes a `kube::Client` over HTTPS or over a service in the same process. [`Informers`] hands
//! out one shared [`Store`] per kind, kept true by list and watch; a [`Queue`] turns changes into reconciles of
//! keys; [`events`] records Events; [`leader`] elects; [`write`] holds what every writer needs (retry on
//! conflict, which errors mean what, patches).
//!
//! Nothing here ticks: with no change in the cluster no task wakes up, but for the renewal of a lease and the
//! server's own end of a watch every few minutes.
//!
//! It does not know any kind by name, how the server stores objects, nor who may do what.

pub mod backoff;
pub mod events;
mod informer;
mod key;
pub mod leader;
mod queue;
pub mod raw;
mod reflect;
mod store;
pub mod transport;
pub mod write;

pub use informer::{Informers, Source};
pub use key::Key;
pub use queue::{Outcome, Queue, page as queue_metrics, run_workers};
pub use store::{Cached, Change, Store, Subscription, null_is_default};
pub use write::ErrorKind;
