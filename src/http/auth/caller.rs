//! Where a device or a person may call: an API key, if there is one, else a token.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::{KnownDevice, person::Person};
use crate::http::error::ApiError;

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A device.
    Device(KnownDevice),
    /// A person.
    Person(Person),
}

impl Caller {
    /// As an event's `by`.
    #[must_use]
    pub fn as_actor(&self) -> String {
        match self {
            Self::Device(device) => device.as_actor(),
            Self::Person(person) => person.as_actor(),
        }
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.headers().contains_key("x-api-key") {
            let device = KnownDevice::from_request(request, payload);
            return Box::pin(async { device.await.map(Self::Device) });
        }
        let person = Person::from_request(request, payload);
        Box::pin(async { person.await.map(Self::Person) })
    }
}
