//! The forms of AWS names, so that a typing mistake is found by `check` and not by an outage.
//! Sources: the API references of SNS, SQS, Kinesis, DynamoDB and the naming rules of S3 buckets.
//! Each function answers the name, or what is wrong in words that follow the value in a message.

use std::net::Ipv4Addr;

const ACCOUNT_DIGITS: usize = 12;
const MAX_TOPIC_CHARS: usize = 256;
const MAX_QUEUE_CHARS: usize = 80;
const MAX_STREAM_CHARS: usize = 128;
const MAX_DELIVERY_STREAM_CHARS: usize = 64;
const MAX_BUS_CHARS: usize = 256;
const MAX_DETAIL_TYPE_BYTES: usize = 128;
const TABLE_CHARS: std::ops::RangeInclusive<usize> = 3..=255;
const BUCKET_CHARS: std::ops::RangeInclusive<usize> = 3..=63;
/// S3 keys hold 1,024 bytes; half is left for partitions and file names.
const MAX_PREFIX_BYTES: usize = 512;
/// A FIFO topic's or queue's name ends with this.
const FIFO_SUFFIX: &str = ".fifo";

/// What is said of a URL that would be shown and logged with its secrets.
const CREDENTIALS: &str = "has a name or password before its host, which would be shown wherever the URL is";

type Named = Result<String, String>;

/// `arn:partition:sns:region:account:name`.
pub(super) fn topic_arn(text: &str) -> Named {
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "sns", region, account, name] = parts.as_slice() else {
        return Err("is no topic ARN".to_owned());
    };
    let partition_is_aws = *partition == "aws" || partition.starts_with("aws-");
    if !partition_is_aws || !is_region(region) {
        return Err("is no topic ARN: its partition or region is wrong".to_owned());
    }
    if !is_account(account) {
        return Err(format!("is no topic ARN: the account {account:?} is not {ACCOUNT_DIGITS} digits"));
    }
    if !is_name(name.strip_suffix(FIFO_SUFFIX).unwrap_or(name), 1..=MAX_TOPIC_CHARS, "_-") {
        return Err(format!("is no topic ARN: the name {name:?} is wrong"));
    }
    Ok(text.to_owned())
}

/// `https://host/account/name`; whatever host, for emulators and VPC endpoints.
pub(super) fn queue_url(text: &str) -> Named {
    url(text).map_err(|error| if error == CREDENTIALS { error } else { "is no queue URL".to_owned() })?;
    let mut parts = text.rsplit('/');
    let (Some(name), Some(account)) = (parts.next(), parts.next()) else {
        return Err("is no queue URL".to_owned());
    };
    if !is_account(account) {
        return Err(format!("is no queue URL: the account {account:?} is not {ACCOUNT_DIGITS} digits"));
    }
    if !is_name(name.strip_suffix(FIFO_SUFFIX).unwrap_or(name), 1..=MAX_QUEUE_CHARS, "_-") {
        return Err(format!("is no queue URL: the name {name:?} is wrong"));
    }
    Ok(text.to_owned())
}

/// `http://host` or `https://host`, with a port and a path at will.
pub(super) fn url(text: &str) -> Named {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| "is no http:// or https:// URL".to_owned())?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(CREDENTIALS.to_owned());
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if host.is_empty() || host.starts_with(':') || !plain(rest) {
        return Err("is no URL: its host is wrong".to_owned());
    }
    Ok(text.to_owned())
}

/// A Kinesis stream's name.
pub(super) fn stream(text: &str) -> Named {
    named(text, 1..=MAX_STREAM_CHARS, "_.-", "stream")
}

/// A Firehose delivery stream's name.
pub(super) fn delivery_stream(text: &str) -> Named {
    named(text, 1..=MAX_DELIVERY_STREAM_CHARS, "_.-", "delivery stream")
}

/// An EventBridge bus: its name, or `arn:partition:events:region:account:event-bus/name`.
pub(super) fn bus(text: &str) -> Named {
    if !text.starts_with("arn:") {
        return named(text, 1..=MAX_BUS_CHARS, "/_.-", "bus");
    }
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "events", region, account, bus] = parts.as_slice() else {
        return Err("is no bus ARN".to_owned());
    };
    let name = bus.strip_prefix("event-bus/").unwrap_or_default();
    let is_arn = partition.starts_with("aws")
        && is_region(region)
        && is_account(account)
        && is_name(name, 1..=MAX_BUS_CHARS, "/_.-");
    if is_arn { Ok(text.to_owned()) } else { Err("is no bus ARN".to_owned()) }
}

/// What EventBridge calls all events of a sink.
pub(super) fn detail_type(text: &str) -> Named {
    if (1..=MAX_DETAIL_TYPE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("is no detail type: it is 1 to {MAX_DETAIL_TYPE_BYTES} bytes without control characters"))
}

/// A DynamoDB table's name.
pub(super) fn table(text: &str) -> Named {
    named(text, TABLE_CHARS, "_.-", "table")
}

/// A region, such as `eu-central-1`.
pub(super) fn region(text: &str) -> Named {
    if is_region(text) { Ok(text.to_owned()) } else { Err("is no region".to_owned()) }
}

