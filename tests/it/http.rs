//! A caller of the daemon: a turnstile, a person, or anyone.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// How long an answer may take; a daemon that hangs fails the test.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one may take where this process and the daemon may be stopped for a while.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Someone with credentials, or none.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    base_url: String,
    credentials: Option<(&'static str, String)>,
}

/// An answer of the daemon, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Caller {
    pub(crate) fn new(base_url: String, credentials: Option<(&'static str, String)>) -> Self {
        let client =
            turnstiled::https_client::builder().unwrap().no_proxy().timeout(ANSWER_TIMEOUT).build().unwrap();
        Self { client, base_url, credentials }
    }

    /// The same with [`PATIENT_TIMEOUT`].
    pub(crate) fn patient(self) -> Self {
        let client = turnstiled::https_client::builder().unwrap().no_proxy().timeout(PATIENT_TIMEOUT);
        Self { client: client.build().unwrap(), ..self }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// An answer whose body is still to come.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.try_open(path, headers).await.unwrap()
    }

    /// The same, for a connection that may be cut meanwhile.
    pub(crate) async fn try_open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, reqwest::Error> {
        self.request(Method::GET, path, headers).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[], &body.to_string()).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = self.try_send(method.clone(), path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// The status of an answer, which may go on for ever. Asked from another address of this machine, so that failures
    /// of one address slow down no other.
    pub(crate) async fn status(&self, from: Ipv4Addr, method: Method, path: &str, body: &str) -> u16 {
        let client = turnstiled::https_client::builder().unwrap().no_proxy().timeout(ANSWER_TIMEOUT);
        let client = client.local_address(IpAddr::V4(from)).build().unwrap();
        let caller = Self { client, ..self.clone() };
        let answer = caller.request(method, path, &[]).body(body.to_owned()).send().await;
        answer.unwrap().status().as_u16()
    }

    /// As [`Caller::send`], for a daemon that may be killed meanwhile.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.try_send(Method::POST, path, &[], &body.to_string()).await
    }

    /// As [`Caller::send`], for a daemon that may be killed meanwhile.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, reqwest::Error> {
        let response = self.request(method, path, headers).body(body.to_owned()).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.text().await? })
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.base_url));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some((name, value)) = &self.credentials {
            request = request.header(*name, value);
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }
}

impl Answer {
    /// The body, of an answer with the status that was expected.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
