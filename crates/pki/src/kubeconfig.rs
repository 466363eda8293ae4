//! Kubeconfig files with embedded client certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Issued;

/// A kubeconfig (YAML) for one user on one cluster, everything embedded.
pub fn render(cluster: &str, server: &str, authority_pem: &str, user: &str, issued: &Issued) -> String {
    let [authority, certificate, key] =
        [authority_pem, &issued.certificate_pem, &issued.key_pem].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {user}@{cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {user}@{cluster}
preferences: {{}}
"
    )
}
