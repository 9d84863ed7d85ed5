//! Who may call what: every endpoint × every kind of caller, from one table. The OpenAPI document must say the same.
//!
//! Bodies are `{}`: who is let in is told what is missing, and nothing changes. Who is not let in is told that first.

use std::{collections::BTreeSet, net::Ipv4Addr};

use reqwest::Method;
use serde_json::Value;

use crate::{
    daemon::{Daemon, Site},
    http::Caller,
};

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Anyone,
    /// A device's key of one of these kinds, of this building; or a person.
    Device(&'static [&'static str]),
    /// A device's key of one of these kinds, of this building, or a person with one of these roles.
    DeviceOrPerson(&'static [&'static str], &'static [&'static str]),
    /// A person with one of these roles. Where the path names a building, the role for that building will do.
    Person(&'static [&'static str]),
    /// A person with one of these roles, for whatever building: the answer has that building's part.
    PersonOfAny(&'static [&'static str]),
}

use Who::{Anyone, Device, DeviceOrPerson, Person, PersonOfAny};

const GATE: Who = Device(&["gate"]);
const ANY_ROLE: Who = PersonOfAny(&["hr", "auditor", "security", "admin"]);

const TABLE: &[(&str, Who)] = &[
    ("POST /v1/buildings/{building}/entries", GATE),
    ("POST /v1/buildings/{building}/entries/recorded", GATE),
    ("POST /v1/buildings/{building}/exits", GATE),
    ("POST /v1/buildings/{building}/exits/batch", GATE),
    ("POST /v1/buildings/{building}/events", GATE),
    ("GET /v1/buildings/{building}", ANY_ROLE),
    ("POST /v1/buildings/{building}/mode", DeviceOrPerson(&["panel"], &["security"])),
    ("GET /v1/buildings/{building}/muster", Person(&["security"])),
    ("POST /v1/buildings/{building}/muster/{employee_id}/account", Person(&["security"])),
    ("POST /v1/buildings/{building}/passages", GATE),
    ("GET /v1/buildings/{building}/presence", Person(&["security", "auditor"])),
    ("POST /v1/buildings/{building}/presence/{employee_id}/forgive", Person(&["security"])),
    ("POST /v1/buildings/{building}/presence/reset", Person(&["security"])),
    ("GET /v1/cards", Person(&["hr", "auditor"])),
    ("GET /v1/cards/{card_id}", Person(&["hr", "auditor"])),
    ("PUT /v1/cards/{card_id}", Person(&["hr"])),
    ("GET /v1/cards/{card_id}/events", PersonOfAny(&["auditor"])),
    ("GET /v1/employees/{employee_id}/events", PersonOfAny(&["auditor"])),
    ("POST /v1/cards/{card_id}/{action}", Person(&["hr", "security"])),
    ("GET /v1/events/stream", PersonOfAny(&["security", "auditor"])),
    ("GET /v1/sinks", ANY_ROLE),
    ("DELETE /v1/sinks/{name}/cursor", Person(&["admin"])),
    ("GET /v1/dead-letters", Person(&["admin"])),
    ("POST /v1/dead-letters/redrive", Person(&["admin"])),
    ("GET /v1/dead-letters/{id}", Person(&["admin"])),
    ("DELETE /v1/dead-letters/{id}", Person(&["admin"])),
    ("GET /v1/replays", Person(&["admin"])),
    ("POST /v1/replays", Person(&["admin"])),
    ("GET /v1/replays/{name}", Person(&["admin"])),
    ("DELETE /v1/replays/{name}", Person(&["admin"])),
    ("GET /healthz", Anyone),
    ("GET /readyz", Anyone),
    ("GET /metrics", Anyone),
    ("GET /openapi.json", Anyone),
    ("GET /docs", Anyone),
    ("POST /v1/cards/import", Person(&["hr"])),
    ("GET /v1/cards/export", Person(&["hr"])),
];

/// What the placeholders stand for.
const VALUES: &[(&str, &str)] = &[
    ("{building}", "hq"),
    ("{employee_id}", "E404"),
    ("{card_id}", "C404"),
    ("{action}", "suspend"),
    ("{name}", "nothing"),
    ("{id}", "nothing:404"),
];

