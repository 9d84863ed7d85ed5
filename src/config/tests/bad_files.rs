//! What is wrong is said, where it is.

use std::path::Path;

use proptest::prelude::*;

use super::{Config, LEAST, env, errors, parse};
use crate::config::{EMBEDDED, limits};

/// A change of [`LEAST`] (a text in it and what replaces it) and all errors it must give.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    // Syntax: all of it, and nothing else.
    ("id = 'a'", "id = 'a", &["2: invalid literal string, expected `'`"]),
    ("id = 'a'", "id = 'a'\nid = 'b'", &["3: duplicate key"]),
    // Sections.
    ("[auth]\n", "", &["1: auth: is required"]),
    (
        "[auth]\n",
        "[auth]\n[telemetry]\nsample_ratio = 1.5\notlp_endpoint = 'collector:4317'\notlp_protocol = 'http'\npropagators = ['b3', 'xray']\nsample_rato = 1\n",
        &[
            "5: telemetry.sample_ratio: is not from 0 to 1",
            "6: telemetry.otlp_endpoint: \"collector:4317\" is no http:// or https:// URL; write the collector's address, such as \"http://127.0.0.1:4317\"",
            "7: telemetry.otlp_protocol: \"http\" is not one of \"grpc\", \"http/protobuf\"",
            "8: telemetry.propagators[0]: \"b3\" is not one of \"xray\", \"tracecontext\"",
            "9: telemetry.sample_rato: unknown key; did you mean \"sample_ratio\"?",
        ],
    ),
    ("[auth]\n", "[auth]\n[autth]\n", &["4: autth: unknown key; did you mean \"auth\"?"]),
    (
        "[auth]\n",
        "auth = 1\n",
        &[
            "1: auth: is required",
            "3: server.auth: unknown key; known here: admin_listen, allow_plain_http, data_dir, hosts, id, listen, rate_limit, tls",
        ],
    ),
    ("[server]\n", "sinks = 3\n[server]\n", &["1: sinks: must be a table, this is a whole number"]),
    ("[[buildings]]", "[buildings]", &["4: buildings: must be a list, this is a table"]),
    // Server and auth.
    ("id = 'a'", "", &["1: server.id: is required"]),
    ("id = 'a'", "id = ''", &["2: server.id: \"\" is no id: an id is 1 to 64 of A-Z a-z 0-9 _ -"]),
    (
        "id = 'a'",
        "id = 'a'\nhosts = []",
        &["3: server.hosts: names no host: every request would be refused; leave it out to accept any"],
    ),
    (
        "id = 'a'",
        "id = 'a'\nhosts = ['gate', 'http://gate']",
        &[
            "3: server.hosts[1]: \"http://gate\" is no name of a host; write names such as \"gate.hq.example\", possibly with a port",
        ],
    ),
    (
        "id = 'a'",
        "id = 'a'\nlisten = '127.0.0.1:80'\nadmin_listen = '127.0.0.1:80'",
        &["4: server.admin_listen: 127.0.0.1:80 is `listen` already; give it another port"],
    ),
    (
        "id = 'a'",
        "id = 'a'\nadmin_listen = '10.0.0.1:80'",
        &[
            "3: server.admin_listen: 10.0.0.1:80 is not loopback, and with plain HTTP everyone on the way reads keys and tokens; set `tls`, or say `allow_plain_http = true` if something in front of it does TLS",
        ],
    ),
    (
        "id = 'a'",
        "id = 'a'\ntls = { cert = 'a.pem', kee = 'b' }",
        &["3: server.tls.key: is required", "3: server.tls.kee: unknown key; did you mean \"key\"?"],
    ),
    ("id = 'a'", "id = 'a'\nrate_limit = 0", &["3: server.rate_limit: 0 is not from 1 to 100000"]),
    (
        "id = 'a'",
        "id = 'a'\nlisten = '10.0.0.1:80'",
        &[
            "3: server.listen: 10.0.0.1:80 is not loopback, and with plain HTTP everyone on the way reads keys and tokens; set `tls`, or say `allow_plain_http = true` if something in front of it does TLS",
        ],
    ),
    (
        "id = 'a'\n",
        "id = 'a'\nlisten = '[::]:80'\nallow_plain_http = false\n",
        &[
            "3: server.listen: [::]:80 is not loopback, and with plain HTTP everyone on the way reads keys and tokens; set `tls`, or say `allow_plain_http = true` if something in front of it does TLS",
        ],
    ),
    (
        "id = 'a'\n[auth]",
        "id = 'a'\nlisten = '0.0.0.0:80'\nallow_plain_http = true\n[auth]\njwt = { local = true }",
        &[
            "6: auth.jwt: the local issuer, whose tokens anyone with access to data_dir can make, on 0.0.0.0:80, which is not loopback; use an OpenID provider, or say `allow_local_issuer = true`",
        ],
    ),
    (
        "id = 'a'",
        "id = '${NONE}'",
        &["2: server.id: environment variable NONE is not set; set it, or give a default: ${NAME:-default}"],
    ),
    ("id = 'a'", "id = '${a b}'", &["2: server.id: has \"${a b}\", which names no environment variable"]),
    ("id = 'a'", "id = '${A'", &["2: server.id: has \"${\" without a closing \"}\""]),
    (
        "[auth]",
        "[auth]\njwt = { local = 1 }",
        &["4: auth.jwt.local: must be true or false, this is a whole number"],
    ),
    // The log.
    (
        "[auth]",
        "[auth]\n[wal]\nstore = 'sledd'",
        &["5: wal.store: \"sledd\" is not one of \"sled\", \"segments\"; did you mean \"sled\"?"],
    ),
    (
        "[auth]",
        "[auth]\n[wal]\nstore = 'file'",
        &["5: wal.store: \"file\" is not one of \"sled\", \"segments\""],
    ),
    ("[auth]", "[auth]\n[wal]\nmax_bytes = '1B'", &["5: wal.max_bytes: 1B is not from 16MiB to 64TiB"]),
    // Schedules and groups; what is wrong in one is no reason to deny that the other names it.
    (
        "[[routes]]",
        "[[schedules]]\nid = 's'\nweekly = [{ days = [], from = '6:00', to = '22:00' }]\nholidays = ['25.12.2026']\n\
         [[groups]]\nid = 'g'\nallow = [{ building = 'b', gates = ['*'], schedule = 's' }]\n[[routes]]",
        &[
            "9: schedules[0].weekly[0].days: names no day; leave this window out, or name its days: \"mon\"",
            "9: schedules[0].weekly[0].from: \"6:00\" is no time of day: write HH:MM, from \"00:00\" to \"24:00\"",
            "10: schedules[0].holidays[0]: \"25.12.2026\" is no date; write it as \"2026-12-25\"",
        ],
    ),
    (
        "[[routes]]",
        "[[schedules]]\nid = 's'\nweekly = [{ days = ['mo'], from = '06:00', to = '06:00' }, \
         { days = ['sat'], from = '24:00', to = '01:00' }, { days = ['sun'], from = '05:00', to = '05:00' }]\n\
         [[schedules]]\nid = 's'\nweekly = []\n[[routes]]",
        &[
            "9: schedules[0].weekly[0].days[0]: \"mo\" is not one of \"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"; did you mean \"mon\"?",
            "9: schedules[0].weekly[1]: begins at 24:00; write 00:00 and the day after",
            "9: schedules[0].weekly[2]: ends when it begins; 00:00 to 24:00 is the whole day",
            "11: schedules[1].id: schedule \"s\" is there already, on line 8",
            "12: schedules[1].weekly: is empty, so the schedule never holds; a rule that shall never apply is better left out",
        ],
    ),
    (
        "[[routes]]",
        "[[schedules]]\nid = 'office'\nweekly = [{ days = ['mon'], from = '06:00', to = '22:00' }]\n\
         [[groups]]\nid = 'g'\nallow = [{ building = 'bb', gates = ['g'] }, { building = 'b', gates = ['gg', '*'] },\n\
         { building = 'b', gates = ['g'], schedule = 'offices' }]\n\
         deny = [{ building = 'b', gates = [] }, { gates = ['g'], to = 1 }, { building = 'b', gates = ['*', 'g'] }]\n\
         [[groups]]\nid = 'g'\nallow = [{ building = 'b' }]\n[[routes]]",
        &[
            "12: groups[0].allow[0].building: \"bb\" is no id in [[buildings]]; known here: b",
            "12: groups[0].allow[1].gates: names \"*\" and other gates; \"*\" is all of them",
            "12: groups[0].allow[1].gates[0]: \"gg\" is no gate of building b; known here: g",
            "13: groups[0].allow[2].schedule: \"offices\" is no id in [[schedules]]; did you mean \"office\"?",
            "14: groups[0].deny[0].gates: names no gate; leave the rule out, or name gates; [\"*\"] is all of them",
            "14: groups[0].deny[1].building: is required",
            "14: groups[0].deny[1].to: unknown key; known here: building, gates, schedule",
            "14: groups[0].deny[2].gates: names \"*\" and other gates; \"*\" is all of them",
            "16: groups[1].id: group \"g\" is there already, on line 11",
            "17: groups[1].allow[0].gates: is required",
        ],
    ),
    // Buildings.
    (
        "id = 'b'",
        "id = 'b'\npresence_timeout = '5ms'",
        &["6: buildings[0].presence_timeout: 5ms is shorter than a second; \"0s\" means never"],
    ),
    (
        "id = 'b'",
        "id = 'b'\nmax_occupancy = -1",
        &["6: buildings[0].max_occupancy: -1 is not from 1 to 1000000"],
    ),
    (
        "id = 'b'",
        "id = 'b'\nname = ''",
        &["6: buildings[0].name: \"\" is no name: a name is 1 to 128 printable characters"],
    ),
    (
        "id = 'b'",
        "id = 'b'\ndaily_reset = '4:00'",
        &[
            "6: buildings[0].daily_reset: \"4:00\" is no time of day; write the hour and the minute, such as \"04:00\"",
        ],
    ),
    (
        "id = 'b'",
        "id = 'b'\ndaily_reset = '24:00'",
        &[
            "6: buildings[0].daily_reset: \"24:00\" is no time of day; write the hour and the minute, such as \"04:00\"",
        ],
    ),
    (
        "id = 'b'",
        "id = 'b'\nregrant_window = '6m'",
        &["6: buildings[0].regrant_window: 6m is not from 0s to 5m"],
    ),
    (
        "{ id = 'g' }",
        "{ id = 'g', passage_timeout = '2h' }",
        &[
            "6: buildings[0].gates[0].passage_timeout: is the time limit of a gate with passage = \"confirm\"; this gate has none",
            "6: buildings[0].gates[0].passage_timeout: 2h is not from 1s to 1h",
        ],
    ),
    (
        "id = 'b'",
        "id = 'b'\ntime_zone = 'Mars/Olympus'",
        &["6: buildings[0].time_zone: \"Mars/Olympus\" is no IANA time zone"],
    ),
    (
        "gates = [{ id = 'g' }]",
        "gates = ['g']",
        &["6: buildings[0].gates[0]: must be a table, this is a string"],
    ),
    (
        "[[routes]]",
        "[[buildings]]\nid = 'b'\ngates = [{ id = 'g' }]\n[[routes]]",
        &["8: buildings[1].id: building \"b\" is there already, on line 5"],
    ),
    // Sinks.
    ("[auth]", "[auth]\n[sinks.x]", &["4: sinks.x.type: is required"]),
    (
        "[auth]",
        "[auth]\n[sinks.x]\ntype = 'http'\nurl = 'u'\nsecret = 'whsec_c2hvcnQ='",
        &[
            "6: sinks.x.url: \"u\" is no http:// or https:// URL; such as \"https://hooks.example.com/turnstiles\"",
            "7: sinks.x.secret: a secret is whsec_ and 24 to 64 bytes in base64; write whsec_ and what `openssl rand -base64 32` prints",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks.x]\ntype = 'file'\nbucket = 'u'",
        &["4: sinks.x.dir: is required", "6: sinks.x.bucket: unknown key"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks.x]\ntype = 'kinesis'\nstream = 's'\naggregate = 'yes'",
        &["7: sinks.x.aggregate: must be true or false, this is a string"],
    ),
    ("[auth]", "[auth]\n[sinks.x]\ntype = 'eventbridge'", &["4: sinks.x.bus: is required"]),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 'stdout', rate_limit = 0, from = 'tail' }",
        &[
            "5: sinks.x.rate_limit: 0 is not from 1 to 1000000",
            "5: sinks.x.from: \"tail\" is not one of \"head\", \"oldest\"",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 'file', dir = 'd' }\ny = { type = 'file', dir = './e/../d' }",
        &["6: sinks.y: the sink \"x\" writes to the same directory etc/d; give each sink its own"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 's3', bucket = 'abc', prefix = 'a/b' }\ny = { type = 's3', bucket = 'abc', prefix = 'a' }",
        &["6: sinks.y: the sink \"x\" writes to the same place s3://abc/a; give each sink its own"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 's3', bucket = 'abc' }\ny = { type = 's3', bucket = 'abc', prefix = 'a' }",
        &["6: sinks.y: the sink \"x\" writes to the same place s3://abc/; give each sink its own"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 's3', bucket = 'abc', compression = 'gzip' }",
        &["5: sinks.x.compression: is for NDJSON: Parquet is compressed with zstd; leave it out"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 'stdout', order = 'none' }\ny = { type = 'sqs', queue_url = 'https://h/000000000000/q.fifo', order = 'none' }\nz = { type = 'kinesis', stream = 's', order = 'batch' }",
        &[
            "5: sinks.x.order: \"none\" is not one of \"batch\"",
            "6: sinks.y.order: \"none\" is not one of \"per_key\"",
            "7: sinks.z.order: \"batch\" is not one of \"per_key\", \"none\"",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 'sns', topic_arn = '${TOPIC}', region = 'eu-west-1' }\ny = { type = 'sqs', queue_url = 'https://sqs.eu-central-1.amazonaws.com/000000000000/q', region = 'eu-west-1' }",
        &[
            "5: sinks.x: `region` is \"eu-west-1\", and `topic_arn` is of \"eu-central-1\"; leave `region` out",
            "6: sinks.y: `region` is \"eu-west-1\", and `queue_url` is of \"eu-central-1\"; leave `region` out",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nq = { type = 'sqs', queue_url = 'https://h/000000000000/q' }\n[dead_letters]\nqueue_url = 'https://h/000000000000/q'",
        &["5: sinks.q: its queue is the one of [dead_letters], too"],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nq = { type = 'sqs', queue_url = 'https://h/000000000000/q' }\n[card_sync]\naccept_from = ['b']\nqueue_url = 'https://h/000000000000/q'",
        &[
            "8: card_sync.queue_url: the sink \"q\" writes to this queue, and what it writes would be deleted unread",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[card_sync]\naccept_from = ['b']\nqueue_url = 'https://h/000000000000/q'\n[dead_letters]\nqueue_url = 'https://h/000000000000/q'",
        &[
            "6: card_sync.queue_url: [dead_letters] writes to this queue, and what it writes would be deleted unread",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nx = { type = 'file', dir = 'data/log' }\ny = { type = 'file', dir = 'data/sinks/y' }",
        &[
            "5: sinks.x: etc/data/log is where the server keeps what it must not lose; choose a directory elsewhere",
        ],
    ),
    (
        "[auth]",
        "[auth]\n[sinks]\nh = { type = 'http', url = 'https://me:hush@h/x', secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }",
        &["5: sinks.h.url: \"https://***@h/x\" has a name or password before its host"],
    ),
    // Routes.
    ("['**']", "[]", &["9: routes[0].types: is empty: no event takes this route"]),
    ("to = []", "to = ['x']", &["10: routes[0].to[0]: there is no sink \"x\""]),
    (
        "['**']",
        "['**', 'card.lostt']",
        &[
            "9: routes[0].types[1]: unreachable: \"card.lostt\" matches no event type; did you mean \"card.lost\"?",
        ],
    ),
    ("['**']", "['**', 'Card.*']", &["9: routes[0].types[1]: \"Card.*\" has the word \"Card\""]),
    (
        "['**']",
        "['card.*', 'a*']",
        &["9: routes[0].types[1]: \"a*\" has the word \"a*\": \"*\" and \"**\" stand for whole words only"],
    ),
    (
        "['**']",
        "['access.**', 'admin.*', 'building.**', 'card.*', 'l*.x', 'presence.*']",
        &["9: routes[0].types[4]: \"l*.x\" has the word"],
    ),
    (
        "['**']",
        "['access.**', 'admin.*', 'building.**', 'card.*', 'presence.*', 'sync.**']",
        &["7: routes: no route for audit.read, log.repaired, muster.accounted; add them"],
    ),
    ("to = []", "to = []\nadd = 1", &["11: routes[0].add: must be a table, this is a whole number"]),
    // Tests.
    (
        "to = []",
        "to = []\n[[tests]]\nevent = { type = 'card.lost' }\nto = []\nname = 'x'",
        &["14: tests[0].name: unknown key; known here: event, to"],
    ),
];

#[test]
fn each_mistake_is_named_with_its_line() {
    for (from, to, expected) in CASES {
        assert!(LEAST.contains(from), "{from}");
        let found = errors(&LEAST.replacen(from, to, 1));
        let same = found.len() == expected.len()
            && found.iter().zip(*expected).all(|(found, expected)| found.starts_with(expected));
        assert!(same, "{to:?} gives\n{found:#?}\nnot\n{expected:#?}");
    }
}

#[test]
fn a_file_that_is_wrong_everywhere_gets_all_its_errors_at_once() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let text = std::fs::read_to_string(dir.join("bad.toml")).unwrap();
    let found = Config::parse(&text, Path::new("bad.toml"), &env).unwrap_err().to_string() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(dir.join("bad.txt"), &found).unwrap();
    }
    let expected = std::fs::read_to_string(dir.join("bad.txt")).unwrap();
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    assert_eq!(found, expected);
}

