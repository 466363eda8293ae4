//! The API server alone on a loopback port, with objects in memory: `serve PORT DIR` writes `DIR/admin.kubeconfig`.
//! With `--golden` it serves every API version, as the recorded reference did.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config};
use pki::{Authority, PrivateKey, Request, Usage};
use tokio_util::sync::CancellationToken;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(run());
}

async fn run() {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().and_then(|p| p.parse().ok()).expect("PORT");
    let dir: PathBuf = args.next().expect("DIR").into();
    let golden = args.next().is_some_and(|a| a == "--golden");
    std::fs::create_dir_all(&dir).expect("DIR can be made");
    let authority = Authority::load_or_create(&dir, "ca", "kubernetes").expect("CA");
    let year = Duration::from_secs(365 * 24 * 3600);
    let issue = |name: &str, organization: Option<&str>, usage: Usage| {
        let names = ["localhost".to_owned(), "kubernetes.default.svc".to_owned()];
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let request = Request {
            common_name: name,
            organization,
            dns_names: &names,
            addresses: &addresses,
            usage,
            life: year,
        };
        authority.issue(&request).expect("certificate")
    };
    let serving = issue("kube-apiserver", None, Usage::Server);
    let admin = issue("admin", Some("system:masters"), Usage::Client);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let kubeconfig = pki::kubeconfig::render(
        "test",
        &format!("https://{address}"),
        authority.certificate_pem(),
        "admin",
        &admin,
    );
    std::fs::write(dir.join("admin.kubeconfig"), kubeconfig).expect("kubeconfig");
    let all = ["ClusterTrustBundle", "PodCertificateRequest", "GenericWorkload", "StorageVersionMigrator"];
    let config = Config {
        secure_port: port,
        client_ca_pem: Some(authority.certificate_pem().to_owned()),
        root_ca_pem: Some(authority.certificate_pem().to_owned()),
        front_proxy_ca_pem: golden.then(|| authority.certificate_pem().to_owned()),
        front_proxy_names: if golden { vec!["front-proxy".to_owned()] } else { Vec::new() },
        serving_cert_pem: Some(serving.certificate_pem),
        serving_key_pem: Some(serving.key_pem),
        signing_key_pem: Some(PrivateKey::generate_rsa_pem().expect("key")),
        runtime_config: if golden { vec![("api/all".to_owned(), true)] } else { Vec::new() },
        feature_gates: if golden { all.map(|g| (g.to_owned(), true)).to_vec() } else { Vec::new() },
        ..Config::default()
    };
    let begin = Instant::now();
    let api = ApiServer::start(config, Arc::new(store::memory::Memory::new())).await.expect("start");
    eprintln!("ready in {} ms", begin.elapsed().as_millis());
    let listener = tokio::net::TcpListener::bind(address).await.expect("port");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    api.serve(listener, shutdown).await.expect("serve");
}
