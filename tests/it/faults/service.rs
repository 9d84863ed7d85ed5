//! How each service puts a batch, what it answers, and what it says when it refuses.

use reqwest::Url;
use serde_json::{Value, json};

use super::message::{Reply, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Sns,
    Sqs,
    Kinesis,
    Firehose,
    EventBridge,
    S3,
    DynamoDb,
    Webhook,
}

/// Where a JSON service has the entries of a request, and their results in the answer.
struct Batch {
    entries: &'static str,
    results: &'static str,
    failures: &'static str,
}

const SNS_ENTRY: &str = "PublishBatchRequestEntries.member.";

impl Service {
    fn batch(self) -> Batch {
        let (entries, results, failures) = match self {
            Self::Kinesis => ("Records", "Records", "FailedRecordCount"),
            Self::Firehose => ("Records", "RequestResponses", "FailedPutCount"),
            Self::EventBridge => ("Entries", "Entries", "FailedEntryCount"),
            _ => ("Entries", "", ""),
        };
        Batch { entries, results, failures }
    }

    /// What a request delivers; `None` if it does something else.
    pub(super) fn entries(self, request: &Request) -> Option<Vec<Value>> {
        let operation = request.header("x-amz-target").rsplit('.').next().unwrap_or_default();
        match self {
            Self::Kinesis if operation != "PutRecords" => None,
            Self::Sns => {
                let groups = sns_groups(&request.body);
                let message = |group: &Vec<(String, String)>| {
                    let (_, text) = group.iter().find(|(name, _)| name == "Message").unwrap();
                    Value::String(text.clone())
                };
                Some(groups.iter().map(message).collect())
            }
            // what it asks about an object delivers nothing, and may fail as well
            Self::S3 if request.method != "PUT" => Some(Vec::new()),
            Self::S3 => Some(vec![Value::String(request.target.clone())]),
            Self::Webhook => Some(vec![Value::String(String::from_utf8(request.body.clone()).unwrap())]),
            Self::DynamoDb => Some(vec![request.json()["Item"].clone()]),
            _ => Some(request.json()[self.batch().entries].as_array().unwrap().clone()),
        }
    }

    /// The request without the entries that are not taken.
    pub(super) fn keep(self, request: &Request, takes: &[bool]) -> Request {
        let mut kept = request.clone();
        if self == Self::Sns {
            kept.body = sns_body(&request.body, takes);
            return kept;
        }
        let mut body = request.json();
        let mut takes = takes.iter();
        body[self.batch().entries].as_array_mut().unwrap().retain(|_| *takes.next().unwrap());
        kept.body = body.to_string().into_bytes();
        kept
    }

    /// The answer to what was taken (`None`: nothing was), with a failure for each entry that was not.
    pub(super) fn refuse(self, request: &Request, takes: &[bool], answer: Option<Reply>) -> Reply {
        match self {
            Self::Sns => sns_answer(&request.body, takes, answer),
            Self::Sqs => {
                let mut body =
                    answer.map_or_else(|| json!({ "Successful": [] }), |answer| answer.json_body());
                let asked = request.json();
                let refused = asked["Entries"].as_array().unwrap().iter().zip(takes);
                let failed = refused.filter(|(_, takes)| !**takes).enumerate().map(|(place, (entry, _))| {
                    let code = ["InternalFailure", "RequestThrottled"][place % 2];
                    json!({ "Id": entry["Id"], "Code": code, "SenderFault": false, "Message": "not this one" })
                });
                body["Failed"] = failed.collect();
                Reply::json(200, &body)
            }
            _ => self.refuse_in_order(takes, answer),
        }
    }

    fn refuse_in_order(self, takes: &[bool], answer: Option<Reply>) -> Reply {
        let Batch { results, failures, .. } = self.batch();
        let codes = match self {
            Self::Kinesis => ["ProvisionedThroughputExceededException", "InternalFailure"],
            Self::Firehose => ["ServiceUnavailableException", "InternalFailure"],
            _ => ["ThrottlingException", "InternalFailure"],
        };
        let mut body = answer.map_or_else(|| json!({ results: [] }), |answer| answer.json_body());
        let mut taken = body[results].as_array().unwrap().clone().into_iter();
        let result = |(place, takes): (usize, &bool)| match takes {
            true => taken.next().unwrap(),
            false => json!({ "ErrorCode": codes[place % 2], "ErrorMessage": "not this one" }),
        };
        body[results] = takes.iter().enumerate().map(result).collect();
        body[failures] = json!(takes.iter().filter(|takes| !**takes).count());
        Reply::json(200, &body)
    }

