//! What a provider's token says, once its signature is known to be the provider's. Pure.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    domain::{provider::Provider, time::Timestamp},
    http::auth::person::Person,
};

/// How far the provider's clock and this one may differ, in milliseconds.
pub(super) const LEEWAY_MILLIS: i64 = 60_000;

/// The longest `sub`: it stands in every event as who acted. OpenID Connect Core (section 2) allows no more.
const MAX_SUBJECT_BYTES: usize = 255;

/// Why a token is not taken. None of it helps who forges one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Not signed as it must be.
    #[error("this token is no JWT that can be read, or not signed with RS256 or ES256 by its issuer")]
    NotSigned,
    /// No such key.
    #[error("this token is signed with a key that its issuer does not show")]
    UnknownKey,
    /// Someone else's.
    #[error("this token is not of the issuer that this server goes by")]
    Issuer,
    /// Meant for something else.
    #[error("this token is not meant for this server: its aud or client_id is another one")]
    Audience,
    /// Over.
    #[error("this token has expired; get a new one")]
    Expired,
    /// Too early.
    #[error("this token is not valid yet; compare the clocks of its issuer and of this server")]
    NotYet,
    /// Lacks something.
    #[error("this token lacks a claim that it needs: iss, sub, exp, and aud or client_id")]
    Claims,
}

/// The person, if the token is meant for this server and holds at `now`.
///
/// # Errors
/// [`Refused`] says why not.
pub(super) fn person(
    claims: &Map<String, Value>,
    provider: &Provider,
    now: Timestamp,
) -> Result<Person, Refused> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss").ok_or(Refused::Claims)? != provider.issuer.as_str() {
        return Err(Refused::Issuer);
    }
    if !is_meant_for(claims, &provider.audience)? {
        return Err(Refused::Audience);
    }
    let expires = date(claims, "exp")?.ok_or(Refused::Claims)?;
    if now.as_millis() >= expires.saturating_add(LEEWAY_MILLIS) {
        return Err(Refused::Expired);
    }
    if date(claims, "nbf")?.is_some_and(|from| now.as_millis() < from.saturating_sub(LEEWAY_MILLIS)) {
        return Err(Refused::NotYet);
    }
    let is_printable = |text: &&str| {
        !text.is_empty()
            && text.len() <= MAX_SUBJECT_BYTES
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let subject = text("sub").filter(is_printable).ok_or(Refused::Claims)?;
    let roles = roles(claims, &provider.roles_claim);
    let grants = roles.into_iter().filter_map(|role| role.parse().ok()).collect();
    Ok(Person {
        subject: subject.to_owned(),
        grants,
        expires_at: Some(Timestamp::from_millis(expires)),
        key_id: None,
    })
}

/// `aud` is a text or a list of them (RFC 7519, section 4.1.3). Cognito's access tokens have none: they name the client
/// in `client_id`, and `token_use` tells the kinds apart.
fn is_meant_for(claims: &Map<String, Value>, audience: &[String]) -> Result<bool, Refused> {
    let is_ours = |value: &Value| value.as_str().is_some_and(|text| audience.iter().any(|ours| ours == text));
    match claims.get("token_use").map(Value::as_str) {
        Some(Some("access")) => claims.get("client_id").map(is_ours).ok_or(Refused::Claims),
        None | Some(Some("id")) => match claims.get("aud") {
            Some(Value::Array(several)) => Ok(several.iter().any(is_ours)),
            Some(one) => Ok(is_ours(one)),
            None => Err(Refused::Claims),
        },
        Some(_) => Ok(false),
    }
}

/// A NumericDate (RFC 7519, section 2: seconds, maybe with a fraction), in milliseconds.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refused> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(Refused::Claims)?;
    // `as` stops at the ends of what an i64 holds
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    Ok(Some((seconds * 1_000.0) as i64))
}

