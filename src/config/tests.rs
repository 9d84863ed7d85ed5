//! Golden errors, defaults and expansion over whole files.

use super::*;

#[test]
fn look() {
    let text = std::fs::read_to_string("/tmp/bad.toml").unwrap();
    let e = Config::parse(&text, std::path::Path::new("routes.toml"), &|_| None).unwrap_err();
    println!("{e}");
    println!("{:?}", Config::parse(EMBEDDED, std::path::Path::new("routes.toml"), &|_| None));
}
