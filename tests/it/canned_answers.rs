//! What the emulator never says: throttling, partial failures, refusals. A server that gives every request
//! the same answer says it as the services do on the wire.

use std::{net::TcpListener, path::Path, time::Duration};

use aws_config::timeout::TimeoutConfig;
use turnstiled::{
    delivery::outcome::{Outcome, Trouble, TroubleKind},
    sinks::{
        SinkSettings, open_with,
        s3_objects::{Compression, ObjectFormat},
    },
};

use crate::{
    aws::ACCOUNT,
    fake_service::{Reply, serve},
    moto::sdk_config,
    sinks_moto::{dynamodb, entry, eventbridge, firehose, kinesis, retry_kinds, s3, sns, sqs},
};

/// A server that gives every request this answer.
fn canned(status: u16, headers: &[&str], body: &str) -> String {
    let headers = headers.iter().map(|header| (*header).to_owned()).collect();
    let reply = Reply { status, headers, body: body.to_owned() };
    serve(move |_| reply.clone())
}

/// A sink of each of AWS' services.
fn every_service(spools: &Path) -> [SinkSettings; 7] {
    [
        topic(),
        queue(),
        kinesis("exits"),
        firehose("lines"),
        eventbridge("bus"),
        s3(spools, "archive", ObjectFormat::Ndjson(Compression::Gzip)),
        dynamodb("table"),
    ]
}

async fn send_to(endpoint_url: &str, settings: &SinkSettings, records: u64) -> Vec<Outcome> {
    let sink = open_with(settings, &sdk_config(endpoint_url));
    sink.send((1..=records).map(|sequence| entry(&format!("E{sequence}"), sequence)).collect()).await
}

fn topic() -> SinkSettings {
    sns(&format!("arn:aws:sns:eu-central-1:{ACCOUNT}:topic"))
}

fn queue() -> SinkSettings {
    sqs(&format!("https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/queue"))
}

#[tokio::test]
async fn kinesis_results_find_their_records() {
    let body = r#"{"FailedRecordCount":2,"Records":[
        {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded for shard"},
        {"SequenceNumber":"1","ShardId":"shardId-0"},
        {"ErrorCode":"InternalFailure","ErrorMessage":"Internal service failure."}]}"#;
    let outcomes =
        send_to(&canned(200, &["content-type: application/x-amz-json-1.1"], body), &kinesis("exits"), 4)
            .await;
    assert_eq!(retry_kinds(&outcomes[..1]), [TroubleKind::Throttled]);
    assert_eq!(outcomes[1], Outcome::Delivered);
    // the last one is not in the answer at all
    assert_eq!(retry_kinds(&outcomes[2..]), [TroubleKind::Transient; 2]);
}

#[tokio::test]
async fn firehose_results_find_their_records() {
    let body = r#"{"FailedPutCount":1,"Encrypted":false,"RequestResponses":[{"RecordId":"1"},
        {"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."}]}"#;
    let endpoint_url = canned(200, &["content-type: application/x-amz-json-1.1"], body);
    let outcomes = send_to(&endpoint_url, &firehose("lines"), 3).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    assert_eq!(retry_kinds(&outcomes[1..]), [TroubleKind::Transient; 2]);
}

#[tokio::test]
async fn eventbridge_results_find_their_entries() {
    let body = r#"{"FailedEntryCount":3,"Entries":[
        {"ErrorCode":"ThrottlingException","ErrorMessage":"Rate exceeded"},{"EventId":"1"},
        {"ErrorCode":"NotAuthorizedForSource","ErrorMessage":"Not authorized for the source."},
        {"ErrorCode":"MalformedDetail","ErrorMessage":"Detail is malformed."}]}"#;
    let endpoint_url = canned(200, &["content-type: application/x-amz-json-1.1"], body);
    let outcomes = send_to(&endpoint_url, &eventbridge("bus"), 4).await;
    assert_eq!(retry_kinds(&outcomes[..1]), [TroubleKind::Throttled]);
    assert_eq!(outcomes[1], Outcome::Delivered);
    assert_eq!(retry_kinds(&outcomes[2..3]), [TroubleKind::Hold]);
    assert!(matches!(&outcomes[3], Outcome::Rejected(trouble) if trouble.code == "MalformedDetail"));
}

#[tokio::test]
async fn sns_results_find_their_records() {
    let body = r#"<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
        <Successful><member><Id>1</Id><MessageId>m</MessageId></member></Successful>
        <Failed><member><Id>0</Id><Code>InvalidParameter</Code><SenderFault>true</SenderFault>
        <Message>Invalid parameter: Message Reason: Invalid characters</Message></member>
        <member><Id>2</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member></Failed>
        </PublishBatchResult></PublishBatchResponse>"#;
    let outcomes = send_to(&canned(200, &["content-type: text/xml"], body), &topic(), 3).await;
    assert!(
        matches!(&outcomes[0], Outcome::Rejected(trouble) if trouble.code == "InvalidParameter"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], Outcome::Delivered);
    assert_eq!(retry_kinds(&outcomes[2..]), [TroubleKind::Transient]);
}