/// The texts of a claim: a list, or one text with spaces in between. A name that is no claim may be a way to one within
/// others, such as Keycloak's `realm_access.roles`.
fn roles<'a>(claims: &'a Map<String, Value>, name: &str) -> Vec<&'a str> {
    let mut parts = name.split('.');
    let nested = || {
        parts
            .next()
            .and_then(|first| claims.get(first))
            .and_then(|first| parts.try_fold(first, |value, part| value.get(part)))
    };
    match claims.get(name).or_else(nested) {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(roles)) => roles.split_ascii_whitespace().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::provider::KeySource;

    const NOW: i64 = 1_790_000_000_000;

    fn provider(roles_claim: &str) -> Provider {
        Provider {
            issuer: "https://id.example/pool".parse().unwrap(),
            audience: vec!["turnstiled".into(), "desk".into()],
            roles_claim: roles_claim.into(),
            keys: KeySource::Discovery,
        }
    }

    fn claims() -> Value {
        json!({ "iss": "https://id.example/pool", "aud": "desk", "sub": "ada", "exp": NOW / 1_000 + 60,
            "cognito:groups": ["hr", "security@hq", "janitor", 7] })
    }

    fn judge(claims: &Value) -> Result<Person, Refused> {
        person(claims.as_object().unwrap(), &provider("cognito:groups"), Timestamp::from_millis(NOW))
    }

    fn grants(person: &Person) -> Vec<String> {
        person.grants.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_token_for_this_server_names_a_person_and_the_known_roles() {
        let person = judge(&claims()).unwrap();
        assert_eq!(
            (person.subject.as_str(), grants(&person)),
            ("ada", vec!["hr".into(), "security@hq".to_owned()])
        );
        assert_eq!(person.expires_at, Some(Timestamp::from_millis(NOW + 60_000)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let seconds = NOW / 1_000;
        let leeway = LEEWAY_MILLIS / 1_000;
        let cases = [
            (json!({ "iss": "https://id.example/pool/" }), Some(Refused::Issuer)),
            (json!({ "iss": null }), Some(Refused::Claims)),
            (json!({ "aud": "other" }), Some(Refused::Audience)),
            (json!({ "aud": ["other", "turnstiled"] }), None),
            (json!({ "aud": [] }), Some(Refused::Audience)),
            (json!({ "aud": null, "client_id": "desk" }), Some(Refused::Audience)),
            (json!({ "exp": seconds - leeway }), Some(Refused::Expired)),
            (json!({ "exp": seconds - leeway + 1 }), None),
            (json!({ "exp": "tomorrow" }), Some(Refused::Claims)),
            (json!({ "exp": 1e300 }), None),
            (json!({ "nbf": seconds + leeway }), None),
            (json!({ "nbf": seconds + leeway + 1 }), Some(Refused::NotYet)),
            (json!({ "sub": "" }), Some(Refused::Claims)),
            (json!({ "sub": "a\nb" }), Some(Refused::Claims)),
            (json!({ "sub": "a".repeat(256) }), Some(Refused::Claims)),
            // Cognito's two kinds of token
            (json!({ "token_use": "id" }), None),
            (json!({ "token_use": "access" }), Some(Refused::Claims)),
            (json!({ "token_use": "access", "aud": "desk", "client_id": "other" }), Some(Refused::Audience)),
            (json!({ "token_use": "access", "aud": null, "client_id": "desk" }), None),
            (json!({ "token_use": "refresh", "client_id": "desk" }), Some(Refused::Audience)),
        ];
        for (change, expected) in cases {
            let mut claims = claims();
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            assert_eq!(judge(&claims).err(), expected, "{change}");
        }
    }

    #[test]
    fn roles_may_be_a_list_a_text_or_within_another_claim() {
        for (claim, value) in [
            ("roles", json!({ "roles": ["hr", "admin"] })),
            ("scope", json!({ "scope": "openid hr admin" })),
            ("realm_access.roles", json!({ "realm_access": { "roles": ["hr", "admin"] } })),
            ("https://x.example/roles", json!({ "https://x.example/roles": ["hr", "admin"] })),
        ] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            let found =
                person(claims.as_object().unwrap(), &provider(claim), Timestamp::from_millis(NOW)).unwrap();
            assert_eq!(grants(&found), ["hr", "admin"], "{claim}");
        }
        assert!(roles(&Map::new(), "a.b.c").is_empty());
    }

    proptest! {
        /// Whatever a token says, it is judged, and only one that is over for nobody is taken.
        #[test]
        fn no_date_is_taken_wrongly(exp in any::<f64>(), nbf in proptest::option::of(any::<f64>())) {
            let mut claims = claims();
            claims["exp"] = json!(exp);
            if let Some(nbf) = nbf { claims["nbf"] = json!(nbf); }
            let holds = exp.is_finite() && exp * 1_000.0 > (NOW - LEEWAY_MILLIS) as f64
                && nbf.is_none_or(|nbf| nbf.is_finite() && nbf * 1_000.0 <= (NOW + LEEWAY_MILLIS) as f64);
            if judge(&claims).is_ok() { prop_assert!(holds); }
        }
    }
}
