//! The daemon against its own OpenAPI document: schemathesis makes requests of it, good ones and bad ones, and looks
//! whether each answer is one that the document names, in its form. A 5xx is a failure.
//!
//! Left out: the live feed, whose answer does not end; two checks that ask without credentials (see `authorisation.rs`; so
//! many failures from one address are 429); and the check that what fits the schema is accepted, because a schema
//! cannot know which cards there are.

use std::{env, path::Path, process::Command};

use serde_json::json;

use crate::daemon::Site;

/// Requests of one kind for one operation; `make test-long` makes ten times as many.
const EXAMPLES: u32 = 12;
const SEED: &str = "1";

#[tokio::test]
async fn every_answer_is_one_that_the_openapi_document_names() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/schemathesis");
    if !program.exists() && env::var_os("MUST_HAVE_PROVIDER").is_none() {
        return eprintln!("skipped: no {}", program.display());
    }
    let site = Site::with_files();
    let daemon = site.start();
    let (key, token) = (site.key("hq"), site.token("hr,auditor,security,admin"));
    let card = json!({ "employee_id": "E1001" });
    daemon.person(&token).put("/v1/cards/04A2B9C1", &card).await.expect(201);
    let entry = json!({ "card_id": "04A2B9C1", "gate_id": "north-1" });
    daemon.device(&key).post("/v1/buildings/hq/entries", &entry).await.expect(200);

    let examples = if env::var_os("TURNSTILED_LONG").is_some() { EXAMPLES * 10 } else { EXAMPLES };
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/schemathesis.toml");
    let output = Command::new(program)
        .current_dir(site.path(""))
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{}/openapi.json", daemon.base_url())])
        .args(["-H", &format!("X-Api-Key: {key}"), "-H", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "all"])
        .args(["--exclude-checks", "positive_data_acceptance,missing_required_header,ignored_auth"])
        .args(["--exclude-path", "/v1/events/stream"])
        .args(["-n", &examples.to_string(), "--seed", SEED])
        .args(["--no-color", "--suppress-health-check", "all", "--warnings", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed = said.lines().find(|line| line.contains("generated,")).unwrap_or_default();
    assert!(passed.contains("passed") && !passed.contains("failed"), "{said}");
    println!("schemathesis: {}", passed.trim());
}
