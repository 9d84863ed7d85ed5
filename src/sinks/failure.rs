//! The one classification of failures: what a service's error means for a record.
//!
//! Only what the service itself calls invalid for a record is ever a dead letter. Everything that is not
//! known for sure is held: an operator mends it and nothing is lost meanwhile.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::{client::orchestrator::HttpResponse, client::result::SdkError, http::Headers};
use aws_smithy_types::{DateTime, date_time::Format, error::metadata::ProvideErrorMetadata};

use crate::delivery::outcome::{MAX_TEXT_BYTES, Outcome, Trouble, TroubleKind};

/// Codes by which a service asks for less, without the ending `Exception` that some services add.
const THROTTLING_CODES: [&str; 16] = [
    "BandwidthLimitExceeded",
    "KMSThrottling",
    "KmsThrottled",
    "LimitExceeded",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottling",
    "SlowDown",
    "Throttled",
    "Throttling",
    "ThrottlingError",
    "TooManyRequests",
    "TransactionInProgress",
    "KmsThrottling",
];

/// Codes of failures that pass by themselves.
const TRANSIENT_CODES: [&str; 16] = [
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "Internal",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServer",
    "OperationAborted",
    "ReplicatedWriteConflict",
    "RequestTimeout",
    "ServiceUnavailable",
    "TransactionConflict",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "Unavailable",
];

/// Codes by which a service calls a record, or one of a batch, invalid.
const INVALID_CODES: [&str; 23] = [
    "BatchRequestTooLong",
    "EntityTooLarge",
    "InvalidArgument",
    "InvalidAttributeName",
    "InvalidAttributeValue",
    "InvalidBatchEntryId",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterCombination",
    "InvalidParameterValue",
    "InvalidRequestContent",
    "ItemCollectionSizeLimitExceeded",
    "KeyTooLong",
    "KeyTooLongError",
    "MalformedDetail",
    "MessageTooLong",
    "MetadataTooLarge",
    "MissingParameter",
    "ParameterValueInvalid",
    "RequestEntityTooLarge",
    "Serialization",
    "TooManyEntriesInBatchRequest",
    "Validation",
];

/// Beginnings and parts of texts by which a validation failure blames the target, not the record: a
/// malformed ARN or a table with other keys would otherwise make a dead letter of every event.
const TARGET_BLAMES: [&str; 13] = [
    "Invalid parameter: TopicArn",
    "Invalid parameter: Topic Name",
    "at 'streamName'",
    "at 'streamARN'",
    "at 'tableName'",
    "at 'queueUrl'",
    "at 'deliveryStreamName'",
    "EventBusName",
    "Missing the key",
    "The provided key element does not match the schema",
    "Type mismatch for key",
    "Type mismatch for Index Key",
    // DynamoDB Local
    "One of the required keys was not given a value",
];

/// Prefix of SQS codes in its older protocol.
const SQS_QUERY_PREFIX: &str = "AWS.SimpleQueueService.";

/// Who says that something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureSource {
    /// The service answered the request with an error.
    Answer,
    /// The service answered the request, and one entry of it failed.
    Entry {
        /// Whether the service blames the entry rather than itself.
        sender_fault: bool,
    },
    /// The connection: time-outs, name resolution, resets, answers that cannot be read.
    Connection,
    /// No credentials could be had, or they have expired.
    Credentials,
    /// The request could not be built from the configuration.
    Request,
}

/// Which kind of failure it is, as reference "Which failure is which" lays down.
///
/// The code counts before the status, because S3 throttles with a 503 and DynamoDB with a 400. Without a code of the
/// service's own a status never blames a record: a proxy has answered, or another server.
#[must_use]
pub fn classify(code: Option<&str>, status: Option<u16>, source: FailureSource) -> TroubleKind {
    match source {
        FailureSource::Credentials | FailureSource::Request => return TroubleKind::Hold,
        FailureSource::Connection => return by_status(status).unwrap_or(TroubleKind::Transient),
        FailureSource::Answer | FailureSource::Entry { .. } => {}
    }
    if let Some(kind) = code.and_then(by_code).or_else(|| by_status(status)) {
        return kind;
    }
    match source {
        FailureSource::Entry { sender_fault: false } => TroubleKind::Transient,
        _ => TroubleKind::Hold,
    }
}

