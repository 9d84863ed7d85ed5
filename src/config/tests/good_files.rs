//! What is right is read as it is meant.

use std::{num::NonZeroU32, path::Path, time::Duration};

use jiff::tz::TimeZone;

use super::{Config, LEAST, env, parse};
use crate::config::{
    EMBEDDED,
    auth::JwtConfig,
    sinks::{AwsOverrides, Compression, ObjectFormat, SinkConfig, SinkKind, SinkOrder, StartAt},
    telemetry::OtlpProtocol,
    wal::WalStore,
};
use crate::domain::{
    building::{AntiPassback, daily_reset::DailyReset},
    hosts::HostName,
    ids::{GateId, GroupId},
    reason::Reason,
    trace::Propagator,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn the_least_configuration_gets_the_documented_defaults() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.data_dir, Path::new("etc/data"));
    assert_eq!(config.auth.devices, Path::new("etc/data/devices.toml"));
    assert_eq!(config.auth.jwt, None);
    assert_eq!((config.wal.store, config.wal.retention), (WalStore::Sled, 30 * DAY));
    assert_eq!(config.wal.max_bytes, 20 << 30);
    let building = &config.buildings[0];
    assert_eq!((building.rules.building.as_str(), building.name.as_str()), ("b", "b"));
    assert_eq!(building.rules.anti_passback, AntiPassback::Hard);
    assert_eq!(building.rules.presence_timeout, Some(Duration::from_secs(16 * 3_600)));
    assert_eq!((building.rules.max_occupancy, &building.time_zone), (None, &TimeZone::UTC));
    assert!(config.sinks.is_empty() && config.tests.is_empty() && config.warnings.is_empty());
}

#[test]
fn every_key_of_a_building_is_read() {
    let keys = "id = 'b'\nname = 'Büro'\nanti_passback = 'soft'\npresence_timeout = '0s'\nmax_occupancy = 5\n\
                time_zone = 'Europe/Berlin'\nregrant_window = '3s'\ndaily_reset = '04:05'";
    let gates = "'g', passage = 'assume' }, { id = 'h', passage = 'confirm' }, { id = 'i', passage = 'confirm', passage_timeout = '30s'";
    let config = parse(&LEAST.replace("id = 'b'", keys).replace("'g'", gates)).unwrap();
    let building = &config.buildings[0];
    assert_eq!(building.name, "Büro");
    assert_eq!((building.rules.anti_passback, building.rules.presence_timeout), (AntiPassback::Soft, None));
    assert_eq!(building.rules.max_occupancy, Some(5));
    assert_eq!(building.rules.regrant_window, Duration::from_secs(3));
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let at = jiff::civil::time(4, 5, 0, 0);
    assert_eq!(building.rules.daily_reset, Some(DailyReset { at, zone }));
    let limits = [("h", 10), ("i", 30)];
    let limits = limits.map(|(gate, seconds)| (GateId::parse(gate).unwrap(), Duration::from_secs(seconds)));
    assert_eq!((building.rules.gates.len(), &building.rules.confirming), (3, &limits.into()));
}

#[test]
fn groups_become_rules_of_buildings() {
    let text = "[[schedules]]\nid = 'night'\nweekly = [{ days = ['fri', 'sat'], from = '22:00', to = '06:00' }]\n\
                holidays = ['2026-12-25']\n\
                [[schedules]]\nid = 'spare'\nweekly = [{ days = ['sun'], from = '00:00', to = '24:00' }]\n\
                [[groups]]\nid = 'guards'\nallow = [{ building = 'b', gates = ['*'], schedule = 'night' }]\n\
                [[groups]]\nid = 'nobody'\n[[routes]]";
    let text = LEAST.replace("id = 'b'", "id = 'b'\ntime_zone = 'Asia/Kolkata'").replace("[[routes]]", text);
    let config = parse(&text).unwrap();
    let groups: Vec<_> = config.groups.iter().map(ToString::to_string).collect();
    assert_eq!(groups, ["guards", "nobody"]);
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.problem.as_str()).collect();
    assert_eq!(
        warnings,
        [
            "no rule of a group names \"spare\"",
            "allows and denies nothing: cards that name it open nothing by it"
        ]
    );
    let rules = &config.buildings[0].rules;
    let refusal = |utc: &str| {
        let gate = GateId::parse("g").unwrap();
        rules.groups.refusal(&[GroupId::parse("guards").unwrap()], &gate, utc.parse().unwrap())
    };
    // 22:00 in Kolkata is 16:30 in UTC; 2026-11-20 is a Friday
    assert_eq!(refusal("2026-11-20T16:29:59Z"), Some(Reason::OutOfSchedule));
    assert_eq!(refusal("2026-11-20T16:30:00Z"), None);
    assert_eq!(refusal("2026-12-25T17:00:00Z"), Some(Reason::OutOfSchedule));
}