/// A bucket's name, by the rules for general purpose buckets.
pub(super) fn bucket(text: &str) -> Named {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = text.bytes().all(|byte| lower(byte) || byte == b'.' || byte == b'-');
    let ends_well = [text.bytes().next(), text.bytes().last()].into_iter().flatten().all(lower);
    if !BUCKET_CHARS.contains(&text.len()) || !allowed || !ends_well {
        return Err(format!(
            "is no bucket name: it is {} to {} of a-z 0-9 . - and begins and ends with a letter or digit",
            BUCKET_CHARS.start(),
            BUCKET_CHARS.end()
        ));
    }
    if text.contains("..") || text.parse::<Ipv4Addr>().is_ok() {
        return Err("is no bucket name: it has two dots in a row or is an IP address".to_owned());
    }
    if text.starts_with("xn--") || text.ends_with("-s3alias") || text.ends_with("--ol-s3") {
        return Err("is no bucket name: AWS keeps its prefix or suffix for itself".to_owned());
    }
    Ok(text.to_owned())
}

/// The beginning of all keys, without slashes at its ends; `""` is the bucket's root.
pub(super) fn prefix(text: &str) -> Named {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    if prefix.is_empty() {
        return if text.is_empty() { Ok(String::new()) } else { Err("begins with a slash".to_owned()) };
    }
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()/=".contains(&byte);
    if prefix.len() > MAX_PREFIX_BYTES || !prefix.bytes().all(safe) {
        return Err(format!(
            "is no key prefix: it is at most {MAX_PREFIX_BYTES} of A-Z a-z 0-9 ! - _ . * ' ( ) / ="
        ));
    }
    if prefix.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(
            "is no key prefix: it begins with a slash, or has an empty, \".\" or \"..\" part".to_owned()
        );
    }
    Ok(prefix.to_owned())
}

fn named(text: &str, length: std::ops::RangeInclusive<usize>, signs: &str, kind: &str) -> Named {
    if is_name(text, length.clone(), signs) {
        return Ok(text.to_owned());
    }
    let (from, to) = length.into_inner();
    Err(format!("is no {kind} name: it is {from} to {to} of A-Z a-z 0-9 and {signs}"))
}

fn is_name(text: &str, length: std::ops::RangeInclusive<usize>, signs: &str) -> bool {
    length.contains(&text.len())
        && text.chars().all(|sign| sign.is_ascii_alphanumeric() || signs.contains(sign))
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let letters_first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    letters_first && text.len() <= 32 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn right_names_pass() {
        for arn in
            ["arn:aws:sns:eu-central-1:000000000000:t", "arn:aws-cn:sns:cn-north-1:123456789012:a_b-c.fifo"]
        {
            assert_eq!(topic_arn(arn).as_deref(), Ok(arn));
        }
        for queue in [
            "https://sqs.eu-central-1.amazonaws.com/000000000000/q",
            "http://localhost:4566/000000000000/q.fifo",
        ] {
            assert_eq!(queue_url(queue).as_deref(), Ok(queue));
        }
        assert_eq!(prefix("events/"), Ok("events".into()));
        assert_eq!(prefix("a/b=c"), Ok("a/b=c".into()));
        assert_eq!(prefix(""), Ok(String::new()));
        assert_eq!(bucket("turnstiled.archive-1"), Ok("turnstiled.archive-1".into()));
        for name in ["default", "partner/x", "arn:aws:events:eu-central-1:000000000000:event-bus/b"] {
            assert_eq!(bus(name), Ok(name.into()));
        }
        assert_eq!(region("us-gov-east-1"), Ok("us-gov-east-1".into()));
    }

    #[test]
    fn wrong_names_do_not() {
        for arn in [
            "",
            "t",
            "arn:aws:sqs:eu-central-1:000000000000:t",
            "arn:aws:sns::000000000000:t",
            "arn:aws:sns:eu-central-1:1:t",
            "arn:aws:sns:eu-central-1:000000000000:",
            "arn:aws:sns:eu-central-1:000000000000:a.b",
            "arn:azure:sns:eu-central-1:000000000000:t",
            "arn:aws:sns:eu-central-1:000000000000:t:sub",
        ] {
            assert!(topic_arn(arn).is_err(), "{arn:?}");
        }
        for queue in [
            "q",
            "https://",
            "https:///000000000000/q",
            "https://h/q",
            "https://h/1/q",
            "https://h/000000000000/",
            "ftp://h/000000000000/q",
            "https://h h/000000000000/q",
        ] {
            assert!(queue_url(queue).is_err(), "{queue:?}");
        }
        for name in ["ab", "Abc", "a_b", "-abc", "abc-", "a..b", "192.168.1.1", "xn--abc", "abc-s3alias"] {
            assert!(bucket(name).is_err(), "{name:?}");
        }
        for name in
            ["", "a b", "arn:aws:events:eu-central-1:1:event-bus/b", "arn:aws:events:r:000000000000:b"]
        {
            assert!(bus(name).is_err(), "{name:?}");
        }
        for name in ["/", "/a", "a//b", "a/../b", "a b", "a//"] {
            assert!(prefix(name).is_err(), "{name:?}");
        }
        assert!(
            table("ab").is_err()
                && stream("").is_err()
                && region("EU").is_err()
                && url("http://:80").is_err()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            for check in [
                topic_arn, queue_url, url, stream, delivery_stream, bus, detail_type, table, region, bucket, prefix,
            ] {
                let _ = check(&text);
            }
        }
    }
}