fn by_code(code: &str) -> Option<TroubleKind> {
    let code = code.strip_prefix(SQS_QUERY_PREFIX).unwrap_or(code);
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let lists = [
        (&THROTTLING_CODES[..], TroubleKind::Throttled),
        (&TRANSIENT_CODES[..], TroubleKind::Transient),
        (&INVALID_CODES[..], TroubleKind::Invalid),
    ];
    lists.into_iter().find(|(codes, _)| codes.contains(&code)).map(|(_, kind)| kind)
}

fn by_status(status: Option<u16>) -> Option<TroubleKind> {
    match status? {
        429 => Some(TroubleKind::Throttled),
        408 | 409 | 500..=599 => Some(TroubleKind::Transient),
        _ => None,
    }
}

/// A failure of `records` records at once, as an outcome for each of them. An invalid batch of several is
/// refused as a whole, so that the delivery machine finds the one in it.
#[must_use]
pub fn outcome(trouble: Trouble, records: usize) -> Outcome {
    match trouble.kind {
        TroubleKind::Invalid if records > 1 => Outcome::BatchRefused(trouble),
        TroubleKind::Invalid => Outcome::Rejected(trouble),
        TroubleKind::Throttled | TroubleKind::Transient | TroubleKind::Hold => Outcome::Retry(trouble),
    }
}

/// What a failed request means for each of its `records` records.
#[must_use]
pub fn outcome_of_sdk_error<E>(error: &SdkError<E, HttpResponse>, records: usize) -> Outcome
where
    E: ProvideErrorMetadata + Error + 'static,
{
    outcome(trouble_of_sdk_error(error), records)
}

/// What a webhook's answer means for the event it was given. Redirects are not followed: an operator writes the
/// new URL. A receiver refuses a signature with 401 or 403, which holds; 400 says that it cannot use the event.
#[must_use]
pub fn outcome_of_webhook_answer(status: u16, headers: &Headers, text: &str, now: SystemTime) -> Outcome {
    let kind = match status {
        200..=299 => return Outcome::Delivered,
        400 | 413 | 422 => TroubleKind::Invalid,
        // too early
        425 => TroubleKind::Transient,
        status => by_status(Some(status)).unwrap_or(TroubleKind::Hold),
    };
    let retry_after = retry_after(headers, now);
    outcome(Trouble { kind, code: format!("Http{status}"), text: cut_text(text), retry_after }, 1)
}

/// What one failed entry of an answered batch means. Service's code and text as they came.
#[must_use]
pub fn outcome_of_entry(code: &str, text: &str, sender_fault: bool) -> Outcome {
    let kind = classify(Some(code), None, FailureSource::Entry { sender_fault });
    outcome(trouble(kind, code, text, None), 1)
}

/// What the result of an entry means that tells success by having no code.
#[must_use]
pub fn outcome_of_result(code: Option<&str>, text: Option<&str>, sender_fault: bool) -> Outcome {
    match code {
        None => Outcome::Delivered,
        Some(code) => outcome_of_entry(code, text.unwrap_or_default(), sender_fault),
    }
}

/// What an entry means that the service's answer does not mention: it may or may not be there.
#[must_use]
pub fn outcome_of_unmentioned() -> Outcome {
    Outcome::Retry(trouble(
        TroubleKind::Transient,
        "NoResult",
        "the answer does not mention this record",
        None,
    ))
}

/// What a failure of the local file system or a pipe means: never a dead letter.
#[must_use]
pub fn outcome_of_io_error(error: &io::Error, place: &str) -> Outcome {
    let kind = match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            TroubleKind::Transient
        }
        // full disks, missing rights, broken pipes: an operator mends them
        _ => TroubleKind::Hold,
    };
    Outcome::Retry(trouble(kind, &error.kind().to_string(), &format!("{place}: {error}"), None))
}

/// A text cut to [`MAX_TEXT_BYTES`], at a character's end.
#[must_use]
pub fn cut_text(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default().to_owned()
}

fn trouble(kind: TroubleKind, code: &str, text: &str, retry_after: Option<Duration>) -> Trouble {
    let blames_target = TARGET_BLAMES.iter().any(|blame| text.contains(blame));
    let kind = if kind == TroubleKind::Invalid && blames_target { TroubleKind::Hold } else { kind };
    Trouble { kind, code: code.to_owned(), text: cut_text(text), retry_after }
}

