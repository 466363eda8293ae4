//! Names of certificate signers and of the trust bundles that belong to them.

use machinery::field::{ErrorList, Path, go_quote};

use crate::check::Errors;
use crate::names;

/// Does the name belong to Kubernetes itself?
pub(crate) fn is_kubernetes(name: &str) -> bool {
    let host = name.split('/').next().unwrap_or("");
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// `example.com/signer-name`.
pub(crate) fn name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    let [domain, path] = name.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, name, detail);
    };
    if domain.len() > 253 {
        errors.too_long(at, 253);
    }
    labels(domain, names::dns1123_label, at, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(at, domain, detail);
    }
    labels(path, names::dns1123_subdomain, at, errors);
    if name.len() > 571 {
        errors.too_long(at, 571);
    }
}

/// The first bad label, with all that is wrong with it.
fn labels(text: &str, rule: fn(&str) -> Vec<String>, at: &Path, errors: &mut ErrorList) {
    if let Some(bad) = text.split('.').find(|label| !rule(label).is_empty()) {
        for message in rule(bad) {
            errors.invalid(at, text, format!("validating label {}: {message}", go_quote(bad)));
        }
    }
}

/// The signer a ClusterTrustBundle's name speaks of, if it does.
pub(crate) fn of_bundle_name(name: &str) -> Option<String> {
    name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/"))
}

/// Messages about the name of a ClusterTrustBundle of this signer ("" for none).
pub(crate) fn bundle_name(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".into()];
        }
        return names::subdomain_name(name, false);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::subdomain_name(rest, false),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
        }
    }
}
