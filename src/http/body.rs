//! A request's body, all of it, in time.

use std::{ops::Deref, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Bytes};
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

use super::error::ApiError;

/// How long a client may take to send a body after its headers: a turnstile that lost its power in between
/// must not keep its connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes of a body.
#[derive(Clone, Debug)]
pub struct Body(Bytes);

impl Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            match timeout(BODY_TIMEOUT, bytes).await {
                Ok(bytes) => Ok(Self(bytes?)),
                Err(_) => Err(ApiError::TooSlow.into()),
            }
        })
    }
}