/// What it means that a service took longer than `limit` for what is no delivery.
#[must_use]
pub fn trouble_of_no_answer(limit: Duration) -> Trouble {
    trouble(TroubleKind::Transient, "Timeout", &format!("no answer within {} s", limit.as_secs()), None)
}

/// What a failed request says, for the machine and for the operator.
#[must_use]
pub fn trouble_of_sdk_error<E>(error: &SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let response = error.raw_response();
    let status = response.map(|response| response.status().as_u16());
    let (source, spare_code) = match error {
        SdkError::ServiceError(_) => (FailureSource::Answer, "Unknown"),
        _ if lacks_credentials(error) => (FailureSource::Credentials, "NoCredentials"),
        SdkError::ConstructionFailure(_) => (FailureSource::Request, "RequestNotBuilt"),
        SdkError::TimeoutError(_) => (FailureSource::Connection, "Timeout"),
        SdkError::ResponseError(_) => (FailureSource::Connection, "UnreadableAnswer"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => (FailureSource::Connection, "Timeout"),
        // neither I/O nor time: no endpoint, nothing to sign with
        SdkError::DispatchFailure(failure)
            if failure.is_user() || (failure.is_other() && failure.as_other().is_none()) =>
        {
            (FailureSource::Request, "RequestNotSent")
        }
        _ => (FailureSource::Connection, "ConnectionFailed"),
    };
    let code = error.code().map_or_else(|| spare_code_of(status, spare_code), str::to_owned);
    let text = error.message().map_or_else(|| spare_text_of(error), str::to_owned);
    let kind = classify(error.code(), status, source);
    let retry_after = response.and_then(|response| retry_after(response.headers(), SystemTime::now()));
    trouble(kind, &code, &text, retry_after)
}

fn spare_code_of(status: Option<u16>, spare_code: &str) -> String {
    status.map_or_else(|| spare_code.to_owned(), |status| format!("Http{status}"))
}

/// The SDK shows a service error without a message as a struct of its own.
fn spare_text_of<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    match (error, error.code()) {
        (SdkError::ServiceError(_), Some(_)) => "the service says no more".to_owned(),
        (SdkError::ServiceError(_), None) => {
            "the answer has no error code of the service: did a proxy or another server answer?".to_owned()
        }
        _ => chain_text(error),
    }
}

fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<CredentialsError>())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn chain_text(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), or AWS' own `x-amz-retry-after` in
/// milliseconds.
fn retry_after(headers: &Headers, now: SystemTime) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.trim().parse::<u64>().ok();
    number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
        .or_else(|| until(headers.get("retry-after")?, now))
}

