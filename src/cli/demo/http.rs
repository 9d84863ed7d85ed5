//! One request, its answer, and how long that took. Anything but the expected status is a failure.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::https_client::with_cause;

/// How much of a refusal is shown.
const MAX_DETAIL_CHARS: usize = 300;

/// An answer and how long it took, from sending the request to having read it.
#[derive(Debug)]
pub(super) struct Timed<T> {
    pub(super) answer: T,
    pub(super) took: Duration,
}

/// Where the API begins. A daemon that listens everywhere is reached through the loopback.
pub(super) fn base_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// Sends a request and reads its JSON answer.
pub(super) async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<Timed<T>, String> {
    let Timed { answer, took } = send(request).await?;
    let answer = serde_json::from_slice(&answer).map_err(|error| format!("an answer is no JSON: {error}"))?;
    Ok(Timed { answer, took })
}

/// Sends a request and reads its answer.
pub(super) async fn send(request: RequestBuilder) -> Result<Timed<Vec<u8>>, String> {
    let started = Instant::now();
    let response = request.send().await.map_err(|error| with_cause(&error))?;
    let (status, path) = (response.status(), response.url().path().to_owned());
    let body = response.bytes().await.map_err(|error| with_cause(&error))?;
    let took = started.elapsed();
    if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED) {
        return Ok(Timed { answer: body.to_vec(), took });
    }
    let detail: String = String::from_utf8_lossy(&body).chars().take(MAX_DETAIL_CHARS).collect();
    Err(format!("{path}: {status} {detail}"))
}
