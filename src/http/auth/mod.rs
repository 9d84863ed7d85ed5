//! Who calls: a device with an API key, or a person with a token. Handlers name the caller they need as an
//! argument and then say what the caller must be allowed to do.

pub mod device_keys;
pub mod local_issuer;
pub mod open_id;
pub mod person;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;

use self::{
    device_keys::{Device, DeviceKeys, DeviceKind},
    local_issuer::LocalIssuer,
    open_id::OpenId,
    person::{Grant, Person, Role},
};
use super::{Services, error::ApiError};

/// What credentials are checked against.
#[derive(Debug)]
pub struct Auth {
    /// The devices file.
    pub devices: DeviceKeys,
    /// The issuer of people's tokens; `None`: no person has access.
    pub people: Option<Issuer>,
}

/// Who issues people's tokens.
#[derive(Debug)]
pub enum Issuer {
    /// This server itself.
    Local(LocalIssuer),
    /// An OpenID provider.
    OpenId(OpenId),
}

/// A device that showed a known key.
#[derive(Clone, Debug)]
pub struct KnownDevice(pub Arc<Device>);

impl std::ops::Deref for KnownDevice {
    type Target = Device;
    fn deref(&self) -> &Device {
        &self.0
    }
}

impl FromRequest for KnownDevice {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(services(request).and_then(|services| {
            let key = header(request, "x-api-key")
                .ok_or_else(|| unauthenticated("a device's key is needed in X-Api-Key"));
            key.and_then(|key| services.auth.device(key)).inspect_err(|_| count_failure(&services, "device"))
        }))
    }
}

impl FromRequest for Person {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let services = services(&request)?;
            let person = match bearer(&request) {
                Some(token) => services.auth.person(token).await,
                None => Err(unauthenticated("a token is needed in Authorization: Bearer")),
            };
            person.inspect_err(|_| count_failure(&services, "person"))
        })
    }
}

impl Auth {
    fn device(&self, key: &str) -> Result<KnownDevice, ApiError> {
        self.devices.find(key).map(KnownDevice).ok_or_else(|| unauthenticated("this API key is not known"))
    }

    /// The person who shows this token, or this break-glass key.
    async fn person(&self, token: &str) -> Result<Person, ApiError> {
        if let Some(device) = self.devices.find(token).filter(|device| device.kind == DeviceKind::BreakGlass)
        {
            tracing::warn!(key = %device.id, building = %device.building, "a break-glass key is used");
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
    Person { subject: format!("break-glass:{}", device.id), grants: vec![security], expires_at: None }
}

fn services(request: &HttpRequest) -> Result<Data<Services>, ApiError> {
    request.app_data::<Data<Services>>().cloned().ok_or_else(ApiError::not_committed)
}

fn count_failure(services: &Services, kind: &str) {
    services.metrics.auth_failures.with_label_values(&[kind]).inc();
}

fn unauthenticated(why: impl Into<String>) -> ApiError {
    ApiError::Unauthenticated(why.into())
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = header(request, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}