#[tokio::test]
async fn a_batch_that_sqs_refuses_is_to_be_halved() {
    let headers = [
        "content-type: application/x-amz-json-1.0",
        "x-amzn-query-error: AWS.SimpleQueueService.BatchRequestTooLong;Sender",
    ];
    let endpoint_url =
        canned(400, &headers, r#"{"__type":"com.amazonaws.sqs#BatchRequestTooLong","message":"too long"}"#);
    let outcomes = send_to(&endpoint_url, &queue(), 2).await;
    assert!(matches!(outcomes[..], [Outcome::BatchRefused(_), Outcome::BatchRefused(_)]), "{outcomes:?}");
    let outcomes = send_to(&endpoint_url, &queue(), 1).await;
    assert!(matches!(outcomes[..], [Outcome::Rejected(_)]), "{outcomes:?}");
}

#[tokio::test]
async fn s3_says_when_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let endpoint_url = canned(503, &["content-type: application/xml", "retry-after: 5"], body);
    let outcomes =
        send_to(&endpoint_url, &s3(dir.path(), "archive", ObjectFormat::Ndjson(Compression::None)), 1).await;
    let expected = Trouble {
        kind: TroubleKind::Throttled,
        code: "SlowDown".to_owned(),
        text: "Please reduce your request rate.".to_owned(),
        retry_after: Some(Duration::from_secs(5)),
    };
    assert_eq!(outcomes, [Outcome::Retry(expected)]);

    let body = "<Error><Code>ConditionalRequestConflict</Code><Message>conflict</Message></Error>";
    let outcomes = send_to(
        &canned(409, &[], body),
        &s3(dir.path(), "archive", ObjectFormat::Ndjson(Compression::None)),
        1,
    )
    .await;
    assert_eq!(retry_kinds(&outcomes), [TroubleKind::Transient]);
}

#[tokio::test]
async fn dynamodb_refusals_are_told_apart() {
    let answered = async |code: &str, text: &str| {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{text}"}}"#);
        send_to(&canned(400, &["content-type: application/x-amz-json-1.0"], &body), &dynamodb("table"), 1)
            .await
    };
    assert_eq!(
        answered("ConditionalCheckFailedException", "The conditional request failed").await,
        [Outcome::Delivered]
    );
    for (code, text, kind) in [
        ("ProvisionedThroughputExceededException", "too fast", TroubleKind::Throttled),
        ("TransactionConflictException", "conflict", TroubleKind::Transient),
        ("ExpiredTokenException", "The security token is expired", TroubleKind::Hold),
        ("ValidationException", "The provided key element does not match the schema", TroubleKind::Hold),
        (
            "ValidationException",
            "One or more parameter values were invalid: Missing the key id in the item",
            TroubleKind::Hold,
        ),
        (
            "ValidationException",
            "One or more parameter values were invalid: Type mismatch for key PK expected: N actual: S",
            TroubleKind::Hold,
        ),
    ] {
        assert_eq!(retry_kinds(&answered(code, text).await), [kind], "{code}");
    }
    let outcomes = answered("ValidationException", "Item size has exceeded the maximum allowed size").await;
    assert!(matches!(outcomes[..], [Outcome::Rejected(_)]), "{outcomes:?}");
}

#[tokio::test]
async fn a_gateways_page_is_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint_url = canned(502, &["content-type: text/html"], "<html><h1>Bad Gateway</h1></html>");
    for settings in every_service(dir.path()) {
        let outcomes = send_to(&endpoint_url, &settings, 2).await;
        assert_eq!(retry_kinds(&outcomes), [TroubleKind::Transient; 2], "{settings}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_page_of_success_is_no_answer_of_s3() {
    let dir = tempfile::tempdir().unwrap();
    let settings = s3(dir.path(), "archive", ObjectFormat::Ndjson(Compression::None));
    let page = canned(200, &["content-type: text/html"], "<html>Please log in</html>");
    let outcomes = send_to(&page, &settings, 2).await;
    assert_eq!(retry_kinds(&outcomes), [TroubleKind::Transient; 2]);
    assert!(matches!(&outcomes[0], Outcome::Retry(trouble) if trouble.code == "NotS3"), "{outcomes:?}");
    // the object is in the spool still, and goes out whole
    let stored = canned(200, &["etag: \"d41d8cd98f00b204e9800998ecf8427e\""], "");
    assert_eq!(send_to(&stored, &settings, 2).await, [Outcome::Delivered, Outcome::Delivered]);
}

#[tokio::test]
async fn a_proxys_refusal_blames_no_event() {
    let dir = tempfile::tempdir().unwrap();
    for status in [400, 413] {
        let page =
            canned(status, &["content-type: text/html"], "<html><h1>Request Entity Too Large</h1></html>");
        for settings in every_service(dir.path()) {
            let outcomes = send_to(&page, &settings, 1).await;
            assert!(matches!(&outcomes[..], [Outcome::Retry(_)]), "{status} {settings}: {outcomes:?}");
        }
    }
}

#[tokio::test]
async fn a_service_that_never_answers_is_an_outage() {
    // connections are taken by the kernel and nobody ever reads them
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let soon = TimeoutConfig::builder().read_timeout(Duration::from_millis(100)).build();
    let config = sdk_config(&format!("http://{}", listener.local_addr().unwrap()));
    let sink = open_with(&topic(), &config.to_builder().timeout_config(soon).build());
    let outcomes = sink.send(vec![entry("E1", 1)]).await;
    assert_eq!(retry_kinds(&outcomes), [TroubleKind::Transient]);
    assert!(matches!(&outcomes[0], Outcome::Retry(trouble) if trouble.code == "Timeout"), "{outcomes:?}");
}
