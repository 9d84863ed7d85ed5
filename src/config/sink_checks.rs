//! What is wrong with a sink only beside other settings: its place, its region, who else uses it.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::{Component, Path, PathBuf},
};

use super::{
    dead_letters::LetterQueueConfig,
    document::{Document, Place},
    sinks::{SinkConfig, SinkKind, Sinks},
    value::Value,
};

/// What of the data directory is for file sinks.
const SINKS_DIR: &str = "sinks";

/// The checks that need other sections.
pub(super) fn check_with_others(
    document: &Document<'_>,
    sinks: &Sinks,
    data_dir: Option<&Path>,
    letter_queue: Option<&LetterQueueConfig>,
) {
    for (sink, at) in &sinks.valid {
        match &sink.kind {
            SinkKind::File { dir, .. }
                if data_dir.is_some_and(|data_dir| is_of_the_server(dir, data_dir)) =>
            {
                let problem =
                    format!("{} is where the server keeps what it must not lose", normal(dir).display());
                let hint = "choose a directory elsewhere, or below data_dir/sinks".to_owned();
                document.error(at, problem, Some(hint));
            }
            SinkKind::Sqs { queue_url }
                if letter_queue
                    .is_some_and(|letters| letters.queue_url.trim_end_matches('/') == queue_url) =>
            {
                let problem = "its queue is the one of [dead_letters], too: consumers could not tell an event from \
                               a dead letter";
                document.error(at, problem, Some("give each a queue of its own".to_owned()));
            }
            _ => {}
        }
    }
}

/// Whatever is read from a queue of cards and is no change of another server's card is deleted: what this server writes
/// there would be lost to everyone else.
pub(super) fn refuse_queue_that_is_written_to(
    value: &Value<'_>,
    queue_url: &str,
    sinks: &Sinks,
    letter_queue: Option<&LetterQueueConfig>,
) {
    let is_it =
        |sink: &SinkConfig| matches!(&sink.kind, SinkKind::Sqs { queue_url: own } if own == queue_url);
    let of_sinks = sinks.valid.iter().filter(|(sink, _)| is_it(sink));
    let of_sinks = of_sinks.map(|(sink, _)| format!("the sink {:?}", sink.name));
    let of_letters = letter_queue.filter(|letters| letters.queue_url == queue_url);
    for writer in of_sinks.chain(of_letters.map(|_| "[dead_letters]".to_owned())) {
        let problem = format!("{writer} writes to this queue, and what it writes would be deleted unread");
        value.error(problem, Some("give each a queue of its own".to_owned()));
    }
}

fn is_of_the_server(dir: &Path, data_dir: &Path) -> bool {
    let (dir, data_dir) = (normal(dir), normal(data_dir));
    dir.starts_with(&data_dir) && !dir.starts_with(data_dir.join(SINKS_DIR))
}

/// An ARN or a queue's URL names the region already: requests signed for another one are refused.
pub(super) fn refuse_other_region(sink: &SinkConfig, value: &Value<'_>) {
    let (key, region) = match &sink.kind {
        SinkKind::Sns { topic_arn } => ("topic_arn", topic_arn.split(':').nth(3)),
        SinkKind::Sqs { queue_url } => ("queue_url", region_of_queue(queue_url)),
        _ => return,
    };
    refuse_difference(value.document, &value.at, key, region, sink.aws.region.as_deref());
}

pub(super) fn refuse_difference(
    document: &Document<'_>,
    at: &Place,
    key: &str,
    theirs: Option<&str>,
    ours: Option<&str>,
) {
    if let Some((theirs, ours)) = theirs.zip(ours).filter(|(theirs, ours)| theirs != ours) {
        let problem = format!("`region` is {ours:?}, and `{key}` is of {theirs:?}");
        document.error(at, problem, Some("leave `region` out, or write the same".to_owned()));
    }
}

/// `sqs.REGION.amazonaws.com`; of other hosts nothing is known.
pub(super) fn region_of_queue(queue_url: &str) -> Option<&str> {
    let (_, rest) = queue_url.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    host.strip_prefix("sqs.")?.split_once(".amazonaws.com").map(|(region, _)| region)
}