fn sinks(text: &str) -> Vec<SinkConfig> {
    parse(&LEAST.replace("[auth]\n", &format!("[auth]\n[sinks]\n{text}\n"))).unwrap().sinks
}

#[test]
fn dead_letters_may_be_mirrored_to_a_queue() {
    let queue = |text: &str| {
        parse(&LEAST.replace("[auth]\n", &format!("[auth]\n{text}"))).map(|config| config.letter_queue)
    };
    assert_eq!(queue("").unwrap(), None);
    assert_eq!(queue("[dead_letters]\n").unwrap(), None);
    let url = "https://sqs.eu-central-1.amazonaws.com/000000000000/dlq";
    let found = queue(&format!("[dead_letters]\nqueue_url = '{url}'\nprofile = 'p'\n")).unwrap().unwrap();
    assert_eq!((found.queue_url.as_str(), found.aws.profile.as_deref()), (url, Some("p")));
    let errors =
        queue("[dead_letters]\nqueue_url = 'arn:aws:sqs:eu-central-1:0:dlq'\n").unwrap_err().to_string();
    assert!(errors.contains("dead_letters.queue_url") && errors.contains("is no queue URL"), "{errors}");
    let errors = queue("[dead_letters]\nqueue = 'x'\n").unwrap_err().to_string();
    assert!(errors.contains("queue_url"), "the nearest known key: {errors}");
}

#[test]
fn every_type_of_sink_is_read_in_the_order_of_the_file() {
    let found = sinks(
        "z = { type = 'file', dir = '/var/x' }
         n = { type = 'sns', topic_arn = '${TOPIC}', required = true, from = 'oldest', rate_limit = 9 }
         q = { type = 'sqs', queue_url = 'http://localhost:4566/000000000000/q', region = 'eu-west-1', endpoint_url = '${EMPTY:-http://h:1}', profile = 'p' }
         k = { type = 'kinesis', stream = 's', aggregate = true }
         s = { type = 's3', bucket = 'bucket', prefix = 'a/b/', format = 'ndjson' }
         t = { type = 's3', bucket = 'other', format = 'ndjson', compression = 'zstd', max_age = '1s', max_bytes = '1MiB' }
         p = { type = 's3', bucket = 'columns', compression = 'zstd' }
         d = { type = 'dynamodb', table = 'tab', events = true }
         f = { type = 'firehose', delivery_stream = 'lines' }
         e = { type = 'eventbridge', bus = 'b', detail_type = 'turnstiled' }
         h = { type = 'http', url = 'https://h/x?y=z', secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }
         o = { type = 'stdout' }",
    );
    let names: String = found.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, "znqkstpdfeho");
    let kinds: Vec<&SinkKind> = found.iter().map(|sink| &sink.kind).collect();
    let hour = Duration::from_secs(3_600);
    assert_eq!(*kinds[0], SinkKind::File { dir: "/var/x".into(), max_bytes: 64 << 20, max_age: hour });
    assert_eq!(*kinds[1], SinkKind::Sns { topic_arn: env("TOPIC").unwrap() });
    assert_eq!(*kinds[2], SinkKind::Sqs { queue_url: "http://localhost:4566/000000000000/q".into() });
    assert_eq!(*kinds[3], SinkKind::Kinesis { stream: "s".into(), aggregate: true });
    let object = |bucket: &str, prefix: &str, format, max_bytes, seconds| SinkKind::S3 {
        bucket: bucket.into(),
        prefix: prefix.into(),
        format,
        max_bytes,
        max_age: Duration::from_secs(seconds),
    };
    assert_eq!(*kinds[4], object("bucket", "a/b", ObjectFormat::Ndjson(Compression::Gzip), 16 << 20, 60));
    assert_eq!(*kinds[5], object("other", "", ObjectFormat::Ndjson(Compression::Zstd), 1 << 20, 1));
    assert_eq!(*kinds[6], object("columns", "", ObjectFormat::Parquet, 16 << 20, 60));
    assert_eq!(*kinds[7], SinkKind::DynamoDb { table: "tab".into(), events: true });
    assert_eq!(*kinds[8], SinkKind::Firehose { delivery_stream: "lines".into() });
    let detail_type = Some("turnstiled".to_owned());
    assert_eq!(*kinds[9], SinkKind::EventBridge { bus: "b".into(), detail_type });
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    assert_eq!(*kinds[10], SinkKind::Http { url: "https://h/x?y=z".into(), secret });
    assert_eq!(*kinds[11], SinkKind::Stdout);
    assert!(found[1].required && !found[0].required);
    assert_eq!((found[1].from, found[0].from), (StartAt::Oldest, StartAt::Head));
    assert_eq!((found[1].rate_limit, found[0].rate_limit), (NonZeroU32::new(9), None));
    let given = |text: &str| Some(text.to_owned());
    let aws =
        AwsOverrides { region: given("eu-west-1"), endpoint_url: given("http://h:1"), profile: given("p") };
    assert_eq!(found[2].aws, aws);
}

