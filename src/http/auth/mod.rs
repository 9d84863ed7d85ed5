//! Who calls: a device with an API key, or a person with a token. Handlers name the caller they need as an
//! argument and then say what the caller must be allowed to do.

pub mod attempts;
pub mod device_keys;
pub mod failures;
pub mod known_devices;
pub mod local_issuer;
pub mod person;

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};

pub use self::known_devices::KnownDevice;
use self::{attempts::Attempts, known_devices::KnownDevices, local_issuer::LocalIssuer, person::Person};
use super::{Services, error::ApiError};
use crate::clock;

/// Where devices show their keys.
const API_KEY: &str = "x-api-key";
const TOO_MANY_REQUESTS: &str = "this key is used more often than [server] rate_limit allows";
const TOO_MANY_FAILURES: &str = "too many attempts with missing or bad credentials came from this address";

/// What credentials are checked against.
#[derive(Debug)]
pub struct Auth {
    /// The devices file.
    pub devices: KnownDevices,
    /// The issuer of people's tokens; `None`: no person has access.
    pub people: Option<LocalIssuer>,
    /// What failed.
    pub attempts: Attempts,
}

impl FromRequest for KnownDevice {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(known_device(request))
    }
}

fn known_device(request: &HttpRequest) -> Result<KnownDevice, ApiError> {
    let device = authenticate(request, "device", |auth| {
        let key = the_header(request, API_KEY)
            .ok_or(ApiError::Unauthenticated("a device's key is needed in X-Api-Key, once"))?;
        auth.devices.find(key).ok_or(ApiError::Unauthenticated("this API key is not known"))
    })?;
    device.note_use(clock::wall());
    let services = services_of(request)?;
    let turn = services.auth.devices.take_turn(&device, services.access.rules().device_rate);
    turn.map_err(|wait| ApiError::too_fast(TOO_MANY_REQUESTS, wait))?;
    Ok(device)
}

impl FromRequest for Person {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request, "person", |auth| {
            let token = the_header(request, "authorization")
                .and_then(|value| value.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, token)| token.trim())
                .ok_or(ApiError::Unauthenticated("a token is needed in Authorization: Bearer"))?;
            let person = auth.people.as_ref().and_then(|issuer| issuer.verify(token));
            person.ok_or(ApiError::Unauthenticated("this token is not valid, or no longer"))
        }))
    }
}

fn authenticate<T>(
    request: &HttpRequest,
    kind: &str,
    find: impl FnOnce(&Auth) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let services = services_of(request)?;
    // The credentials first: whoever has good ones is never slowed by others' failures at the same address.
    find(&services.auth).map_err(|error| {
        if !matches!(error, ApiError::Unauthenticated(_)) {
            return error;
        }
        services.metrics.auth_failures.with_label_values(&[kind]).inc();
        let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let route = request.match_pattern().unwrap_or_default();
        match services.auth.attempts.failed(address, kind, &route) {
            Some(wait) => ApiError::too_fast(TOO_MANY_FAILURES, wait),
            None => error,
        }
    })
}

fn services_of(request: &HttpRequest) -> Result<&Data<Services>, ApiError> {
    request.app_data::<Data<Services>>().ok_or_else(ApiError::not_committed)
}

/// A header that is there once, and text.
fn the_header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let mut given = request.headers().get_all(name);
    let value = given.next()?.to_str().ok()?;
    given.next().is_none().then_some(value)
}
