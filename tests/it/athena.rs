//! The archive in Parquet, read back by DuckDB and held against the log and against the table that
//! `deploy/athena.sql` declares.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use turnstiled::sinks::event_columns::{COLUMNS, EVENT_COLUMN, Kind};

use crate::{
    daemon::{Site, TWO_BUILDINGS},
    moto::Moto,
    s3::bucket,
    sinks::settled,
};

pub(crate) const PARQUET_SINK: &str = r#"
[sinks.archive]
type = "s3"
bucket = "archive"
prefix = "events"
max_age = "300ms"

[[routes]]
name = "archive"
types = ["**"]
to = ["archive"]
personal = true
"#;

/// Names and types.
type Columns = Vec<(String, String)>;

/// The columns of the table, and its partitions.
fn declared() -> (Columns, Columns) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/athena.sql");
    let text = fs::read_to_string(path).unwrap();
    let (columns, partitions) = text.split_once("PARTITIONED BY").unwrap();
    let read = |text: &str| {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix('`'));
        lines
            .map(|line| {
                let (name, rest) = line.split_once("` ").unwrap();
                let kind = rest.split([' ', ',']).next().unwrap();
                (name.to_owned(), kind.to_owned())
            })
            .collect()
    };
    (read(columns), read(partitions))
}

#[test]
fn the_table_declares_the_columns_that_are_written() {
    let athena = |kind| match kind {
        Kind::Text => "string",
        Kind::Number => "bigint",
        Kind::Moment => "timestamp",
    };
    let written = COLUMNS.iter().map(|column| (column.name.to_owned(), athena(column.kind).to_owned()));
    let written: Vec<_> = written.chain([(EVENT_COLUMN.to_owned(), "string".to_owned())]).collect();
    assert_eq!(declared().0, written);
}

/// The interpreter beside the emulator: both come from `tests/requirements.txt`.
fn python() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    let program = std::env::var_os("MOTO_SERVER").map_or(default, PathBuf::from);
    program.with_file_name("python")
}

#[tokio::test]
async fn another_reader_finds_what_the_table_declares_and_the_log_has() {
    let Some(moto) = Moto::start() else { return };
    let client = bucket(&moto.sdk_config()).await;
    let site = Site::new(&format!("{TWO_BUILDINGS}{PARQUET_SINK}")).with_aws(&moto);
    let (key, token) = (site.key("hq"), site.token("hr,admin"));
    let daemon = site.start();
    let (hr, gate) = (daemon.person(&token), daemon.device(&key));
    hr.put("/v1/cards/C1", &json!({ "employee_id": "E1", "holder_name": "Ada" })).await.expect(201);
    let occurred_at = "2026-11-20T08:01:02.345Z";
    for (way, card, code) in [("entries", "C1", 200), ("exits", "C1", 202), ("entries", "C9", 200)] {
        let swipe = json!({ "card_id": card, "gate_id": "north-1", "occurred_at": occurred_at });
        gate.post(&format!("/v1/buildings/hq/{way}"), &swipe).await.expect(code);
    }
    settled(&hr, &[("archive", 4)]).await;
    assert!(daemon.stop().0.success());

    let copy = site.path("copy");
    for listed in client.list_objects_v2().bucket("archive").send().await.unwrap().contents() {
        let path = copy.join(listed.key().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let object = client.get_object().bucket("archive").key(listed.key().unwrap()).send().await.unwrap();
        fs::write(path, object.body.collect().await.unwrap().to_vec()).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/read_parquet.py");
    let output = Command::new(python()).arg(script).arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();

    let (columns, partitions) = declared();
    let in_duckdb = |kind: &str| match kind {
        "string" => "VARCHAR",
        "bigint" => "BIGINT",
        "timestamp" => "TIMESTAMP WITH TIME ZONE",
        other => panic!("{other}"),
    };
    let expected: Vec<_> =
        columns.iter().chain(&partitions).map(|(name, kind)| json!([name, in_duckdb(kind)])).collect();
    assert_eq!(found["columns"], json!(expected));

    let log = site.dump();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), log.len());
    for (row, event) in rows.iter().zip(&log) {
        let whole: Value = serde_json::from_str(row["event"].as_str().unwrap()).unwrap();
        for name in ["id", "type", "source", "subject", "log", "partitionkey", "traceparent"] {
            assert_eq!((&row[name], &whole[name]), (&event[name], &event[name]), "{name}");
        }
        assert_eq!(row["chainhash"], whole["chainhash"]);
        assert_eq!(row["sequence"], event["sequence"].as_str().unwrap().parse::<u64>().unwrap());
        for name in ["gate", "card_id", "employee_id", "reason", "bacnet_code", "by", "status", "version"] {
            assert_eq!(row[name], event["data"][name], "{name}");
        }
        let time: turnstiled::domain::time::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(row["time"], time.as_millis());
        let building = event["data"]["building"].as_str().unwrap_or("_server");
        let hour = event["time"].as_str().unwrap();
        assert_eq!(
            (&row["building"], &row["dt"], &row["hour"]),
            (&json!(building), &json!(hour[..10]), &json!(hour[11..13]))
        );
    }
    assert_eq!(rows[3]["reason"], "unknown_card");
    assert_eq!(rows[3]["occurred_at"], 1_795_161_662_345_i64);

    let output = site.run(&["wal", "verify", "--against", "s3://archive/events"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("4 events are byte for byte"), "{said}");

    // a bit flips in a copy
    let damaged = files(&copy).remove(0);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let output = site.run(&["wal", "verify", "--against", copy.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is damaged: nothing from here on can be read"), "{said}");
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
