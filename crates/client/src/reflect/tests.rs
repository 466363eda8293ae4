//! A scripted server: each request takes the next answer and must match what it expects.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::mpsc;

use super::*;
use crate::Informers;

type Chunks = mpsc::UnboundedReceiver<&'static str>;
type Script = Arc<Mutex<VecDeque<(&'static str, u16, Chunks)>>>;

fn answer(
    script: &Script,
    wants: &'static str,
    status: u16,
    chunks: &[&'static str],
) -> mpsc::UnboundedSender<&'static str> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for chunk in chunks {
        sender.send(*chunk).unwrap();
    }
    script.lock().unwrap().push_back((wants, status, receiver));
    sender
}

fn client(script: Script) -> kube::Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let next = script.lock().unwrap().pop_front();
        async move {
            let Some((wants, status, chunks)) = next else {
                // Nothing more to say: the watcher waits here until the test ends.
                return std::future::pending().await;
            };
            let uri = request.uri().to_string();
            assert!(uri.contains(wants), "{uri} has no {wants}");
            let stream = futures_util::stream::unfold(chunks, |mut chunks| async {
                let chunk = chunks.recv().await?;
                Some((Ok::<_, Infallible>(BodyFrame::data(Bytes::from_static(chunk.as_bytes()))), chunks))
            });
            Ok::<_, Infallible>(Response::builder().status(status).body(StreamBody::new(stream)).unwrap())
        }
    });
    crate::transport::in_process(service, "test")
}

const A1: &str = concat!(
    r#"{"type":"ADDED","object":{"metadata":{"namespace":"x","name":"a","uid":"1","resourceVersion":"1"}}}"#,
    "\n"
);
const A2: &str = concat!(
    r#"{"type":"MODIFIED","object":{"metadata":{"namespace":"x","name":"a","uid":"1","resourceVersion":"5"}}}"#,
    "\n"
);
const A3: &str = concat!(
    r#"{"type":"DELETED","object":{"metadata":{"namespace":"x","name":"a","uid":"1","resourceVersion":"6"}}}"#,
    "\n"
);
const END: &str = concat!(
    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"4","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
    "\n"
);
const GONE: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old","reason":"Expired","code":410}}"#,
    "\n"
);

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn streaming_list_then_changes_then_resume() {
    let script = Script::default();
    let first = answer(&script, "sendInitialEvents=true", 200, &[A1, END]);
    let second = answer(&script, "resourceVersion=5", 200, &[]);
    let informers = Informers::new(client(script), CancellationToken::new());
    let store = informers.of::<ConfigMap>();
    store.synced().await;
    let key = Key::new("x", "a");
    assert_eq!((store.len(), store.revision()), (1, 4));
    // An event in two chunks.
    first.send(&A2[..20]).unwrap();
    first.send(&A2[20..]).unwrap();
    assert!(store.caught_up("5", BOUND).await);
    drop(first);
    second.send(A3).unwrap();
    assert!(store.wait_for(&key, BOUND, |o| o.is_none()).await);
    assert_eq!(store.revision(), 6);
    // The same kind again is the same store.
    assert!(informers.of::<ConfigMap>().has_synced());
}

#[tokio::test]
async fn pages_where_streaming_is_not_served_and_lists_anew_when_gone() {
    let script = Script::default();
    let refusal = r#"{"kind":"Status","status":"Failure","message":"no","reason":"Invalid","code":422}"#;
    drop(answer(&script, "sendInitialEvents=true", 422, &[refusal]));
    drop(answer(
        &script,
        "limit=500",
        200,
        &[
            r#"{"metadata":{"resourceVersion":"3","continue":"c"},"items":[{"metadata":{"name":"a","resourceVersion":"1"}}]}"#,
        ],
    ));
    drop(answer(
        &script,
        "continue=c",
        200,
        &[
            r#"{"metadata":{"resourceVersion":"3"},"items":[{"metadata":{"name":"b","resourceVersion":"2"}}]}"#,
        ],
    ));
    let watch = answer(&script, "resourceVersion=3", 200, &[]);
    drop(answer(&script, "limit=500", 200, &[r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#]));
    let informers = Informers::new(client(script), CancellationToken::new());
    let store = informers.of::<ConfigMap>();
    store.synced().await;
    assert_eq!(store.len(), 2);
    watch.send(GONE).unwrap();
    assert!(store.caught_up("9", BOUND).await);
    assert!(store.is_empty());
}

#[tokio::test]
async fn server_trouble_is_waited_out() {
    let script = Script::default();
    drop(answer(&script, "sendInitialEvents=true", 503, &["not yet"]));
    let _open = answer(&script, "sendInitialEvents=true", 200, &[A1, END]);
    let informers = Informers::new(client(script), CancellationToken::new());
    let store = informers.of::<ConfigMap>();
    store.synced().await;
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn an_odd_object_does_not_hide_the_others() {
    const ODD: &str = concat!(
        r#"{"type":"ADDED","object":{"metadata":{"namespace":"x","name":"times","resourceVersion":"2"},"#,
        r#""status":{"conditions":[{"type":"T","status":"True","reason":"R","message":"","lastTransitionTime":null}]}}}"#,
        "\n",
        r#"{"type":"ADDED","object":{"metadata":{"namespace":"x","name":"b","resourceVersion":"3"},"spec":7}}"#,
        "\n"
    );
    const LATER: &str = concat!(
        r#"{"type":"ADDED","object":{"metadata":{"namespace":"x","name":"c","resourceVersion":"7"},"spec":7}}"#,
        "\n"
    );
    let script = Script::default();
    let first = answer(&script, "sendInitialEvents=true", 200, &[A1, ODD, END]);
    let second = answer(&script, "resourceVersion=7", 200, &[]);
    let informers = Informers::new(client(script), CancellationToken::new());
    let store = informers.of::<k8s_openapi::api::core::v1::Service>();
    store.synced().await;
    assert_eq!(store.len(), 2);
    assert!(store.get(&Key::new("x", "times")).is_some());
    // the watch goes on behind one that cannot be understood
    first.send(LATER).unwrap();
    drop(first);
    second.send(A3).unwrap();
    assert!(store.wait_for(&Key::new("x", "a"), BOUND, |o| o.is_none()).await);
}