#[test]
fn limits_hold() {
    let gates = format!("gates = [{}]", "{ id = 'g' },".repeat(limits::MAX_GATES_PER_BUILDING + 1));
    assert_eq!(
        errors(&LEAST.replace("gates = [{ id = 'g' }]", &gates)),
        ["6: buildings[0].gates: has 1001 entries, at most 1000 are possible"]
    );
    let sinks: String = (0..=limits::MAX_SINKS).map(|n| format!("s{n} = {{ type = 'stdout' }}\n")).collect();
    assert_eq!(
        errors(&LEAST.replace("[auth]\n", &format!("[auth]\n[sinks]\n{sinks}"))),
        ["4: sinks: has 65 sinks, at most 64 are possible"]
    );
    let many: String = (0..2_000).map(|n| format!("x{n} = 1\n")).collect();
    let found = errors(&LEAST.replace("[auth]\n", &format!("[auth]\n{many}")));
    assert_eq!(found.len(), limits::MAX_ERRORS + 1);
    assert!(found.last().unwrap().ends_with("more than 1000 errors: the rest is left out"));
}

#[test]
fn a_shadowed_route_is_an_error_and_a_shadowed_sink_a_warning() {
    let sinks =
        "[auth]\n[sinks]\nx = { type = 'stdout' }\ny = { type = 'stdout' }\nz = { type = 'stdout' }\n";
    let text = LEAST
        .replace("[auth]\n", sinks)
        .replace("to = []", "to = ['x']\n[[routes]]\nname = 's'\ntypes = ['card.*']\nto = TO");
    assert_eq!(
        errors(&text.replace("TO", "['x']")),
        [
            "15: routes[1]: unreachable: earlier routes lead all its events to the same sinks; the first route decides: put the narrower one first, or delete it"
        ]
    );
    let warnings: Vec<String> =
        parse(&text.replace("TO", "['x', 'y']")).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "etc/routes.toml:7: sinks.z: no route leads to this sink",
            "etc/routes.toml:15: routes[1]: earlier routes lead all its events to x already; the first route decides: put the narrower one first, or delete it"
        ]
    );
}

