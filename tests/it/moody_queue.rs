//! An SQS queue that answers as its mood is.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    aws::ACCOUNT,
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, serve},
};

/// What a fake service has taken.
pub(crate) type Taken = Arc<Mutex<Vec<String>>>;

/// How a service feels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Service {
    #[default]
    RefusesAll,
    /// Messages with this in them.
    RefusesOnly(&'static str),
    Away,
    /// Takes what it gets, one request after the other, each this late.
    Slow(Duration),
    /// Takes what it gets and says nothing of it.
    LosesReplies,
}

pub(crate) type Mood = Arc<Mutex<Service>>;

/// The queue's endpoint; `asked` is told of every message that came.
pub(crate) fn moody_queue(taken: Taken, asked: Taken, mood: Mood) -> String {
    let headers = vec!["content-type: application/x-amz-json-1.0".to_owned()];
    serve(move |request| {
        let Ok(request) = serde_json::from_str::<Value>(request) else {
            // cut off: whoever sent it was killed
            return Reply { status: 400, headers: headers.clone(), body: String::new() };
        };
        let mood = *mood.lock().unwrap();
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in request["Entries"].as_array().unwrap() {
            let (id, body) = (&entry["Id"], entry["MessageBody"].as_str().unwrap().to_owned());
            asked.lock().unwrap().push(body.clone());
            let is_refused = match mood {
                Service::RefusesAll => true,
                Service::RefusesOnly(part) => body.contains(part),
                Service::Away => return Reply { status: 503, headers: headers.clone(), body: String::new() },
                Service::Slow(_) | Service::LosesReplies => false,
            };
            if is_refused {
                let text = "The message is not what this queue takes.\u{1b}[31m";
                failed.push(json!({ "Id": id, "Code": "InvalidMessageContents", "SenderFault": true, "Message": text }));
            } else {
                taken.lock().unwrap().push(body);
                successful.push(json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "" }));
            }
        }
        match mood {
            Service::Slow(wait) => thread::sleep(wait),
            Service::LosesReplies => {
                return Reply { status: 500, headers: headers.clone(), body: String::new() };
            }
            _ => {}
        }
        let body = json!({ "Successful": successful, "Failed": failed }).to_string();
        Reply { status: 200, headers: headers.clone(), body }
    })
}

/// A server whose exits go to the queue; `more` is of the root of its configuration.
pub(crate) fn queue_site_with(queue_url: &str, more: &str) -> Site {
    let sinks = format!(
        r#"
        [sinks.queue]
        type = "sqs"
        queue_url = "{queue_url}/{ACCOUNT}/queue"
        endpoint_url = "{queue_url}"
        [[routes]]
        name = "exits"
        types = ["access.exit.*"]
        to = ["queue"]
        "#
    );
    Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{sinks}{more}")).with_aws_at(queue_url.to_owned())
}

pub(crate) fn queue_site(queue_url: &str) -> Site {
    queue_site_with(queue_url, "")
}
