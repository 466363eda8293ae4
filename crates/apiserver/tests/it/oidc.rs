//! OpenID providers: one in process with keys that change, by flags and by a configuration file.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use apiserver::Config;
use apiserver::config::{Access, Oidc};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use pki::PrivateKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::https::Https;
use crate::wire::{Wire, until};

/// A provider with its documents by path.
struct Provider {
    server: Https,
    documents: Arc<Mutex<HashMap<String, String>>>,
    cache_control: Arc<Mutex<String>>,
    reads: Arc<AtomicUsize>,
}

struct Key {
    key: PrivateKey,
    id: &'static str,
}

impl Key {
    fn elliptic(id: &'static str) -> Self {
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let random = ring::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        Self { key: PrivateKey::from_pem(&pem).unwrap(), id }
    }

    fn rsa(id: &'static str) -> Self {
        Self { key: PrivateKey::from_pem(&PrivateKey::generate_rsa_pem().unwrap()).unwrap(), id }
    }

    fn jwk(&self) -> Value {
        let mut jwk = self.key.public().jwk();
        jwk["kid"] = self.id.into();
        jwk
    }

    fn token(&self, claims: &Value) -> String {
        self.headed(&json!({"alg": self.key.algorithm(), "kid": self.id}), claims)
    }

    fn headed(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Provider {
    async fn start(keys: &[&Key]) -> Self {
        let documents: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let (cache_control, reads) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (theirs, caching, count) = (documents.clone(), cache_control.clone(), reads.clone());
        let server = Https::start(move |request| {
            let path = request.uri().path();
            if path == "/keys" {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let mut answer = http::Response::builder();
            if !caching.lock().is_empty() {
                answer = answer.header("cache-control", caching.lock().as_str());
            }
            match theirs.lock().get(path) {
                Some(text) if text.starts_with("Bearer ") => {
                    let (want, text) = text.split_once('\n').unwrap();
                    let good = request.headers().get("authorization").is_some_and(|got| got == want);
                    answer.status(if good { 200 } else { 401 }).body(text.to_owned()).unwrap()
                }
                Some(text) => answer.body(text.clone()).unwrap(),
                None => answer.status(404).body("nothing here".to_owned()).unwrap(),
            }
        });
        let provider = Self { server: server.await, documents, cache_control, reads };
        let discovery = json!({"issuer": provider.url(), "jwks_uri": provider.server.url("/keys")});
        provider.put("/.well-known/openid-configuration", discovery.to_string());
        provider.sign_with(keys);
        provider
    }

    fn url(&self) -> String {
        self.server.url("")
    }

    fn put(&self, path: &str, text: String) {
        self.documents.lock().insert(path.to_owned(), text);
    }

    fn sign_with(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|k| k.jwk()).collect();
        self.put("/keys", json!({"keys": keys}).to_string());
    }

    /// Good claims, with some changed (null: without).
    fn claims(&self, changes: Value) -> Value {
        let now = now();
        let mut claims = json!({"iss": self.url(), "aud": "r8s", "sub": "jane", "iat": now, "exp": now + 600, "jti": "j1"});
        for (key, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
                other => claims[key] = other.clone(),
            }
        }
        claims
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn who(wire: &Wire, token: &str) -> Result<Value, String> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    match wire.send(token, "POST", path, review).await {
        (201, answer) => Ok(answer["status"]["userInfo"].clone()),
        (code, answer) => Err(format!("{code} {answer}")),
    }
}

/// A token that is not good: nothing but 401 is said of it.
async fn refused(wire: &Wire, what: &str, token: &str) {
    let (code, answer) = wire.send(token, "GET", "/api/v1/namespaces", Value::Null).await;
    assert_eq!(
        (code, answer),
        (
            401,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
        ),
        "{what}"
    );
}

fn flags(provider: &Provider, dir: &TempDir) -> Oidc {
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, &provider.server.ca).unwrap();
    Oidc {
        issuer_url: provider.url(),
        client_id: "r8s".to_owned(),
        ca_file: Some(ca),
        groups_claim: "groups".to_owned(),
        groups_prefix: "g:".to_owned(),
        ..Oidc::default()
    }
}

fn with_oidc(oidc: Oidc) -> Config {
    Config { access: Access { oidc, ..Access::default() }, ..Config::default() }
}

#[tokio::test]
async fn flags_name_a_provider() {
    let (first, second, other) = (Key::rsa("one"), Key::rsa("two"), Key::rsa("one"));
    let provider = Provider::start(&[&first, &second]).await;
    let dir = tempfile::tempdir().unwrap();
    let required = vec![("hd".to_owned(), "x".to_owned())];
    let wire = Wire::start(with_oidc(Oidc { required_claims: required, ..flags(&provider, &dir) })).await;
    let claims = |changes: Value| {
        let mut claims = provider.claims(changes);
        if claims.get("hd").is_none() {
            claims["hd"] = "x".into();
        }
        claims
    };
    let token = first.token(&claims(json!({"groups": ["a", "b"]})));
    let user = until("the provider is found", || who(&wire, &token)).await;
    assert_eq!(
        user,
        json!({"username": format!("{}#jane", provider.url()), "groups": ["g:a", "g:b", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=j1"]}})
    );
    let user = who(&wire, &second.token(&claims(json!({"groups": "a"})))).await.unwrap();
    assert_eq!(user["groups"], json!(["g:a", "system:authenticated"]));
    who(&wire, &first.headed(&json!({"alg": "RS256"}), &claims(json!({})))).await.unwrap();

    let check = async |what: &str, changes: Value| {
        refused(&wire, what, &first.token(&claims(changes))).await;
    };
    check("another audience", json!({"aud": ["x", "y"]})).await;
    check("no audience", json!({"aud": null})).await;
    check("another issuer", json!({"iss": "https://127.0.0.1:1"})).await;
    check("expired", json!({"exp": now() - 1})).await;
    check("no expiry", json!({"exp": null})).await;
    check("not yet valid", json!({"nbf": now() + 120})).await;
    check("without a name", json!({"sub": null})).await;
    check("a name that is no text", json!({"sub": 5})).await;
    check("groups that are no texts", json!({"groups": [5]})).await;
    check("without what is required", json!({"hd": "y"})).await;
    who(&wire, &first.token(&claims(json!({"nbf": now() + 30})))).await.unwrap();

    let good = claims(json!({}));
    refused(&wire, "another key", &other.token(&good)).await;
    refused(&wire, "an unknown key", &Key::rsa("three").token(&good)).await;
    let unsigned = format!("{}.", first.headed(&json!({"alg": "none"}), &good).rsplit_once('.').unwrap().0);
    refused(&wire, "not signed", &unsigned).await;
    refused(&wire, "none with a signature", &first.headed(&json!({"alg": "none"}), &good)).await;
    let header = json!({"alg": "HS256", "kid": "one"});
    refused(&wire, "an algorithm with a shared key", &first.headed(&header, &good)).await;
    let header = json!({"alg": "RS256", "kid": "one", "crit": ["x"]});
    refused(&wire, "something critical", &first.headed(&header, &good)).await;
    refused(&wire, "an algorithm that was not named", &Key::elliptic("one").token(&good)).await;
    for text in ["x", "a.b", "a.b.c", "..", "a.b.c.d"] {
        refused(&wire, text, text).await;
    }
}

#[tokio::test]
async fn keys_change() {
    let (first, second, third) = (Key::elliptic("one"), Key::elliptic("two"), Key::elliptic("three"));
    let mut provider = Provider::start(&[&first]).await;
    let dir = tempfile::tempdir().unwrap();
    let oidc = Oidc { signing_algorithms: vec!["ES256".into(), "RS256".into()], ..flags(&provider, &dir) };
    let wire = Wire::start(with_oidc(Oidc { username_prefix: "-".to_owned(), ..oidc })).await;
    let good = provider.claims(json!({}));
    let token = first.token(&good);
    until("the provider is found", || who(&wire, &token)).await;
    provider.sign_with(&[&second]);
    assert_eq!(who(&wire, &first.token(&good)).await.unwrap()["username"], "jane", "known keys hold");
    assert_eq!(who(&wire, &second.token(&good)).await.unwrap()["username"], "jane", "new keys are read");
    refused(&wire, "an old key", &first.token(&good)).await;
    // while the provider is down, known keys hold
    provider.server.stop();
    who(&wire, &second.token(&good)).await.unwrap();
    refused(&wire, "unknown while the provider is down", &third.token(&good)).await;
    who(&wire, &second.token(&good)).await.unwrap();
    provider.server.go().await;
    // keys that may be kept are
    *provider.cache_control.lock() = "max-age=3600".to_owned();
    provider.sign_with(&[&second, &third]);
    who(&wire, &third.token(&good)).await.unwrap();
    let reads = provider.reads.load(Ordering::SeqCst);
    refused(&wire, "an old key", &first.token(&good)).await;
    assert_eq!(provider.reads.load(Ordering::SeqCst), reads, "the keys are not read again");
}

#[tokio::test]
async fn a_provider_may_come_later() {
    let key = Key::elliptic("one");
    let mut provider = Provider::start(&[&key]).await;
    let dir = tempfile::tempdir().unwrap();
    let oidc = Oidc { signing_algorithms: vec!["ES256".into()], ..flags(&provider, &dir) };
    provider.server.stop();
    let wire = Wire::start(with_oidc(oidc)).await;
    let token = key.token(&provider.claims(json!({})));
    refused(&wire, "not initialized", &token).await;
    provider.server.go().await;
    until("the provider is found", || who(&wire, &token)).await;
}

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

/// One `jwt` of a configuration; `more` besides its issuer.
fn jwt(provider: &Provider, issuer: Value, more: Value) -> Value {
    let mut out = json!({"issuer": {"url": provider.url(), "audiences": ["r8s"],
        "certificateAuthority": provider.server.ca}});
    for (key, value) in issuer.as_object().unwrap() {
        out["issuer"][key] = value.clone();
    }
    for (key, value) in more.as_object().unwrap() {
        out[key] = value.clone();
    }
    out
}

fn configuration(dir: &TempDir, jwts: &[Value], anonymous: &str) -> Config {
    let path = dir.path().join("authentication.yaml");
    write(dir, jwts, anonymous);
    Config { access: Access { authentication_config: Some(path), ..Access::default() }, ..Config::default() }
}

fn write(dir: &TempDir, jwts: &[Value], anonymous: &str) {
    let text = format!("{HEAD}jwt: {}\n{anonymous}", json!(jwts));
    // as a volume of a ConfigMap is changed: whole
    let (new, path) = (dir.path().join("new"), dir.path().join("authentication.yaml"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn expressions_map_claims() {
    let (first, second) = (Key::elliptic("one"), Key::elliptic("two"));
    let (one, two) = (Provider::start(&[&first]).await, Provider::start(&[&second]).await);
    // the second one's discovery document is elsewhere
    let discovery = two.documents.lock().remove("/.well-known/openid-configuration").unwrap();
    two.put("/elsewhere", discovery);
    let dir = tempfile::tempdir().unwrap();
    let mapped = jwt(
        &one,
        json!({"audiences": ["a", "r8s"], "audienceMatchPolicy": "MatchAny"}),
        json!({
            "claimMappings": {
                "username": {"expression": "claims.email.split('@')[0] + ':' + claims.org.name"},
                "groups": {"expression": "claims.roles.split(',').filter(r, r != 'none')"},
                "uid": {"expression": "claims.sub"},
                "extra": [
                    {"key": "example.org/level", "valueExpression": "string(claims.level)"},
                    // numbers are floats, as Go reads them
                    {"key": "example.org/double", "valueExpression": "string(type(claims.level) == double)"},
                    {"key": "example.org/lists", "valueExpression": "claims.?lists.orValue([])"},
                    {"key": "example.org/escaped", "valueExpression": "claims.example__dot__org"},
                ],
            },
            "claimValidationRules": [
                {"expression": "claims.email_verified == true", "message": "the address must be verified"},
                {"expression": "claims.exp - claims.iat <= 3600", "message": "lives too long"},
                {"claim": "hd", "requiredValue": "x"},
            ],
            "userValidationRules": [
                {"expression": "!user.username.startsWith('system:')", "message": "reserved"},
                {"expression": "user.groups.all(g, !g.startsWith('system:'))"},
                {"expression": "user.uid != '' && 'example.org/level' in user.extra"},
            ],
        }),
    );
    let plain = jwt(
        &two,
        json!({"discoveryURL": two.server.url("/elsewhere")}),
        json!({"claimMappings": {"username": {"claim": "email", "prefix": "two:"},
            "groups": {"claim": "groups", "prefix": ""}, "uid": {"claim": "id"}}}),
    );
    let anonymous = "anonymous: {enabled: true, conditions: [{path: /livez}, {path: /readyz}]}\n";
    let wire = Wire::start(configuration(&dir, &[mapped, plain], anonymous)).await;
    let base = json!({"email": "jane@x.org", "email_verified": true, "org": {"name": "o"}, "roles": "a,none,b",
        "level": 3, "hd": "x", "example.org": "dotted", "aud": ["x", "a"]});
    let claims = |changes: Value| {
        let mut all = base.clone();
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        one.claims(all)
    };
    let good = first.token(&claims(json!({})));
    let user = until("the provider is found", || who(&wire, &good)).await;
    assert_eq!(
        user,
        json!({"username": "jane:o", "uid": "jane", "groups": ["a", "b", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=j1"],
                "example.org/level": ["3"], "example.org/double": ["true"], "example.org/escaped": ["dotted"]}})
    );
    let check = async |what: &str, changes: Value| {
        refused(&wire, what, &first.token(&claims(changes))).await;
    };
    check("not verified", json!({"email_verified": false})).await;
    check("lacks what a rule reads", json!({"email_verified": null})).await;
    check("lives too long", json!({"exp": now() + 9000})).await;
    check("lacks a claim", json!({"hd": null})).await;
    check("a name that is reserved", json!({"email": "system:admin@x.org"})).await;
    check("a group that is reserved", json!({"roles": "system:masters"})).await;
    check("no address", json!({"email": null})).await;
    check("groups of another type", json!({"roles": ["a"]})).await;
    check("the other's audience", json!({"aud": "z"})).await;

    let token = |changes: Value| {
        let mut all = json!({"email": "joe@x", "id": "7", "groups": ["g"]});
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        second.token(&two.claims(all))
    };
    let good = token(json!({}));
    let user = until("the second provider is found", || who(&wire, &good)).await;
    assert_eq!((&user["username"], &user["uid"]), (&json!("two:joe@x"), &json!("7")));
    refused(&wire, "address not verified", &token(json!({"email_verified": false}))).await;
    refused(&wire, "verified in words", &token(json!({"email_verified": "true"}))).await;
    who(&wire, &token(json!({"email_verified": true}))).await.unwrap();
    refused(&wire, "the other provider's key", &first.token(&two.claims(json!({"email": "a", "id": "1"}))))
        .await;

    // nobody in particular comes to some paths only
    assert_eq!(wire.send("", "GET", "/livez", Value::Null).await.0, 200);
    assert_eq!(wire.send("", "GET", "/healthz", Value::Null).await.0, 401);
    assert_eq!(wire.send("", "GET", "/livez/ping", Value::Null).await.0, 401);
}

#[tokio::test]
async fn the_file_may_change() {
    let (first, second) = (Key::elliptic("one"), Key::elliptic("two"));
    let one = Provider::start(&[&first]).await;
    let mut two = Provider::start(&[&second]).await;
    let dir = tempfile::tempdir().unwrap();
    let named = |provider: &Provider, prefix: &str| {
        jwt(provider, json!({}), json!({"claimMappings": {"username": {"claim": "sub", "prefix": prefix}}}))
    };
    let wire = Wire::start(configuration(&dir, &[named(&one, "1:")], "")).await;
    let (token, other) = (first.token(&one.claims(json!({}))), second.token(&two.claims(json!({}))));
    until("the provider is found", || who(&wire, &token)).await;
    refused(&wire, "not configured", &other).await;

    // what is wrong changes nothing, and what anonymous requests may do stays
    write(&dir, &[jwt(&one, json!({"audiences": []}), json!({}))], "");
    write(&dir, &[named(&one, "x:")], "anonymous: {enabled: false}\n");
    assert_eq!(who(&wire, &token).await.unwrap()["username"], "1:jane");

    // a provider that can't be found keeps the others waiting
    two.server.stop();
    write(&dir, &[named(&one, "2:"), named(&two, "two:")], "");
    refused(&wire, "not found yet", &other).await;
    assert_eq!(who(&wire, &token).await.unwrap()["username"], "1:jane");
    two.server.go().await;
    let user = until("the file is taken", || who(&wire, &other)).await;
    assert_eq!(user["username"], "two:jane");
    assert_eq!(who(&wire, &token).await.unwrap()["username"], "2:jane");

    write(&dir, &[named(&two, "3:")], "");
    until("the first one is gone", || async {
        let user = who(&wire, &other).await?;
        if user["username"] == "3:jane" { Ok(()) } else { Err(user.to_string()) }
    })
    .await;
    refused(&wire, "not configured any more", &token).await;
}

#[tokio::test]
async fn groups_may_stand_elsewhere() {
    let (first, second) = (Key::rsa("one"), Key::rsa("two"));
    let (one, two) = (Provider::start(&[&first]).await, Provider::start(&[&second]).await);
    let dir = tempfile::tempdir().unwrap();
    let oidc = flags(&one, &dir);
    // one certificate file for both
    std::fs::write(dir.path().join("ca.crt"), format!("{}\n{}", one.server.ca, two.server.ca)).unwrap();
    let wire = Wire::start(with_oidc(oidc)).await;
    two.put("/groups", second.token(&two.claims(json!({"groups": ["far"]}))));
    two.put(
        "/secret",
        format!("Bearer s3cret\n{}", second.token(&two.claims(json!({"groups": ["hidden"]})))),
    );
    let token = |path: &str, access: Value| {
        first.token(&one.claims(json!({"_claim_names": {"groups": "src"},
            "_claim_sources": {"src": {"endpoint": two.server.url(path), "access_token": access}}})))
    };
    let groups = async |token: &str| who(&wire, token).await.map(|user| user["groups"].clone());
    let good = token("/groups", Value::Null);
    let found = until("the provider is found", || groups(&good)).await;
    assert_eq!(found, json!(["g:far", "system:authenticated"]));
    let found = groups(&token("/secret", json!("s3cret"))).await.unwrap();
    assert_eq!(found, json!(["g:hidden", "system:authenticated"]));
    refused(&wire, "a wrong access token", &token("/secret", json!("x"))).await;
    refused(&wire, "nothing there", &token("/nothing", Value::Null)).await;
}
