//! The cluster's certificates and keys: made once, in the order in which they depend on each other.
//! Authorities and the service-account key are kept for ever; certificates are issued anew at each start.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pki::{Authority, Issued, PrivateKey, Request, Usage, files, kubeconfig};

use crate::paths::Paths;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Everything the control plane proves itself with.
pub struct Credentials {
    /// Signs and verifies client certificates and the API server's serving certificate.
    pub authority: Arc<Authority>,
    /// For requests that the API server proxies to aggregated API servers.
    pub front_proxy: Authority,
    /// PEM of the key that signs service-account tokens.
    pub service_account_key: String,
}

impl Credentials {
    pub fn load_or_create(paths: &Paths) -> Result<Self> {
        let dir = paths.pki();
        files::private_dir(&dir)?;
        let hint = || {
            format!(
                "hint: restore {} from a backup; without the old keys every kubeconfig and service-account token made so far is void",
                dir.display()
            )
        };
        Ok(Self {
            service_account_key: service_account_key(&dir.join("sa.key")).with_context(hint)?,
            authority: Arc::new(Authority::load_or_create(&dir, "ca", "kubernetes").with_context(hint)?),
            front_proxy: Authority::load_or_create(&dir, "front-proxy-ca", "front-proxy-ca")
                .with_context(hint)?,
        })
    }

    /// The API server's serving certificate, for all the names it goes by.
    pub fn api_server(&self, node: &str, addresses: &[IpAddr]) -> Result<Issued> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            node,
        ];
        let dns_names: Vec<String> =
            names.iter().filter(|n| !n.is_empty()).map(ToString::to_string).collect();
        self.issue("kube-apiserver", None, &dns_names, addresses, Usage::Server)
    }

    /// A client certificate.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Issued> {
        self.issue(user, group, &[], &[], Usage::Client)
    }

    /// What the API server shows to aggregated API servers.
    pub fn front_proxy_client(&self) -> Result<Issued> {
        let request = Request {
            common_name: "front-proxy-client",
            organization: None,
            dns_names: &[],
            addresses: &[],
            usage: Usage::Client,
            life: YEAR,
        };
        self.front_proxy.issue(&request).context("cannot issue the certificate of front-proxy-client")
    }

    /// The kubelet's serving certificate.
    pub fn kubelet_server(&self, node: &str, addresses: &[IpAddr]) -> Result<Issued> {
        let user = format!("system:node:{node}");
        self.issue(&user, Some("system:nodes"), &[node.to_owned()], addresses, Usage::Server)
    }

    fn issue(
        &self,
        user: &str,
        group: Option<&str>,
        dns_names: &[String],
        addresses: &[IpAddr],
        usage: Usage,
    ) -> Result<Issued> {
        let request =
            Request { common_name: user, organization: group, dns_names, addresses, usage, life: YEAR };
        self.authority.issue(&request).with_context(|| format!("cannot issue the certificate of {user}"))
    }

    /// Writes the admin's kubeconfig (0600).
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str) -> Result<()> {
        // The user name is upstream kubeadm's super-admin group; the name `admin` is what audit logs show.
        let admin = self.client("admin", Some("system:masters"))?;
        let text = kubeconfig::render("r8s", server, self.authority.certificate_pem(), "admin", &admin);
        files::write_private(path, text.as_bytes())?;
        Ok(())
    }
}

fn service_account_key(path: &Path) -> Result<String> {
    if let Some(pem) = files::read(path)? {
        PrivateKey::from_pem(&pem).with_context(|| format!("{} is damaged", path.display()))?;
        return Ok(pem);
    }
    let pem = PrivateKey::generate_rsa_pem()?;
    files::write_private(path, pem.as_bytes())?;
    Ok(pem)
}
