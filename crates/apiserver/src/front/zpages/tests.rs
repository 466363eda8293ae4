use std::time::Duration;

use http::HeaderMap;
use http::header::{ACCEPT, HeaderValue};

use super::accept::{Wanted, wanted};
use super::status::first_segments;
use super::{Page, flags};
use crate::config::Config;
use crate::front::negotiate::Encoding;

fn accept(text: &str, page: Page, cbor: bool) -> Result<Wanted, String> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_str(text).unwrap());
    wanted(&headers, page, cbor).map_err(|status| format!("{}: {}", status.code, status.message))
}

#[test]
fn forms() {
    let object = |encoding, version| Ok(Wanted::Object { encoding, version, pretty: false });
    let refused = Err(
        "406: only the following media types are accepted: application/json, application/yaml, text/plain"
            .to_owned(),
    );
    let cases = [
        ("", Ok(Wanted::Text)),
        ("*/*", Ok(Wanted::Text)),
        ("text/*", Ok(Wanted::Text)),
        ("text/plain;charset=utf-8", Ok(Wanted::Text)),
        ("text/html, text/plain;q=0.5", Ok(Wanted::Text)),
        ("text/plain;as=Flagz;g=config.k8s.io;v=v1beta1", refused.clone()),
        ("application/json", refused.clone()),
        ("text/html", refused.clone()),
        ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", object(Encoding::Json, "v1beta1")),
        ("application/*;v=v1beta1;g=config.k8s.io;as=Flagz", object(Encoding::Json, "v1beta1")),
        ("application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz", object(Encoding::Yaml, "v1alpha1")),
        ("application/json;v=v1;g=config.k8s.io;as=Flagz", refused.clone()),
        ("application/json;v=v1beta1;g=config.k8s.io;as=Statusz", refused.clone()),
        ("application/cbor;v=v1beta1;g=config.k8s.io;as=Flagz", refused.clone()),
        ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz;stream=watch", refused),
        ("application/json;v=v1beta1;g=config.k8s.io;as=Statusz,*/*;q=0.1", Ok(Wanted::Text)),
    ];
    for (text, wanted) in cases {
        assert_eq!(accept(text, Page::Flagz, false), wanted, "{text}");
    }
    let cbor = accept("application/cbor;v=v1beta1;g=config.k8s.io;as=Statusz", Page::Statusz, true);
    assert_eq!(cbor, object(Encoding::Cbor, "v1beta1"));
}

#[test]
fn values_are_as_flags_are_written() {
    let config = Config { feature_gates: vec![("A".into(), true), ("B".into(), false)], ..Config::default() };
    let flags = flags::flags(&config);
    let of = |name: &str| flags[name].as_str();
    assert_eq!(of("feature-gates"), ":A=true,:B=false");
    assert_eq!(of("event-ttl"), "1h0m0s");
    assert_eq!(of("authorization-webhook-cache-unauthorized-ttl"), "30s");
    assert_eq!(of("authorization-mode"), "[Node,RBAC]");
    assert_eq!(of("min-request-timeout"), "1800");
    assert_eq!(flags::duration(Duration::from_millis(61_500)), "1m1.5s");
    assert_eq!(flags::duration(Duration::ZERO), "0s");
}

#[test]
fn paths_without_the_api() {
    let paths =
        ["/", "/api", "/apis/apps/v1", "/healthz/ping", "/healthz", "/metrics/slis", "/openapi/v3", "x"];
    let paths = paths.iter().map(ToString::to_string).collect();
    assert_eq!(first_segments(paths), ["/healthz", "/metrics"]);
}
