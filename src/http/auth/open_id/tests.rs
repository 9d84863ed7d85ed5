use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::{domain::provider::KeySource, metrics::Metrics};

/// Two P-256 keys made for these tests: PKCS #8, and the public point.
const ONE: (&str, [&str; 2]) = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/EvIWWwgJz2L7706kVwTosdudfuNSL0b+fETpBMxwOehRANCAAQn/uFKSaotbJeJ4VVwtcAc16QIeqK1nU7oHRDqQYnYOnniveG0RVCiL/Yz2I7zU1Tn2VkHw83wueSRnZ1XloRU",
    ["J_7hSkmqLWyXieFVcLXAHNekCHqitZ1O6B0Q6kGJ2Do", "eeK94bRFUKIv9jPYjvNTVOfZWQfDzfC55JGdnVeWhFQ"],
);
const OTHER: (&str, [&str; 2]) = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgY6jkwNw38jNWm8Hc4IixhAcC9e3PwUOwjq+sb6NbFrOhRANCAASZd+3RUYqFLFqzFvJWxcvILf9U+FAPU5E1cbFa4B3nuda5/Msg3IJHlMp/XqrrXJMjjPKNGSMGFaUSBoWU7OEF",
    ["mXft0VGKhSxasxbyVsXLyC3_VPhQD1ORNXGxWuAd57k", "1rn8yyDcgkeUyn9equtckyOM8o0ZIwYVpRIGhZTs4QU"],
);

fn provider(keys: KeySource) -> Provider {
    Provider {
        issuer: "https://id.example".parse().unwrap(),
        audience: vec!["turnstiled".into()],
        roles_claim: "groups".into(),
        keys,
    }
}

fn jwk(id: &str, [x, y]: [&str; 2]) -> Value {
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y })
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn claims() -> Value {
    let seconds = clock::wall().as_millis() / 1_000;
    json!({ "iss": "https://id.example", "aud": "turnstiled", "sub": "ada", "exp": seconds + 600, "groups": ["hr"] })
}

fn header(algorithm: Algorithm, id: Option<&str>) -> Header {
    Header { kid: id.map(str::to_owned), ..Header::new(algorithm) }
}

fn sign(id: Option<&str>, key: &str) -> String {
    let key = EncodingKey::from_ec_der(&STANDARD.decode(key).unwrap());
    encode(&header(Algorithm::ES256, id), &claims(), &key).unwrap()
}

fn verify(token: &str) -> Result<String, Refused> {
    let (open_id, _refresh) = OpenId::new(provider(KeySource::Discovery));
    let keys = KeySet::parse(key_set(&[jwk("one", ONE.1), jwk("two", OTHER.1)]).as_bytes()).unwrap();
    open_id.verify(token, &keys, clock::wall()).map(|person| person.subject)
}

#[test]
fn a_token_is_taken_by_the_key_that_it_names() {
    assert_eq!(verify(&sign(Some("one"), ONE.0)), Ok("ada".to_owned()));
    assert_eq!(verify(&sign(Some("two"), OTHER.0)), Ok("ada".to_owned()));
    assert_eq!(verify(&sign(Some("one"), OTHER.0)), Err(Refused::NotSigned));
    assert_eq!(verify(&sign(Some("three"), ONE.0)), Err(Refused::UnknownKey));
    assert_eq!(verify(&sign(None, ONE.0)), Err(Refused::UnknownKey), "which of the two?");
}

#[test]
fn unsigned_changed_and_confused_tokens_are_refused() {
    let good = sign(Some("one"), ONE.0);
    let parts: Vec<&str> = good.split('.').collect();
    let encoded = |header: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string());
    let with_header = |header: Value| format!("{}.{}.{}", encoded(header), parts[1], parts[2]);
    // the public key as a shared secret
    let secret = EncodingKey::from_secret(ONE.1.concat().as_bytes());
    let confused = encode(&header(Algorithm::HS256, Some("one")), &claims(), &secret).unwrap();
    let unsigned = format!("{}.{}.", encoded(json!({ "alg": "none", "kid": "one" })), parts[1]);
    let other_claims = format!("{}.{}.{}", parts[0], encoded(json!({ "sub": "eve" })), parts[2]);
    for token in [
        confused,
        unsigned,
        other_claims,
        with_header(json!({ "alg": "RS256", "kid": "one" })),
        with_header(json!({ "alg": "ES384", "kid": "one" })),
        with_header(json!({ "alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false })),
        with_header(json!({ "alg": "ES256", "kid": "one" })), // the signature covers the header, too
        good[..good.len() - 2].to_owned(),
        format!("{good}.{good}"),
        "a.b.c".to_owned(),
        String::new(),
    ] {
        assert_eq!(verify(&token), Err(Refused::NotSigned), "{token}");
    }
}

#[test]
fn an_unknown_key_is_a_reason_to_look_but_not_at_every_token() {
    let now = Instant::now();
    assert!(may_look(None, now), "the first look is waited for");
    assert!(!may_look(Some(now), now));
    assert!(!may_look(Some(now), now + MIN_FETCH_INTERVAL - Duration::from_millis(1)));
    assert!(may_look(Some(now), now + MIN_FETCH_INTERVAL));
}

#[tokio::test]
async fn keys_stay_until_the_provider_shows_others_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let from_file = || provider(KeySource::File(file.clone()));
    let look = async |provider: &Provider| fetch::fetch(&fetch::client().unwrap(), provider).await;
    let metrics = Metrics::new();
    let (old, new) = (sign(Some("one"), ONE.0), sign(Some("two"), OTHER.0));
    let (cache, mut known) = (dir.path().join("cache.json"), Vec::new());

    let (open_id, refresh) = OpenId::new(provider(KeySource::Discovery));
    std::fs::write(&file, key_set(&[jwk("one", ONE.1)])).unwrap();
    refresh.take(look(&from_file()).await.unwrap(), &mut known, &cache, &metrics);
    assert!(open_id.person(&old).await.is_ok());

    std::fs::write(&file, "{}").unwrap();
    refresh.keep(&look(&from_file()).await.unwrap_err(), &metrics);
    assert!(open_id.person(&old).await.is_ok(), "what cannot be looked at changes nothing");
    assert_eq!(metrics.provider_key_failures.get(), 1);

    let (restarted, its_refresh) = OpenId::new(provider(KeySource::Discovery));
    its_refresh.take_cached(&cache, &metrics);
    let keys = Arc::clone(&restarted.keys.borrow().set);
    assert!(restarted.verify(&old, &keys, clock::wall()).is_ok(), "known without the provider");
    let foreign = Provider { issuer: "https://other.example".parse().unwrap(), ..from_file() };
    let (foreign, its_refresh) = OpenId::new(foreign);
    its_refresh.take_cached(&cache, &metrics);
    assert_eq!(foreign.keys.borrow().set.len(), 0, "another provider's keys");

    std::fs::write(&file, key_set(&[jwk("two", OTHER.1)])).unwrap();
    refresh.take(look(&from_file()).await.unwrap(), &mut known, &cache, &metrics);
    assert!(open_id.person(&new).await.is_ok());
    assert_eq!(open_id.person(&old).await.err(), Some(Refused::UnknownKey), "withdrawn");
}
