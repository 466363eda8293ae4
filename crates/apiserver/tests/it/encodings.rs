//! What is asked for in CBOR or protobuf, and how far the server goes along.

use apiserver::Config;
use http_body_util::{BodyExt, Full};
use machinery::codec::cbor;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{MAPS, Server, admin, config_map, server, server_with};

const CBOR: &str = "application/cbor";

async fn with_cbor() -> Server {
    let feature_gates = vec![("CBORServingAndStorage".to_owned(), true)];
    server_with(Config { feature_gates, ..Config::default() }).await
}

/// A request in one encoding, answered in another: status, type of the answer, answer.
async fn ask(
    s: &Server,
    method: &str,
    path: &str,
    (content, accept): (&str, &str),
    body: Vec<u8>,
) -> (u16, String, Vec<u8>) {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", content).header("accept", accept);
    let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
    let response = s.api.service(admin()).oneshot(request).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.map_err(|e| e.to_string()).unwrap().to_bytes();
    (status, kind, bytes.to_vec())
}

fn in_cbor(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    cbor::encode(None, value, &mut out);
    out
}

#[tokio::test]
async fn cbor_is_refused_unless_switched_on() {
    let s = server().await;
    let (code, kind, _) = ask(&s, "GET", MAPS, ("", CBOR), Vec::new()).await;
    assert_eq!((code, &*kind), (406, "application/json"));
    let body = in_cbor(&config_map("a"));
    let (code, _, answer) = ask(&s, "POST", MAPS, (CBOR, "application/json"), body).await;
    assert_eq!(code, 415);
    assert!(String::from_utf8_lossy(&answer).contains("application/vnd.kubernetes.protobuf\""));
}

#[tokio::test]
async fn objects_come_and_go_in_cbor() {
    let s = with_cbor().await;
    let mut map = config_map("a");
    map["binaryData"] = json!({"b": "aGk="});
    let (code, kind, answer) = ask(&s, "POST", MAPS, (CBOR, CBOR), in_cbor(&map)).await;
    assert_eq!((code, &*kind), (201, CBOR));
    assert_eq!(answer[..3], cbor::PREFIX);
    let made = cbor::decode(&answer).unwrap();
    assert_eq!((&made["kind"], &made["binaryData"]), (&json!("ConfigMap"), &map["binaryData"]));
    // bytes go as bytes
    assert!(answer.windows(4).any(|w| w == [0xd6, 0x42, b'h', b'i']));

    let applied =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"x": "y"}});
    let path = format!("{MAPS}/b?fieldManager=m");
    let apply = ("application/apply-patch+cbor", "application/json");
    let (code, _, _) = ask(&s, "PATCH", &path, apply, in_cbor(&applied)).await;
    assert_eq!(code, 201);

    let (_, kind, answer) = ask(&s, "GET", MAPS, ("", CBOR), Vec::new()).await;
    let list = cbor::decode(&answer).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let names: Vec<&str> = items.filter_map(|i| i["metadata"]["name"].as_str()).collect();
    assert_eq!((&*kind, &list["kind"], &*names), (CBOR, &json!("ConfigMapList"), &["a", "b"][..]));

    let (code, kind, answer) = ask(&s, "GET", &format!("{MAPS}/none"), ("", CBOR), Vec::new()).await;
    assert_eq!((code, &*kind), (404, CBOR));
    assert_eq!(cbor::decode(&answer).unwrap()["reason"], "NotFound");
}

#[tokio::test]
async fn a_watch_in_cbor_is_a_sequence() {
    let s = with_cbor().await;
    s.post(MAPS, config_map("a")).await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let (code, kind, answer) = ask(&s, "GET", &path, ("", CBOR), Vec::new()).await;
    assert_eq!((code, &*kind), (200, "application/cbor-seq"));
    let event = cbor::decode(&answer).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
}

#[tokio::test]
async fn metadata_of_lists_and_of_objects_are_not_the_same() {
    let s = server().await;
    s.post(MAPS, config_map("a")).await;
    let of = |kind: &str| format!("application/json;as={kind};v=v1;g=meta.k8s.io");
    for (path, kind, message) in [
        (
            MAPS.to_owned(),
            "PartialObjectMetadata",
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            format!("{MAPS}/a"),
            "PartialObjectMetadataList",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ] {
        let (code, _, answer) = ask(&s, "GET", &path, ("", &of(kind)), Vec::new()).await;
        let status: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((code, status["message"].as_str().unwrap()), (406, message));
    }
}