    /// It asks for less.
    pub(super) fn throttled(self) -> Reply {
        match self {
            Self::Webhook => Reply::of(429, &[("retry-after", "1")], ""),
            Self::S3 => Reply::of(503, &[("retry-after", "1")], &s3_error("SlowDown")),
            Self::Sns => Reply::of(400, &[("content-type", "text/xml")], &sns_error("Throttled")),
            Self::Sqs => json_error(403, "RequestThrottled"),
            Self::Kinesis | Self::DynamoDb => json_error(400, "ProvisionedThroughputExceededException"),
            Self::Firehose | Self::EventBridge => json_error(400, "ThrottlingException"),
        }
    }

    /// It does not let the caller in.
    pub(super) fn forbidden(self) -> Reply {
        match self {
            Self::Webhook => Reply::of(403, &[], "who are you?"),
            Self::S3 => Reply::of(403, &[], &s3_error("AccessDenied")),
            Self::Sns => Reply::of(403, &[("content-type", "text/xml")], &sns_error("AuthorizationError")),
            _ => json_error(403, "AccessDeniedException"),
        }
    }
}

fn json_error(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({ "__type": code, "message": "not now" }))
}

fn s3_error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>not now</Message></Error>")
}

fn sns_error(code: &str) -> String {
    format!(
        r#"<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>
        <Code>{code}</Code><Message>not now</Message></Error><RequestId>1</RequestId></ErrorResponse>"#
    )
}

fn sns_fields(body: &[u8]) -> Vec<(String, String)> {
    let query = format!("http://x/?{}", std::str::from_utf8(body).unwrap());
    Url::parse(&query).unwrap().query_pairs().into_owned().collect()
}

/// The fields of each entry, by their names within it.
fn sns_groups(body: &[u8]) -> Vec<Vec<(String, String)>> {
    let mut groups: Vec<Vec<(String, String)>> = Vec::new();
    for (name, value) in sns_fields(body) {
        let Some((number, field)) = name.strip_prefix(SNS_ENTRY).and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let number: usize = number.parse().unwrap();
        groups.resize_with(groups.len().max(number), Vec::new);
        groups[number - 1].push((field.to_owned(), value));
    }
    groups
}

fn sns_body(body: &[u8], takes: &[bool]) -> Vec<u8> {
    let mut url = Url::parse("http://x/").unwrap();
    let others = sns_fields(body).into_iter().filter(|(name, _)| !name.starts_with(SNS_ENTRY));
    url.query_pairs_mut().extend_pairs(others);
    let kept = sns_groups(body).into_iter().zip(takes).filter(|(_, takes)| **takes).map(|(group, _)| group);
    for (number, group) in (1..).zip(kept) {
        let named = group.into_iter().map(|(field, value)| (format!("{SNS_ENTRY}{number}.{field}"), value));
        url.query_pairs_mut().extend_pairs(named);
    }
    url.query().unwrap().as_bytes().to_vec()
}

fn sns_answer(body: &[u8], takes: &[bool], answer: Option<Reply>) -> Reply {
    let codes = ["InternalError", "Throttled"];
    let refused = sns_groups(body).into_iter().zip(takes).filter(|(_, takes)| !**takes);
    let failed: String = (refused.enumerate())
        .map(|(place, (group, _))| {
            let (_, id) = group.iter().find(|(name, _)| name == "Id").unwrap();
            let code = codes[place % 2];
            format!("<member><Id>{id}</Id><Code>{code}</Code><SenderFault>false</SenderFault></member>")
        })
        .collect();
    let text = answer.map(|answer| String::from_utf8(answer.body).unwrap());
    let successful = text.as_deref().and_then(|text| {
        let (_, rest) = text.split_once("<Successful>")?;
        Some(rest.split_once("</Successful>").unwrap().0)
    });
    let text = format!(
        r#"<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
        <Successful>{}</Successful><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"#,
        successful.unwrap_or_default()
    );
    Reply::of(200, &[("content-type", "text/xml")], &text)
}
