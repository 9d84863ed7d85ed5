//! Who calls: a device with an API key, or a person with a token. Handlers name the caller they need as an
//! argument and then say what the caller must be allowed to do.

pub mod attempts;
pub mod caller;
pub mod device_keys;
pub mod failures;
pub mod key_use;
pub mod known_devices;
pub mod local_issuer;
pub mod open_id;
pub mod person;

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;

pub use self::known_devices::KnownDevice;
use self::{
    attempts::Attempts,
    device_keys::{Device, DeviceKind},
    known_devices::KnownDevices,
    local_issuer::LocalIssuer,
    open_id::OpenId,
    person::{Grant, Person, Role},
};
use super::{Services, error::ApiError};
use crate::clock;

/// Where devices show their keys.
const API_KEY: &str = "x-api-key";
const TOO_MANY_REQUESTS: &str = "this key is used more often than [server] rate_limit allows";

/// What credentials are checked against.
#[derive(Debug)]
pub struct Auth {
    /// The devices file.
    pub devices: KnownDevices,
    /// The issuer of people's tokens; `None`: no person has access.
    pub people: Option<Issuer>,
    /// What failed.
    pub attempts: Attempts,
}

/// Who issues people's tokens.
#[derive(Debug)]
pub enum Issuer {
    /// This server itself.
    Local(LocalIssuer),
    /// An OpenID provider.
    OpenId(OpenId),
}

impl FromRequest for KnownDevice {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(known_device(request))
    }
}

fn known_device(request: &HttpRequest) -> Result<KnownDevice, ApiError> {
    let services = services_of(request)?;
    let found = match the_header(request, API_KEY) {
        Some(key) => {
            services.auth.devices.find(key).ok_or_else(|| unauthenticated("this API key is not known"))
        }
        None => Err(unauthenticated("a device's key is needed in X-Api-Key, once")),
    };
    let device = found.map_err(|error| failed(services, request, "device", error))?;
    device.note_use(clock::wall());
    let turn = services.auth.devices.take_turn(&device, services.access.rules().device_rate);
    turn.map_err(|wait| ApiError::too_fast(TOO_MANY_REQUESTS, wait))?;
    Ok(device)
}

impl FromRequest for Person {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let services = services_of(&request)?;
            let person = match bearer(&request) {
                Some(token) => services.auth.person(token).await,
                None => Err(unauthenticated("a token is needed in Authorization: Bearer, once")),
            };
            person.map_err(|error| failed(services, &request, "person", error))
        })
    }
}

/// A break-glass key that is used again within this time is the same occasion, and one line of the log.
const BREAK_GLASS_REST_MILLIS: i64 = 60_000;

impl Auth {
    /// The person who shows this token, or this break-glass key.
    async fn person(&self, token: &str) -> Result<Person, ApiError> {
        if let Some(device) = self.devices.find(token).filter(|device| device.kind == DeviceKind::BreakGlass)
        {
            let now = clock::wall();
            if now.as_millis().saturating_sub(device.note_use(now)) >= BREAK_GLASS_REST_MILLIS {
                tracing::warn!(key = %device.id, building = %device.building, "a break-glass key is used");
            }
            return Ok(break_glass(&device));
        }
        match &self.people {
            Some(Issuer::Local(issuer)) => {
                issuer.verify(token).ok_or_else(|| unauthenticated("this token is not valid, or no longer"))
            }
            Some(Issuer::OpenId(provider)) => {
                provider.person(token).await.map_err(|refused| unauthenticated(refused.to_string()))
            }
            None => Err(unauthenticated("this server takes no tokens: its [auth] has no jwt")),
        }
    }
}

/// For the day on which nobody gets a token: what the security desk of one building may do.
fn break_glass(device: &Device) -> Person {
    let security = Grant { role: Role::Security, building: Some(device.building.clone()) };
    Person {
        subject: format!("break-glass:{}", device.id),
        grants: vec![security],
        expires_at: None,
        key_id: Some(device.id.clone()),
    }
}

/// The credentials were looked at first: whoever has good ones is never slowed by others' failures at their address.
fn failed(services: &Services, request: &HttpRequest, kind: &str, error: ApiError) -> ApiError {
    if !matches!(error, ApiError::Unauthenticated(_)) {
        return error;
    }
    services.metrics.auth_failures.with_label_values(&[kind]).inc();
    let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let route = request.match_pattern().unwrap_or_default();
    match services.auth.attempts.failed(address, kind, &route) {
        Some(wait) => ApiError::too_many_failures(wait),
        None => error,
    }
}

fn unauthenticated(why: impl Into<String>) -> ApiError {
    ApiError::Unauthenticated(why.into())
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = the_header(request, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
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
