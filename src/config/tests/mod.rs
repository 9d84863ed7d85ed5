//! Whole files: golden errors, defaults, expansion, and that no text panics.

mod bad_files;
mod good_files;

use std::path::Path;

use super::{Config, ConfigErrors};

/// The least that is a configuration; its lines are numbered by the tests.
const LEAST: &str = "\
[server]
id = 'a'
[auth]
[[buildings]]
id = 'b'
gates = [{ id = 'g' }]
[[routes]]
name = 'r'
types = ['**']
to = []
";

fn env(name: &str) -> Option<String> {
    match name {
        "TOPIC" => Some("arn:aws:sns:eu-central-1:000000000000:t".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("etc/routes.toml"), &env)
}

fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            errors.0.iter().map(|error| error.to_string().replace("etc/routes.toml:", "")).collect()
        }
    }
}
