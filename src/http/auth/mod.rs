//! Who calls: a device with an API key, or a person with a token. Handlers name the caller they need as an
//! argument and then say what the caller must be allowed to do.

pub mod caller;
pub mod device_keys;
pub mod local_issuer;
pub mod person;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};

use self::{
    device_keys::{Device, DeviceKeys},
    local_issuer::LocalIssuer,
    person::Person,
};
use super::{Services, error::ApiError};

/// What credentials are checked against.
#[derive(Debug)]
pub struct Auth {
    /// The devices file.
    pub devices: DeviceKeys,
    /// The issuer of people's tokens; `None`: no person has access.
    pub people: Option<LocalIssuer>,
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
        ready(authenticate(request, "device", |auth| {
            let key = header(request, "x-api-key")
                .ok_or(ApiError::Unauthenticated("a device's key is needed in X-Api-Key"))?;
            auth.devices.find(key).map(Self).ok_or(ApiError::Unauthenticated("this API key is not known"))
        }))
    }
}

impl FromRequest for Person {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request, "person", |auth| {
            let token = header(request, "authorization")
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
    let services = request.app_data::<Data<Services>>().ok_or_else(ApiError::not_committed)?;
    find(&services.auth).inspect_err(|_| services.metrics.auth_failures.with_label_values(&[kind]).inc())
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}
