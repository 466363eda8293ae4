//! Projected volumes: several sources in one directory.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{paths, volumes};
use crate::check::{self, Errors};
use crate::gostruct::{Field, Zero, label_selector, show_with};
use crate::names;
use crate::signer;

/// Paths taken so far.
struct Taken<'a>(Vec<&'a str>);

impl<'a> Taken<'a> {
    fn take(&mut self, path: &'a str, shown: &str, at: &Path, errors: &mut ErrorList) {
        if self.0.contains(&path) {
            errors.invalid(at, shown, "conflicting duplicate paths");
        } else {
            self.0.push(path);
        }
    }
}

pub(crate) fn sources(projected: &Value, at: &Path, errors: &mut ErrorList) {
    let mut taken = Taken(Vec::new());
    for (i, source) in projected.list("sources").iter().enumerate() {
        let item = at.child("sources").index(i);
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let source = source.at(kind);
            if source.is_object() {
                count += 1;
                keyed(source, &mut taken, &item.child(kind), at, errors);
            }
        }
        let downward = source.at("downwardAPI");
        if downward.is_object() {
            count += 1;
            for file in downward.list("items") {
                volumes::downward_file(file, &item.child("downwardAPI"), errors);
                let path = file.text("path");
                if !path.is_empty() {
                    taken.take(path, path, at, errors);
                }
            }
        }
        if source.at("serviceAccountToken").is_object() {
            count += 1;
            token(source.at("serviceAccountToken"), &item.child("serviceAccountToken"), at, errors);
        }
        let bundle = source.at("clusterTrustBundle");
        if bundle.is_object() {
            count += 1;
            trust_bundle(bundle, &item.child("clusterTrustBundle"), errors);
            let path = bundle.text("path");
            taken.take(path, path, at, errors);
        }
        let certificate = source.at("podCertificate");
        if certificate.is_object() {
            count += 1;
            pod_certificate(certificate, &mut taken, &item.child("podCertificate"), at, errors);
        }
        if count > 1 {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}

fn keyed<'a>(source: &'a Value, taken: &mut Taken<'a>, at: &Path, all: &Path, errors: &mut ErrorList) {
    let name = source.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    for (i, item) in source.list("items").iter().enumerate() {
        volumes::key_to_path(item, &at.child("items").index(i), errors);
        let path = item.text("path");
        if !path.is_empty() {
            taken.take(path, name, all, errors);
        }
    }
}

fn token(token: &Value, at: &Path, all: &Path, errors: &mut ErrorList) {
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    let seconds_at = at.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(&seconds_at, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&seconds_at, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    match token.text("path") {
        "" => errors.required(&all.child("path"), ""),
        path => paths::local_non_reserved(path, &all.child("path"), errors),
    }
}

fn trust_bundle(bundle: &Value, at: &Path, errors: &mut ErrorList) {
    const BUNDLE: &[Field] = &[
        ("Name", "name", Zero::Null),
        ("SignerName", "signerName", Zero::Null),
        ("LabelSelector", "labelSelector", Zero::Null),
        ("Optional", "optional", Zero::Null),
        ("Path", "path", Zero::Text),
    ];
    let selector = bundle.at("labelSelector");
    match (bundle.at("name").as_str(), bundle.at("signerName").as_str()) {
        (Some(_), Some(_)) => {
            let shown = show_with(bundle, BUNDLE, |field, value| match field {
                "labelSelector" => label_selector(value),
                _ => value.to_string(),
            });
            errors.invalid_shown(at, shown, "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&at.child("name"), "must be a valid object name");
            }
            for message in signer::bundle_name(name, signer::of_bundle_name(name).as_deref().unwrap_or("")) {
                errors.invalid(
                    &at.child("name"),
                    name,
                    format!("not a valid clustertrustbundlename: {message}"),
                );
            }
            if selector.is_object() {
                let detail = "labelSelector must be unset if name is specified";
                errors.invalid_shown(&at.child("labelSelector"), label_selector(selector), detail);
            }
        }
        (None, Some(name)) => {
            if name.is_empty() {
                errors.required(&at.child("signerName"), "must be a valid signer name");
            }
            signer::name(name, &at.child("signerName"), errors);
            check::label_selector(selector, &at.child("labelSelector"), errors);
        }
        (None, None) => errors.required(at, "either name or signerName must be specified"),
    }
    if bundle.text("path").is_empty() {
        errors.required(&at.child("path"), "");
    }
    paths::local_non_reserved(bundle.text("path"), &at.child("path"), errors);
}

fn pod_certificate<'a>(
    certificate: &'a Value,
    taken: &mut Taken<'a>,
    at: &Path,
    all: &Path,
    errors: &mut ErrorList,
) {
    let name = certificate.text("signerName");
    signer::name(name, &at.child("signerName"), errors);
    for (key, _) in certificate.map("userAnnotations").into_iter().flatten() {
        let at = at.child("userAnnotations");
        errors.each(&at, key.as_str(), names::qualified_name(&key.to_lowercase()));
    }
    let types = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    errors.one_of(&at.child("keyType"), certificate.text("keyType"), &types);
    if let Some(seconds) = certificate.int("maxExpirationSeconds") {
        let at = at.child("maxExpirationSeconds");
        if seconds < 3600 {
            errors.invalid(&at, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        let most = if signer::is_kubernetes(name) { 24 * 3600 } else { 91 * 24 * 3600 };
        if seconds > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.invalid(&at, seconds, detail);
        }
    }
    let mut count = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = certificate.text(field);
        if !path.is_empty() {
            count += 1;
            paths::local_non_reserved(path, &at.child(field), errors);
            taken.take(path, path, all, errors);
        }
    }
    if count == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, detail);
    }
}
