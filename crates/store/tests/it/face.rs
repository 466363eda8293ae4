//! The whole battery through the etcd client and the etcd face, over the engine on disk and in memory.

use std::sync::Arc;

use store::Store;
use store::embedded::{self, Options};
use store::etcd::Config;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Serves a store; the address, and what ends it.
pub async fn served(store: Arc<dyn Store>) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let options = store::face::Options { client_urls: vec![address.clone()], ..Default::default() };
    tokio::spawn(store::face::serve(listener, None, store, options, shutdown.clone()));
    (address, shutdown.drop_guard())
}

mod over_disk {
    use super::*;

    async fn open() -> (Arc<dyn Store>, (DropGuard, tempfile::TempDir)) {
        let dir = tempfile::tempdir().unwrap();
        let (address, guard) = served(embedded::open(dir.path(), Options::default()).unwrap()).await;
        (store::etcd::connect(Config::new([address])).await.unwrap(), (guard, dir))
    }

    store::battery!(open());
}
