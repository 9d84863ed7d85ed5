//! A webhook: each event is a POST of its own, signed as Standard Webhooks 1.0 lays down.
//!
//! `webhook-id` is the event's id, the same with every attempt; `webhook-timestamp` is the attempt's time;
//! `webhook-signature` is `v1,` and the HMAC-SHA256 of `<id>.<timestamp>.<body>` in base64. At most one event of a
//! partition key is under way, so each holder's events arrive in order.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::{
    client::{
        http::HttpConnector,
        orchestrator::{HttpRequest, HttpResponse},
        result::{ConnectorError, SdkError},
    },
    http::HttpError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, error::ErrorMetadata};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, MAX_TEXT_BYTES, Order, Outcome},
    },
    domain::{trace::Propagator, webhook_secret::WebhookSecret},
    sinks::{
        Sink, aws,
        envelope::{Envelope, reject, reject_unreadable},
        failure::{outcome_of_sdk_error, outcome_of_webhook_answer},
    },
};

/// Requests under way at once; each is one event.
const MAX_IN_FLIGHT: usize = 16;
/// Bytes of events in one request: the largest event goes alone, too.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// How long a receiver may take for everything, from the connection to the end of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// CloudEvents' structured mode: the event is the body.
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// Who asks.
const USER_AGENT: &str = concat!("turnstiled/", env!("CARGO_PKG_VERSION"));

/// Where the webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// `https://` or `http://`. Redirects are not followed.
    pub url: String,
    /// What requests are signed with.
    pub secret: WebhookSecret,
}

/// Posts events to a webhook.
#[derive(Clone, Debug)]
pub struct HttpSink {
    connector: Arc<Connector>,
    settings: Arc<HttpSettings>,
}

impl HttpSink {
    /// A sink on a webhook.
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        Self { connector: Arc::new(aws::connector(None, None)), settings: Arc::new(settings) }
    }

    async fn post(&self, event: &Outgoing) -> Outcome {
        let request = match request(&self.settings, event, SystemTime::now()) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let answer = self.connector.call(request).await?;
            Ok(outcome_of_answer(answer).await)
        });
        match answered.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => no_answer(error),
            Err(elapsed) => no_answer(ConnectorError::timeout(elapsed.into())),
        }
    }
}

impl Sink for HttpSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: 1,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: 0,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::PerKey,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for event in &batch {
                outcomes.push(sink.post(event).await);
            }
            outcomes
        })
    }
}

fn request(settings: &HttpSettings, event: &Outgoing, now: SystemTime) -> Result<HttpRequest, Outcome> {
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let signature = signature(&settings.secret, &envelope.id, &timestamp, &event.body);
    let build = || -> Result<HttpRequest, HttpError> {
        let mut request = HttpRequest::new(SdkBody::from(event.body.to_vec()));
        request.set_method("POST")?;
        request.set_uri(settings.url.as_str())?;
        let headers = [
            ("content-type", CONTENT_TYPE.to_owned()),
            ("user-agent", USER_AGENT.to_owned()),
            ("webhook-id", envelope.id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ];
        let trace = event.trace.map(|trace| {
            [
                (Propagator::XRay.header(), trace.xray()),
                (Propagator::TraceContext.header(), trace.traceparent()),
            ]
        });
        for (name, value) in headers.into_iter().chain(trace.into_iter().flatten()) {
            request.headers_mut().try_insert(name, value)?;
        }
        Ok(request)
    };
    build().map_err(|error| reject("NotARequest", &error.to_string()))
}

fn signature(secret: &WebhookSecret, id: &str, timestamp: &str, body: &[u8]) -> String {
    // an HMAC takes a key of any length
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.key()) else { return String::new() };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

async fn outcome_of_answer(answer: HttpResponse) -> Outcome {
    let status = answer.status().as_u16();
    let headers = answer.headers().clone();
    let text = beginning(answer.into_body()).await;
    outcome_of_webhook_answer(status, &headers, &text, SystemTime::now())
}

/// The beginning of an answer's text, as far as it is kept. The status says what counts, so that a text that breaks
/// off changes nothing.
async fn beginning(body: SdkBody) -> String {
    let mut stream = ByteStream::new(body);
    let mut bytes = Vec::new();
    while bytes.len() < MAX_TEXT_BYTES
        && let Some(Ok(chunk)) = stream.next().await
    {
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn no_answer(error: ConnectorError) -> Outcome {
    outcome_of_sdk_error(&SdkError::<ErrorMetadata, HttpResponse>::dispatch_failure(error), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::event;

    fn settings(url: &str) -> HttpSettings {
        HttpSettings {
            url: url.to_owned(),
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap(),
        }
    }

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_specifications_example_is_signed_as_there() {
        let secret = settings("").secret;
        let signed =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_request_carries_the_event_and_its_identity() {
        let event = event("card.lost", "", "E1", 1);
        let settings = settings("https://hooks.example/turnstiles?a=b");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_330);
        let request = request(&settings, &event, now).unwrap();
        assert_eq!((request.method(), request.uri()), ("POST", "https://hooks.example/turnstiles?a=b"));
        assert_eq!(request.body().bytes(), Some(&event.body[..]));
        let header = |name| request.headers().get(name).unwrap();
        assert_eq!((header("webhook-id"), header("webhook-timestamp")), ("id-hq-1.1-1", "1614265330"));
        let expected = signature(&settings.secret, "id-hq-1.1-1", "1614265330", &event.body);
        assert_eq!(header("webhook-signature"), expected);
        assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert_eq!(request.headers().get("traceparent"), None);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_rejected() {
        let mut event = event("card.lost", "", "E1", 1);
        event.body = br#"{"id":"a\nb","time":"t","log":"hq-1.1","sequence":"1"}"#.to_vec().into();
        assert!(matches!(
            request(&settings("http://h/"), &event, SystemTime::now()),
            Err(Outcome::Rejected(_))
        ));
    }
}