/// How long it is until an HTTP date; nothing if it has passed.
fn until(date: &str, now: SystemTime) -> Option<Duration> {
    let date = DateTime::from_str(date.trim(), Format::HttpDate).ok()?;
    SystemTime::try_from(date).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_runtime_api::{client::result::ConnectorError, http::StatusCode};
    use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};

    #[test]
    fn without_a_code_of_the_service_no_answer_blames_a_record() {
        for status in [400, 403, 404, 405, 411, 413, 414, 431] {
            assert_eq!(classify(None, Some(status), FailureSource::Answer), TroubleKind::Hold, "{status}");
            let unreadable = classify(None, Some(status), FailureSource::Connection);
            assert_eq!(unreadable, TroubleKind::Transient, "{status}");
            let error = service_error(None, "", status, None);
            let Outcome::Retry(trouble) = outcome_of_sdk_error(&error, 2) else { panic!("{status}") };
            assert_eq!(trouble.code, format!("Http{status}"));
        }
    }

    #[test]
    fn what_went_wrong_is_said_without_the_insides_of_the_sdk() {
        let metadata = ErrorMetadata::builder().code("NoSuchBucket").build();
        let response = HttpResponse::new(StatusCode::try_from(404_u16).unwrap(), SdkBody::empty());
        let coded = trouble_of_sdk_error(&SdkError::service_error(metadata, response));
        let page = SdkError::service_error(
            ErrorMetadata::builder().build(),
            HttpResponse::new(StatusCode::try_from(413_u16).unwrap(), SdkBody::empty()),
        );
        let page = trouble_of_sdk_error(&page);
        assert_eq!((coded.code.as_str(), coded.text.as_str()), ("NoSuchBucket", "the service says no more"));
        assert_eq!(
            page.text,
            "the answer has no error code of the service: did a proxy or another server answer?"
        );
    }

    fn answered(code: Option<&str>, status: u16, header: Option<(&'static str, &'static str)>) -> Outcome {
        outcome_of_sdk_error(&service_error(code, "because", status, header), 2)
    }

    fn service_error(
        code: Option<&str>,
        text: &str,
        status: u16,
        header: Option<(&'static str, &'static str)>,
    ) -> SdkError<ErrorMetadata, HttpResponse> {
        let mut metadata = ErrorMetadata::builder().message(text);
        if let Some(code) = code {
            metadata = metadata.code(code);
        }
        let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        SdkError::service_error(metadata.build(), response)
    }

    #[test]
    fn every_code_has_its_kind() {
        use TroubleKind::{Hold, Invalid, Throttled, Transient};
        let table = [
            ("Throttling", 400, Throttled),
            ("ThrottlingException", 400, Throttled),
            ("ThrottledException", 429, Throttled),
            ("RequestThrottled", 403, Throttled),
            ("RequestThrottledException", 400, Throttled),
            ("TooManyRequestsException", 429, Throttled),
            ("ProvisionedThroughputExceededException", 400, Throttled),
            ("TransactionInProgressException", 400, Throttled),
            ("RequestLimitExceeded", 503, Throttled),
            ("BandwidthLimitExceeded", 509, Throttled),
            ("LimitExceededException", 400, Throttled),
            ("SlowDown", 503, Throttled),
            ("PriorRequestNotComplete", 400, Throttled),
            ("KMSThrottlingException", 400, Throttled),
            ("KmsThrottled", 400, Throttled),
            ("Anything", 429, Throttled),
            ("InternalFailure", 500, Transient),
            ("Anything", 500, Transient),
            ("Anything", 502, Transient),
            ("ServiceUnavailable", 503, Transient),
            ("Anything", 504, Transient),
            ("ConditionalRequestConflict", 409, Transient),
            ("TransactionConflictException", 400, Transient),
            ("RequestTimeout", 400, Transient),
            ("AccessDenied", 403, Hold),
            ("AccessDeniedException", 400, Hold),
            ("AuthorizationError", 403, Hold),
            ("ExpiredToken", 400, Hold),
            ("ExpiredTokenException", 403, Hold),
            ("UnrecognizedClientException", 400, Hold),
            ("InvalidClientTokenId", 403, Hold),
            ("InvalidAccessKeyId", 403, Hold),
            ("RequestTimeTooSkewed", 403, Hold),
            ("SignatureDoesNotMatch", 403, Hold),
            ("InvalidSignatureException", 400, Hold),
            ("KMSDisabled", 400, Hold),
            ("KMSAccessDeniedException", 400, Hold),
            ("ResourceNotFoundException", 400, Hold),
            ("NoSuchBucket", 404, Hold),
            ("NotFound", 404, Hold),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Hold),
            ("QueueDoesNotExist", 400, Hold),
            ("SomethingNobodyHasSeen", 400, Hold),
            ("ValidationException", 400, Invalid),
            ("InvalidArgumentException", 400, Invalid),
            ("InvalidMessageContents", 400, Invalid),
            ("AWS.SimpleQueueService.BatchRequestTooLong", 400, Invalid),
            ("InvalidParameter", 400, Invalid),
            ("ParameterValueInvalid", 400, Invalid),
            ("SerializationException", 400, Invalid),
            ("EntityTooLarge", 400, Invalid),
            ("Anything", 413, Hold),
        ];
        for (code, status, kind) in table {
            assert_eq!(classify(Some(code), Some(status), FailureSource::Answer), kind, "{code} {status}");
        }
    }

    #[test]
    fn without_an_answer_the_source_decides() {
        assert_eq!(classify(None, None, FailureSource::Connection), TroubleKind::Transient);
        assert_eq!(classify(None, Some(200), FailureSource::Connection), TroubleKind::Transient);
        assert_eq!(classify(None, None, FailureSource::Credentials), TroubleKind::Hold);
        assert_eq!(classify(None, None, FailureSource::Request), TroubleKind::Hold);
        assert_eq!(classify(None, Some(403), FailureSource::Answer), TroubleKind::Hold);
    }

    #[test]
    fn an_unknown_code_of_an_entry_goes_by_whose_fault_it_is() {
        assert_eq!(
            classify(Some("New"), None, FailureSource::Entry { sender_fault: true }),
            TroubleKind::Hold
        );
        assert_eq!(
            classify(Some("New"), None, FailureSource::Entry { sender_fault: false }),
            TroubleKind::Transient
        );
        assert!(matches!(outcome_of_entry("InvalidMessageContents", "no", true), Outcome::Rejected(_)));
        assert!(matches!(outcome_of_entry("InternalFailure", "no", false), Outcome::Retry(_)));
    }

    #[test]
    fn an_invalid_batch_is_refused_and_an_invalid_record_rejected() {
        let error = service_error(Some("ValidationException"), "too odd", 400, None);
        assert!(matches!(outcome_of_sdk_error(&error, 2), Outcome::BatchRefused(_)));
        assert!(matches!(outcome_of_sdk_error(&error, 1), Outcome::Rejected(_)));
    }

    #[test]
    fn a_malformed_target_is_not_the_records_fault() {
        let text = "Invalid parameter: TopicArn Reason: An ARN must have at least 6 elements";
        let error = service_error(Some("InvalidParameter"), text, 400, None);
        let Outcome::Retry(trouble) = outcome_of_sdk_error(&error, 1) else { panic!("dead letter") };
        assert_eq!(trouble.kind, TroubleKind::Hold);
    }

    #[test]
    fn the_services_wish_is_read_and_its_text_cut() {
        let Outcome::Retry(slow) = answered(Some("SlowDown"), 503, Some(("retry-after", "7"))) else {
            panic!()
        };
        assert_eq!((slow.code.as_str(), slow.retry_after), ("SlowDown", Some(Duration::from_secs(7))));
        let Outcome::Retry(own) = answered(None, 503, Some(("x-amz-retry-after", "250"))) else { panic!() };
        assert_eq!((own.code.as_str(), own.retry_after), ("Http503", Some(Duration::from_millis(250))));
        let long = format!("a{}", "ü".repeat(MAX_TEXT_BYTES));
        assert_eq!(cut_text(&long).len(), MAX_TEXT_BYTES - 1);
    }

    #[test]
    fn a_webhooks_answer_has_its_kind() {
        use TroubleKind::{Hold, Invalid, Throttled, Transient};
        let answered = |status| outcome_of_webhook_answer(status, &Headers::new(), "no", SystemTime::now());
        for status in [200, 202, 204] {
            assert_eq!(answered(status), Outcome::Delivered);
        }
        let table = [
            (301, Hold),
            (400, Invalid),
            (401, Hold),
            (403, Hold),
            (404, Hold),
            (405, Hold),
            (408, Transient),
            (409, Transient),
            (410, Hold),
            (413, Invalid),
            (415, Hold),
            (422, Invalid),
            (425, Transient),
            (429, Throttled),
            (500, Transient),
            (503, Transient),
        ];
        for (status, kind) in table {
            match answered(status) {
                Outcome::Rejected(trouble) => {
                    assert_eq!((trouble.kind, kind), (Invalid, Invalid), "{status}")
                }
                Outcome::Retry(trouble) => assert_eq!(trouble.kind, kind, "{status}"),
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_date_to_come_again_is_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let wish = |value: &'static str| {
            let mut headers = Headers::new();
            headers.insert("retry-after", value);
            retry_after(&headers, now)
        };
        assert_eq!(wish("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(wish("Sun, 06 Nov 1994 08:49:00 GMT"), None);
        assert_eq!(wish("120"), Some(Duration::from_secs(120)));
        assert_eq!(wish("soon"), None);
    }

    #[test]
    fn missing_credentials_hold_and_a_lost_connection_passes() {
        let none = CredentialsError::not_loaded("no providers in chain provided credentials");
        let error: SdkError<ErrorMetadata, HttpResponse> =
            SdkError::dispatch_failure(ConnectorError::other(Box::new(none), None));
        let Outcome::Retry(trouble) = outcome_of_sdk_error(&error, 3) else { panic!() };
        assert_eq!((trouble.kind, trouble.code.as_str()), (TroubleKind::Hold, "NoCredentials"));

        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error: SdkError<ErrorMetadata, HttpResponse> =
            SdkError::dispatch_failure(ConnectorError::io(reset.into()));
        let Outcome::Retry(trouble) = outcome_of_sdk_error(&error, 3) else { panic!() };
        assert_eq!((trouble.kind, trouble.code.as_str()), (TroubleKind::Transient, "ConnectionFailed"));
    }
}