/// What is sent is signed, and can be read by everyone on the way all the same.
pub(super) fn warn_of_plain_http(sink: &SinkConfig, value: &Value<'_>) {
    let SinkKind::Http { url, .. } = &sink.kind else { return };
    if let Some(rest) = url.strip_prefix("http://")
        && !is_loopback(rest.split(['/', '?', '#']).next().unwrap_or_default())
    {
        let problem = "events go over plain HTTP: everyone on the way reads who entered where";
        value.document.warn(&value.at, problem, Some("use https://".to_owned()));
    }
}

/// A host, possibly with a port.
fn is_loopback(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        let address = v6.split(']').next().and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| address.to_canonical().is_loopback());
    }
    let name = host.split(':').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Two sinks that write to one place would mix, and take each other's files for their own.
pub(super) fn refuse_shared_place(sink: &SinkConfig, value: &Value<'_>, others: &[(SinkConfig, Place)]) {
    for (other, _) in others {
        if let Some(place) = shared_place(&sink.kind, &other.kind) {
            let hint = Some("give each sink its own".to_owned());
            value.error(format!("the sink {:?} writes to the same {place}", other.name), hint);
            return;
        }
    }
}

fn shared_place(one: &SinkKind, other: &SinkKind) -> Option<String> {
    match (one, other) {
        (SinkKind::File { dir, .. }, SinkKind::File { dir: other, .. }) => {
            (normal(dir) == normal(other)).then(|| format!("directory {}", normal(dir).display()))
        }
        (
            SinkKind::S3 { bucket, prefix, .. },
            SinkKind::S3 { bucket: other_bucket, prefix: other_prefix, .. },
        ) => {
            let is_shared =
                bucket == other_bucket && (is_below(prefix, other_prefix) || is_below(other_prefix, prefix));
            let shorter = if prefix.len() < other_prefix.len() { prefix } else { other_prefix };
            is_shared.then(|| format!("place s3://{bucket}/{shorter}"))
        }
        _ => None,
    }
}

/// Whether keys with the prefix begin with the other one, too. Prefixes end at a slash.
fn is_below(prefix: &str, other: &str) -> bool {
    let rest = prefix.strip_prefix(other);
    rest.is_some_and(|rest| other.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// The path without `.` and `x/..`, as far as that can be said without looking at the disk.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        let removed = component == Component::ParentDir && normal.file_name().is_some() && normal.pop();
        if !removed && component != Component::CurDir {
            normal.push(component);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_below_another_at_a_slash_only() {
        for (prefix, other) in [("a", "a"), ("a/b", "a"), ("a/b/c", "a/b"), ("a", ""), ("", "")] {
            assert!(is_below(prefix, other), "{prefix} {other}");
        }
        for (prefix, other) in [("ab", "a"), ("a", "a/b"), ("", "a"), ("b/a", "a")] {
            assert!(!is_below(prefix, other), "{prefix} {other}");
        }
    }

    #[test]
    fn a_queues_region_is_that_of_its_host() {
        let region = |url| region_of_queue(url);
        assert_eq!(region("https://sqs.eu-central-1.amazonaws.com/000000000000/q"), Some("eu-central-1"));
        assert_eq!(region("https://sqs.cn-north-1.amazonaws.com.cn/000000000000/q"), Some("cn-north-1"));
        assert_eq!(region("http://127.0.0.1:4566/000000000000/q"), None);
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.1.2.3:8080", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["hooks.example", "10.0.0.1", "localhost.example", "[::2]", "1270.0.0.1", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn only_a_place_of_its_own_in_the_data_directory_is_for_files() {
        for (dir, is_of_the_servers) in [
            ("data", true),
            ("data/log", true),
            ("data/sinks/../state", true),
            ("data/sinks/files", false),
            ("data2", false),
            ("files", false),
        ] {
            assert_eq!(is_of_the_server(Path::new(dir), Path::new("./data")), is_of_the_servers, "{dir}");
        }
    }
}
