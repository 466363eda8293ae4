//! Pulling from a small registry in this process: tokens, broken connections, wrong digests, indexes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper_util::rt::TokioIo;
use runtime::cri::{ImageService, v1};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::world::{World, shell};

#[derive(Default)]
struct Registry {
    address: String,
    files: Mutex<HashMap<String, (String, Vec<u8>)>>,
    /// `user:password` that a token is given for.
    credentials: Option<&'static str>,
    /// Break off the first answer of each blob half way.
    flaky: AtomicBool,
    asked: Mutex<Vec<String>>,
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

impl Registry {
    async fn start(credentials: Option<&'static str>) -> Arc<Registry> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Arc::new(Registry { address, credentials, ..Registry::default() });
        let serving = Arc::clone(&registry);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = Arc::clone(&serving);
                let service = hyper::service::service_fn(move |request| {
                    let registry = Arc::clone(&registry);
                    async move { Ok::<_, Infallible>(registry.answer(&request)) }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        registry
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let said = |name: header::HeaderName| {
            request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
        };
        let plain = |status: StatusCode| Response::builder().status(status).body(full("")).unwrap();
        if path == "/token" {
            use base64::Engine;
            let wanted = base64::engine::general_purpose::STANDARD.encode(self.credentials.unwrap());
            return match said(header::AUTHORIZATION) == format!("Basic {wanted}") {
                true => Response::new(full(json!({ "token": "sesame" }).to_string())),
                false => plain(StatusCode::UNAUTHORIZED),
            };
        }
        if self.credentials.is_some() && said(header::AUTHORIZATION) != "Bearer sesame" {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.address);
            let body =
                json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] });
            return Response::builder()
                .status(StatusCode::UNAUTHORIZED)
                .header(header::WWW_AUTHENTICATE, challenge)
                .body(full(body.to_string()))
                .unwrap();
        }
        if path == "/v2/" {
            return plain(StatusCode::OK);
        }
        let Some((kind, bytes)) = self.files.lock().unwrap().get(&path).cloned() else {
            let body = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] });
            return Response::builder().status(StatusCode::NOT_FOUND).body(full(body.to_string())).unwrap();
        };
        let range = said(header::RANGE);
        let first_time = !self.asked.lock().unwrap().contains(&path);
        self.asked.lock().unwrap().push(path.clone());
        let answer = Response::builder().header(header::CONTENT_TYPE, kind);
        if let Some(from) =
            range.strip_prefix("bytes=").and_then(|range| range.split('-').next()?.parse::<usize>().ok())
        {
            let of = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, of);
            return answer.body(full(bytes[from..].to_vec())).unwrap();
        }
        let answer = answer.header(header::CONTENT_LENGTH, bytes.len());
        if path.contains("/blobs/") && first_time && self.flaky.load(Ordering::Relaxed) {
            let half = Bytes::from(bytes[..bytes.len() / 2].to_vec());
            let broken =
                futures_util::stream::iter([Ok(Frame::data(half)), Err(std::io::Error::other("cut"))]);
            return answer.body(BodyExt::boxed(StreamBody::new(broken))).unwrap();
        }
        answer.body(full(bytes)).unwrap()
    }

    fn put(&self, path: &str, kind: &str, bytes: Vec<u8>) -> String {
        let digest = digest(&bytes);
        let mut files = self.files.lock().unwrap();
        for name in [path.to_owned(), path.replace("TAGGED", &digest)] {
            files.insert(name, (kind.to_owned(), bytes.clone()));
        }
        digest
    }

    /// An index with one image of `layers` (each a file list) for this machine and one for another.
    fn image(&self, tag: &str, layers: &[&[(&str, &str)]]) {
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for files in layers {
            let tar = tar(files);
            diff_ids.push(digest(&tar));
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(&tar).unwrap();
            let gz = gz.finish().unwrap();
            let size = gz.len();
            let digest = self.put("/v2/app/blobs/TAGGED", "application/octet-stream", gz);
            descriptors.push(json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size }));
        }
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "User": "7", "Cmd": ["sh"], "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = config.to_string().into_bytes();
        let size = config.len();
        let digest = self.put("/v2/app/blobs/TAGGED", "application/octet-stream", config);
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size }, "layers": descriptors });
        let manifest = manifest.to_string().into_bytes();
        let size = manifest.len();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let digest = self.put("/v2/app/manifests/TAGGED", kind, manifest);
        let host = runtime::image::manifest::host_architecture();
        let entry = |architecture: &str, digest: &str| json!({ "mediaType": kind, "digest": digest, "size": size, "platform": { "architecture": architecture, "os": "linux" } });
        let other = format!("sha256:{}", "0".repeat(64));
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("other", &other), entry(host, &digest)] });
        let kind = "application/vnd.oci.image.index.v1+json";
        self.put(&format!("/v2/app/manifests/{tag}"), kind, index.to_string().into_bytes());
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let bytes = match *text {
            "BUSYBOX" => std::fs::read("/bin/busybox").unwrap(),
            text => text.as_bytes().to_vec(),
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn pull(world: &World, image: &str, auth: Option<v1::AuthConfig>) -> runtime::cri::Result<String> {
    let image = Some(v1::ImageSpec { image: image.into(), ..Default::default() });
    Ok(world.runtime.pull_image(v1::PullImageRequest { image, auth, sandbox_config: None }).await?.image_ref)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_and_runs() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Some("user:word")).await;
    registry.flaky.store(true, Ordering::Relaxed);
    registry.image(
        "v1",
        &[&[("bin/busybox", "BUSYBOX"), ("etc/gone", "x")], &[("etc/.wh.gone", ""), ("etc/new", "new\n")]],
    );
    let name = format!("{}/app:v1", registry.address);
    let error = pull(&world, &name, None).await.unwrap_err();
    assert!(error.message.contains("pull access denied"), "{error}");
    let auth = v1::AuthConfig { username: "user".into(), password: "word".into(), ..Default::default() };
    let reference = pull(&world, &name, Some(auth.clone())).await.unwrap();
    assert!(reference.starts_with(&format!("{}/app@sha256:", registry.address)), "{reference}");

    let wanted = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec { image: name.clone(), ..Default::default() }),
        verbose: false,
    };
    let image = world.runtime.image_status(wanted.clone()).await.unwrap().image.unwrap();
    assert_eq!(
        (image.uid.map(|v| v.value), image.repo_tags.as_slice()),
        (Some(7), [name.clone()].as_slice())
    );
    assert_eq!(image.repo_digests, [reference.clone()]);

    let sandbox = world.sandbox("pulled").await;
    let config = v1::ContainerConfig {
        image: Some(v1::ImageSpec { image: reference, ..Default::default() }),
        command: ["busybox", "sh", "-c", "busybox id -u; busybox ls /etc/gone; busybox cat /etc/new"]
            .map(str::to_owned)
            .to_vec(),
        ..shell("main", "")
    };
    let id = world.run(&sandbox, config).await;
    world.ended(&id).await;
    let log = world.log(&id).await;
    assert!(
        log.contains("stdout F 7") && log.contains("stdout F new") && log.contains("No such file"),
        "{log}"
    );

    // Again: only the manifests and the configuration are asked for.
    let before = registry.asked.lock().unwrap().len();
    pull(&world, &name, Some(auth.clone())).await.unwrap();
    assert_eq!(registry.asked.lock().unwrap().len() - before, 3);
    let error = pull(&world, &format!("{}/app:none", registry.address), Some(auth)).await.unwrap_err();
    assert!(error.is_not_found() && error.message.ends_with("app:none: not found"), "{error}");

    // In use: the image goes, what runs on it stays.
    let image = wanted.image.clone();
    world.runtime.remove_image(v1::RemoveImageRequest { image }).await.unwrap();
    assert!(world.runtime.image_status(wanted).await.unwrap().image.is_none());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_refused() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(None).await;
    registry.image("bad", &[&[("file", "right")]]);
    for (path, (kind, bytes)) in registry.files.lock().unwrap().iter_mut() {
        if path.contains("/blobs/") && kind == "application/octet-stream" && bytes.starts_with(&[0x1f, 0x8b])
        {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
    }
    let error = pull(&world, &format!("{}/app:bad", registry.address), None).await.unwrap_err();
    assert!(error.message.to_lowercase().contains("digest"), "{error}");
    let error = pull(&world, "127.0.0.1:1/app", None).await.unwrap_err();
    assert!(error.message.contains("refused"), "{error}");
    let error = pull(&world, "Not A Name", None).await.unwrap_err();
    assert!(error.message.contains("invalid reference format"), "{error}");
    world.close().await;
}