#[test]
fn a_route_may_not_edit_what_items_are_made_of() {
    let text = LEAST
        .replace(
            "[auth]\n",
            "[auth]\n[sinks]\nx = { type = 'stdout' }\nt = { type = 'dynamodb', table = 'cards' }\n",
        )
        .replace("to = []", "to = ['x', 't']\ndrop = ['by', 'version']\nadd = { card_id = 1 }");
    assert_eq!(
        errors(&text),
        [
            "10: routes[0]: drops or adds card_id, version, which the items of t are made of; lead these events to t by a route of its own"
        ]
    );
    assert!(errors(&text.replace("'version'", "'note'").replace("card_id", "site")).is_empty());
    assert!(errors(&text.replace("['x', 't']", "['x']")).is_empty());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}|[\\[\\]={}\"'a-z.\n$ 0-9]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_file_never_panics(start in 0..EMBEDDED.len(), length in 0_usize..60, put in "[\\[\\]={}\"'a-z.\n$0-9]{0,8}") {
        let end = (start + length).min(EMBEDDED.len());
        let damaged = [&EMBEDDED.as_bytes()[..start], put.as_bytes(), &EMBEDDED.as_bytes()[end..]].concat();
        match parse(&String::from_utf8_lossy(&damaged)) {
            Ok(_) => {}
            Err(errors) => prop_assert!(!errors.0.is_empty()),
        }
    }
}