/// Someone with credentials.
enum Credentials {
    None,
    /// No key or token that there is.
    Wrong,
    /// A key: its kind and building.
    Key(&'static str, &'static str),
    /// A token: its role, such as `security@hq`.
    Token(&'static str),
}

const CALLERS: &[Credentials] = &[
    Credentials::None,
    Credentials::Wrong,
    Credentials::Key("gate", "hq"),
    Credentials::Key("gate", "annex"),
    Credentials::Key("panel", "hq"),
    Credentials::Key("panel", "annex"),
    Credentials::Key("break-glass", "hq"),
    Credentials::Key("break-glass", "annex"),
    Credentials::Token("hr"),
    Credentials::Token("hr@hq"),
    Credentials::Token("hr@annex"),
    Credentials::Token("auditor"),
    Credentials::Token("auditor@hq"),
    Credentials::Token("auditor@annex"),
    Credentials::Token("security"),
    Credentials::Token("security@hq"),
    Credentials::Token("security@annex"),
    Credentials::Token("admin"),
    Credentials::Token("admin@hq"),
    Credentials::Token("admin@annex"),
];

impl Credentials {
    fn caller(&self, site: &Site, daemon: &Daemon) -> Caller {
        match self {
            Self::None => daemon.anyone(),
            // both headers, so that it is wrong for devices and people
            Self::Wrong => Caller::new(
                daemon.base_url().to_owned(),
                Some(("Authorization", "Bearer k_00000000.wrong".into())),
            ),
            Self::Key(kind, building) => {
                let key = site.run_well(&["keys", "add", "--building", building, "--kind", kind]);
                // a break-glass key is sent as a token
                if *kind == "break-glass" { daemon.person(key.trim()) } else { daemon.device(key.trim()) }
            }
            Self::Token(role) => daemon.person(&site.token(role)),
        }
    }

    /// The status that refuses this caller; none if they are let in.
    fn refusal(&self, who: Who, path: &str) -> Option<u16> {
        let (kinds, roles, is_any): (&[&str], &[&str], bool) = match who {
            Anyone => return None,
            Device(kinds) => (kinds, &[], false),
            DeviceOrPerson(kinds, roles) => (kinds, roles, false),
            Person(roles) => (&[], roles, false),
            PersonOfAny(roles) => (&[], roles, true),
        };
        let is_of_building = path.contains("{building}");
        let (is_device, is_allowed) = match self {
            Self::None | Self::Wrong => return Some(401),
            Self::Key("break-glass", building) => {
                (false, roles.contains(&"security") && (is_any || is_of_building && *building == "hq"))
            }
            Self::Key(kind, building) => (true, kinds.contains(kind) && *building == "hq"),
            Self::Token(token) => {
                let (role, building) =
                    token.split_once('@').map_or((*token, None), |(role, at)| (role, Some(at)));
                let is_here = building.is_none_or(|building| is_any || is_of_building && building == "hq");
                (false, roles.contains(&role) && is_here)
            }
        };
        let is_taken = if is_device { !kinds.is_empty() } else { !roles.is_empty() };
        match (is_taken, is_allowed) {
            (false, _) => Some(401), // not the credentials that are asked for
            (true, false) => Some(403),
            (true, true) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::None => "nobody".to_owned(),
            Self::Wrong => "wrong credentials".to_owned(),
            Self::Key(kind, building) => format!("{kind} key of {building}"),
            Self::Token(role) => format!("token {role}"),
        }
    }
}

#[tokio::test]
async fn each_endpoint_lets_in_whom_the_table_says() {
    let site = Site::with_files();
    let daemon = site.start();
    let mut wrong = Vec::new();
    for (caller_number, credentials) in CALLERS.iter().enumerate() {
        let caller = credentials.caller(&site, &daemon);
        for (number, (endpoint, who)) in TABLE.iter().enumerate() {
            let from = Ipv4Addr::new(127, 0, 1 + caller_number as u8, 1 + number as u8);
            let (method, pattern) = endpoint.split_once(' ').unwrap();
            let path =
                VALUES.iter().fold(pattern.to_owned(), |path, (name, value)| path.replace(name, value));
            let method: Method = method.parse().unwrap();
            let body = if method == Method::GET { "" } else { "{}" };
            let status = caller.status(from, method, &path, body).await;
            let is_right = match credentials.refusal(*who, pattern) {
                Some(refusal) => status == refusal,
                None => !matches!(status, 401 | 403 | 500..),
            };
            if !is_right {
                wrong.push(format!("{endpoint} by {}: {status}", credentials.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CALLERS.len() * TABLE.len() > 400);
}

#[test]
fn the_openapi_document_names_the_same_callers() {
    let document: Value = serde_json::from_str(&Site::with_files().run_well(&["openapi"])).unwrap();
    let mut wrong = Vec::new();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let endpoint = format!("{} {path}", method.to_uppercase());
            let who = TABLE.iter().find(|(known, _)| *known == endpoint).map(|(_, who)| requirement(*who));
            if who.as_ref() != Some(&operation["security"]) {
                wrong.push(format!("{endpoint}: document {}, table {who:?}", operation["security"]));
            }
            documented.insert(endpoint);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(documented.len(), TABLE.len(), "the table has endpoints that are not there");
}

/// As OpenAPI 3.1 writes it: schemes with roles, one of which will do.
fn requirement(who: Who) -> Value {
    let device = |kinds: &[&str]| serde_json::json!({ "device": kinds });
    let person = |roles: &[&str]| serde_json::json!({ "person": roles });
    match who {
        Anyone => Value::Array(Vec::new()),
        Device(kinds) => Value::Array(vec![device(kinds)]),
        DeviceOrPerson(kinds, roles) => Value::Array(vec![person(roles), device(kinds)]),
        Person(roles) | PersonOfAny(roles) => Value::Array(vec![person(roles)]),
    }
}