#[test]
fn a_route_s_form_and_a_test_s_event_are_read_as_json() {
    let text = LEAST.replace("[auth]\n", "[auth]\n[sinks.x]\ntype = 'stdout'\n").replace(
        "to = []",
        "to = ['x']\npersonal = true\ndrop = ['by']\n\
         add = { s = '${TOPIC}', n = 0x10, f = 1.5, t = true, l = [1, { a = 2 }], d = 1979-05-27 }\n\
         [[tests]]\nevent = { type = 'card.lost', data = { n = 1 } }\nto = ['x']",
    );
    let config = parse(&text).unwrap();
    let form = config.routes.form_for("card.lost", "x").unwrap();
    assert!(form.personal);
    assert_eq!(form.drop, ["by"]);
    let expected = serde_json::json!({
        "s": env("TOPIC").unwrap(), "n": 16, "f": 1.5, "t": true, "l": [1, { "a": 2 }], "d": "1979-05-27"
    });
    assert_eq!(serde_json::Value::Object(form.add.clone()), expected);
    assert_eq!(config.tests[0].event["data"]["n"], 1);
    assert_eq!((config.tests[0].event_type.as_str(), config.tests[0].line), ("card.lost", 16));
}

#[test]
fn a_sink_keeps_the_order_that_is_asked_for() {
    let found = sinks(
        "a = { type = 'sns', topic_arn = '${TOPIC}', order = 'per_key' }
         b = { type = 'http', url = 'https://h', secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', order = 'none' }
         c = { type = 'stdout', order = 'batch' }
         d = { type = 'firehose', delivery_stream = 'lines' }",
    );
    let orders: Vec<_> = found.iter().map(|sink| sink.order).collect();
    assert_eq!(orders, [Some(SinkOrder::PerKey), Some(SinkOrder::None), Some(SinkOrder::Batch), None]);
}

#[test]
fn plain_http_and_fields_that_nothing_has_are_warned_about() {
    let sink = |name: &str, url: &str| {
        format!(
            "{name} = {{ type = 'http', url = '{url}', secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }}\n"
        )
    };
    let sinks =
        sink("x", "http://hooks.example/x") + &sink("y", "http://127.0.0.1:9/x") + &sink("z", "https://h");
    let text = LEAST.replace("[auth]\n", &format!("[auth]\n[sinks]\n{sinks}"));
    let text = text.replace("to = []", "to = ['x', 'y', 'z']\ndrop = ['note', 'employe_id', 'colour']");
    let config = parse(&text).unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "etc/routes.toml:5: sinks.x: events go over plain HTTP: everyone on the way reads who entered where; use https://",
            "etc/routes.toml:15: routes[0].drop[1]: no event has a field \"employe_id\" in its data; did you mean \"employee_id\"?",
            "etc/routes.toml:15: routes[0].drop[2]: no event has a field \"colour\" in its data",
        ]
    );
}

#[test]
fn a_useless_region_is_warned_about() {
    let text = LEAST.replace(
        "[auth]\n",
        "[auth]\n[wal]\nmax_bytes = '1GiB'\nretention = '1d'\nsnapshot_every = '1s'\n[sinks.x]\ntype = 'stdout'\nregion = 'eu-west-1'\n",
    );
    let config = parse(&text.replace("to = []", "to = ['x']")).unwrap();
    assert_eq!((config.wal.max_bytes, config.wal.retention), (1 << 30, DAY));
    assert_eq!(config.wal.snapshot_every, Duration::from_secs(1));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["etc/routes.toml:10: sinks.x.region: has no effect on this type of sink"]);
}

