//! People with tokens of an OpenID provider, which changes its keys, goes away and comes back; and of Amazon Cognito as
//! the emulator has it. What a token may say is in the unit tests of `http/auth/open_id`.

use std::{
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    http::{Answer, Caller},
    moto::Moto,
    provider::Provider,
    wait::eventually,
};

const HQ: &str = "/v1/buildings/hq/presence";
const ANNEX: &str = "/v1/buildings/annex/presence";

/// A server that goes by this `jwt`.
fn site(jwt: &str) -> Site {
    let head = TWO_BUILDINGS.replace("jwt = { local = true }", &format!("jwt = {jwt}"));
    assert!(head.contains(jwt));
    Site::new(&format!("{head}{FILE_SINK}"))
}

fn site_of(provider: &Provider) -> Site {
    site(&format!(r#"{{ issuer = "{}", audience = "turnstiled", roles_claim = "groups" }}"#, provider.issuer))
}

/// Claims of a token that holds for ten minutes.
fn claims(issuer: &str, groups: &[&str]) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": issuer, "aud": "turnstiled", "sub": "ada", "exp": now + 600, "groups": groups })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

async fn status(daemon: &Daemon, token: &str, path: &str) -> u16 {
    daemon.person(token).get(path).await.status
}

#[tokio::test]
async fn a_providers_groups_are_roles_everywhere_or_in_one_building() {
    let Some(mut provider) = Provider::start() else { return };
    let site = site_of(&provider);
    let daemon = site.start();
    for alg in ["RS256", "ES256"] {
        let claims = claims(&provider.issuer, &["security@hq", "janitor"]);
        let token = provider.sign(alg, &claims);
        // the first request of all waits for the provider's keys
        assert_eq!(status(&daemon, &token, HQ).await, 200, "{alg}");
        assert_eq!(status(&daemon, &token, ANNEX).await, 403, "{alg}");
    }
    daemon.stop();
    let read: Vec<Value> = site.dump();
    assert!(read.iter().any(|event| event["type"] == "audit.read" && event["data"]["by"] == "person/ada"));
}

#[tokio::test]
async fn tokens_that_are_not_for_this_server_are_refused_and_told_why() {
    let (Some(mut provider), Some(mut other)) = (Provider::start(), Provider::start()) else { return };
    let site = site_of(&provider);
    let daemon = site.start();
    let good = claims(&provider.issuer, &["security"]);
    assert_eq!(status(&daemon, &provider.sign("RS256", &good), HQ).await, 200);
    let unsigned = {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(json!({ "alg": "none" })), part(good.clone()))
    };
    let local = Site::with_files().token("security");
    for (token, why) in [
        (provider.sign("RS256", &with(good.clone(), "exp", json!(1_700_000_000))), "has expired"),
        (provider.sign("RS256", &with(good.clone(), "nbf", json!(9_999_999_999_u64))), "not valid yet"),
        (provider.sign("RS256", &with(good.clone(), "aud", json!("wiki"))), "not meant for this server"),
        (provider.sign("RS256", &with(good.clone(), "iss", json!(other.issuer))), "not of the issuer"),
        (other.sign("RS256", &good), "that its issuer does not show"),
        (provider.sign_as("nobody", &good), "that its issuer does not show"),
        (unsigned, "no JWT that can be read"),
        (local, "not signed with RS256 or ES256"),
    ] {
        let answer = daemon.person(&token).get(HQ).await;
        let detail = answer.expect(401)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(why), "{detail} does not say {why}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let metrics = daemon.anyone().get("/metrics").await.body;
    assert!(metrics.contains("turnstiled_auth_failures_total{kind=\"person\"} 8"), "{metrics}");
}

#[tokio::test]
async fn keys_change_and_a_provider_that_is_away_locks_nobody_out() {
    let Some(mut provider) = Provider::start() else { return };
    let site = site_of(&provider);
    let daemon = site.start();
    let claims = claims(&provider.issuer, &["security"]);
    let first = provider.sign("RS256", &claims);
    assert_eq!(status(&daemon, &first, HQ).await, 200);

    provider.go_away();
    provider.come_back();
    let second = provider.sign("RS256", &claims);
    // within the interval of looks
    eventually("the new key is known", async || (status(&daemon, &second, HQ).await == 200).then_some(()))
        .await;
    // from an address that has not failed yet
    let status_of_first =
        daemon.person(&first).status(Ipv4Addr::new(127, 0, 0, 2), Method::GET, HQ, "").await;
    assert_eq!(status_of_first, 401, "the old key is withdrawn");

    provider.go_away();
    assert_eq!(status(&daemon, &second, HQ).await, 200);
    daemon.stop();
    let daemon = site.start();
    assert_eq!(status(&daemon, &second, HQ).await, 200, "the keys lie in the data directory");
    let metrics = daemon.anyone().get("/metrics").await.body;
    assert!(metrics.contains("turnstiled_provider_keys 2"), "{metrics}");
}

#[tokio::test]
async fn a_break_glass_key_is_securitys_of_one_building_while_nobody_gets_a_token() {
    let Some(mut provider) = Provider::start() else { return };
    let site = site_of(&provider);
    provider.go_away();
    let add = ["keys", "add", "--building", "hq", "--kind", "break-glass", "--name", "envelope 1"];
    let key = site.run_well(&add).trim().to_owned();
    let daemon = site.start();
    assert_eq!(status(&daemon, &key, HQ).await, 200);
    assert_eq!(status(&daemon, &key, ANNEX).await, 403);
    assert_eq!(status(&daemon, &key, "/v1/dead-letters").await, 403);
    let swipe = json!({ "card_id": "C1", "gate_id": "north-1" });
    daemon.device(&key).post("/v1/buildings/hq/exits", &swipe).await.expect(403);
    let gate_key = site.key("hq");
    assert_eq!(status(&daemon, &gate_key, HQ).await, 401, "a turnstile's key is no person's");

    let id = key.split_once('.').unwrap().0;
    site.run_well(&["keys", "revoke", id]);
    assert_eq!(status(&daemon, &key, HQ).await, 401);
    let (_, stderr) = daemon.stop();
    assert!(stderr.contains("a break-glass key is used") && !stderr.contains(&key), "{stderr}");
    let by = format!("person/break-glass:{id}");
    assert!(
        site.dump().iter().any(|event| event["type"] == "audit.read" && event["data"]["by"] == by.as_str())
    );
}

/// The emulator's tokens have the issuer of the real service, so the keys are named beside it.
#[tokio::test]
async fn cognitos_two_kinds_of_token_are_taken() {
    let Some(moto) = Moto::start() else { return };
    let cognito = Cognito::new(&moto).await;
    let site = site(&format!(
        r#"{{ issuer = "{}", audience = "{}", jwks_url = "{}" }}"#,
        cognito.issuer, cognito.client_id, cognito.keys_url
    ));
    let daemon = site.start();
    let tokens = cognito.sign_in("ada", "security").await;
    for kind in ["AccessToken", "IdToken"] {
        let token = tokens[kind].as_str().unwrap();
        daemon.person(token).get(HQ).await.expect(200);
        assert_eq!(status(&daemon, token, "/v1/dead-letters").await, 403);
    }
    let other_client = cognito.client().await;
    let foreign = Cognito { client_id: other_client, ..cognito };
    let tokens = foreign.sign_in("bob", "security").await;
    for kind in ["AccessToken", "IdToken"] {
        let detail =
            daemon.person(tokens[kind].as_str().unwrap()).get(HQ).await.expect(401)["detail"].clone();
        assert!(detail.as_str().unwrap().contains("not meant for this server"), "{kind}: {detail}");
    }
}

/// A user pool of the emulator.
struct Cognito {
    caller: Caller,
    pool: String,
    client_id: String,
    issuer: String,
    keys_url: String,
}

impl Cognito {
    async fn new(moto: &Moto) -> Self {
        let credentials = "AWS4-HMAC-SHA256 Credential=test/20261121/eu-central-1/cognito-idp/aws4_request";
        let caller = Caller::new(moto.endpoint_url(), Some(("Authorization", credentials.to_owned())));
        let pool =
            call(&caller, "CreateUserPool", json!({ "PoolName": "people" })).await["UserPool"]["Id"].clone();
        let pool = pool.as_str().unwrap().to_owned();
        let issuer = format!("https://cognito-idp.eu-central-1.amazonaws.com/{pool}");
        let keys_url = format!("{}/{pool}/.well-known/jwks.json", moto.endpoint_url());
        let mut cognito = Self { caller, pool, client_id: String::new(), issuer, keys_url };
        cognito.client_id = cognito.client().await;
        cognito
    }

    /// One more client of the pool.
    async fn client(&self) -> String {
        let body = json!({ "UserPoolId": self.pool, "ClientName": "desk", "ExplicitAuthFlows": ["ALLOW_ADMIN_USER_PASSWORD_AUTH"] });
        let made = call(&self.caller, "CreateUserPoolClient", body).await;
        made["UserPoolClient"]["ClientId"].as_str().unwrap().to_owned()
    }

    /// A new user of a group; the tokens.
    async fn sign_in(&self, user: &str, group: &str) -> Value {
        const PASSWORD: &str = "Turnstile-1!";
        let (caller, pool) = (&self.caller, &self.pool);
        call(caller, "AdminCreateUser", json!({ "UserPoolId": pool, "Username": user })).await;
        let password =
            json!({ "UserPoolId": pool, "Username": user, "Password": PASSWORD, "Permanent": true });
        call(caller, "AdminSetUserPassword", password).await;
        // the second user's group is there already
        self.caller_try("CreateGroup", json!({ "UserPoolId": pool, "GroupName": group })).await;
        call(
            caller,
            "AdminAddUserToGroup",
            json!({ "UserPoolId": pool, "Username": user, "GroupName": group }),
        )
        .await;
        let sign_in = json!({ "UserPoolId": pool, "ClientId": self.client_id, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH",
            "AuthParameters": { "USERNAME": user, "PASSWORD": PASSWORD } });
        call(caller, "AdminInitiateAuth", sign_in).await["AuthenticationResult"].clone()
    }

    async fn caller_try(&self, action: &str, body: Value) {
        request(&self.caller, action, &body).await;
    }
}

async fn request(caller: &Caller, action: &str, body: &Value) -> Answer {
    let target = format!("AWSCognitoIdentityProviderService.{action}");
    let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.1")];
    caller.send(Method::POST, "/", &headers, &body.to_string()).await
}

async fn call(caller: &Caller, action: &str, body: Value) -> Value {
    let answer = request(caller, action, &body).await;
    assert_eq!(answer.status, 200, "{action}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_default()
}