#[test]
fn an_address_that_is_not_loopback_is_allowed_in_so_many_words() {
    let server =
        "id = 'a'\nlisten = '0.0.0.0:80'\nallow_plain_http = true\nhosts = ['Gate:8443']\nrate_limit = 7\n";
    let text = LEAST.replace("id = 'a'\n", server);
    let config = parse(&text).unwrap();
    assert_eq!(config.server.rate_limit, NonZeroU32::new(7));
    assert_eq!(config.server.hosts, Some(vec![HostName::parse("gate:8443").unwrap()]));
    let local = "[auth]\nallow_local_issuer = true\njwt = { local = true }\n";
    assert_eq!(parse(&text.replace("[auth]\n", local)).unwrap().auth.jwt, Some(JwtConfig::Local));
    for listen in ["127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(parse(&LEAST.replace("id = 'a'\n", &format!("id = 'a'\nlisten = '{listen}'\n"))).is_ok());
    }
}

#[test]
fn certificates_are_named_relative_to_the_file() {
    let server = "id = 'a'\nlisten = '0.0.0.0:443'\nadmin_listen = '127.0.0.1:9090'\ntls = { cert = 'c.pem', key = '/k.pem' }\n";
    let config = parse(&LEAST.replace("id = 'a'\n", server)).unwrap().server;
    let tls = config.tls.unwrap();
    assert_eq!((tls.cert.as_path(), tls.key.as_path()), (Path::new("etc/c.pem"), Path::new("/k.pem")));
    assert_eq!(tls.client_ca, None);
    assert_eq!(config.admin_listen.unwrap().port(), 9_090);
    let mutual = server.replace("'/k.pem' }", "'k', client_ca = 'ca.pem' }");
    let config = parse(&LEAST.replace("id = 'a'\n", &mutual)).unwrap().server;
    assert_eq!(config.tls.unwrap().client_ca.as_deref(), Some(Path::new("etc/ca.pem")));
}

#[test]
fn the_embedded_default_is_clean() {
    let config = Config::parse(EMBEDDED, Path::new("routes.toml"), &|_| None).unwrap();
    assert!(config.warnings.is_empty());
    assert_eq!(config.auth.jwt, Some(JwtConfig::Local));
    assert!(config.server.listen.ip().is_loopback());
    assert!(config.sinks.iter().all(|sink| sink.kind.type_name() == "file"));
}

#[test]
fn the_aws_file_names_every_variable_it_needs_and_is_clean_with_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/routes.aws.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let parse =
        |env: &dyn Fn(&str) -> Option<String>| Config::parse(&text, Path::new("routes.aws.toml"), env);
    let set = |name: &str| match name {
        "TURNSTILED_SERVER_ID" => Some("hq-1".to_owned()),
        "TURNSTILED_TOPIC_ARN" => env("TOPIC"),
        "TURNSTILED_STREAM" => Some("exits".to_owned()),
        "TURNSTILED_BUCKET" => Some("archive".to_owned()),
        "TURNSTILED_TABLE" => Some("card-state".to_owned()),
        "TURNSTILED_DEAD_LETTER_QUEUE_URL" => {
            Some("https://sqs.eu-central-1.amazonaws.com/000000000000/dead".to_owned())
        }
        _ => None,
    };
    let config = parse(&set).unwrap();
    assert!(config.warnings.is_empty());
    let types: Vec<&str> = config.sinks.iter().map(|sink| sink.kind.type_name()).collect();
    assert_eq!(types, ["sns", "kinesis", "s3", "dynamodb"]);
    let errors = parse(&|_| None).unwrap_err();
    assert_eq!(errors.0.len(), 6);
    assert!(
        errors.0.iter().all(|error| error.problem.starts_with("environment variable TURNSTILED_")),
        "{errors}"
    );
    for test in &config.tests {
        assert_eq!(config.routes.sinks_for(&test.event_type).len(), test.to.len(), "{}", test.event_type);
    }
}

#[test]
fn traces_go_nowhere_unless_a_collector_is_named() {
    let least = parse(LEAST).unwrap().telemetry;
    assert_eq!((least.otlp_endpoint, least.sample_ratio, least.annotate_ids), (None, 1.0, false));
    assert_eq!(least.propagators, [Propagator::XRay, Propagator::TraceContext]);
    let section = "[telemetry]\notlp_endpoint = 'https://collector:4318'\notlp_protocol = 'http/protobuf'\n\
                   sample_ratio = 1\npropagators = ['tracecontext']\nannotate_ids = true\n";
    let telemetry = parse(&format!("{section}{LEAST}")).unwrap().telemetry;
    assert_eq!(telemetry.otlp_endpoint.as_deref(), Some("https://collector:4318"));
    assert_eq!((telemetry.otlp_protocol, telemetry.annotate_ids), (OtlpProtocol::Http, true));
    assert_eq!(telemetry.propagators, [Propagator::TraceContext]);
}
