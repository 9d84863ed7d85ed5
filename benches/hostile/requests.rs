//! What hostile clients send, prepared beforehand: each kind in some variants, each as often as the others.

const ENTRIES: &str = "/v1/buildings/hq/entries";
/// Bodies may have 64 KiB (`http::routes::MAX_BODY_BYTES`).
const OVERSIZED_BYTES: usize = 128 << 10;

/// One kind of hostility.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) variants: Vec<Vec<u8>>,
    /// Whoever sends it goes away without waiting for an answer.
    pub(crate) leaves: bool,
}

/// All kinds but slow clients. `key_line` is a good key's header: with it a request gets past authentication, and has to be
/// read.
pub(crate) fn kinds(key_line: &str) -> Vec<Kind> {
    let kind = |name, variants| Kind { name, variants, leaves: false };
    let half = half_requests(key_line);
    vec![
        kind("oversized bodies", oversized(key_line)),
        kind("deep JSON", deep_json(key_line)),
        kind("bad UTF-8", bad_utf8(key_line)),
        kind("header floods", header_floods(key_line)),
        kind("path tricks", path_tricks(key_line)),
        kind("wrong keys", wrong_keys(key_line)),
        kind("bad framing", bad_framing(key_line)),
        Kind { name: "connects and goes", variants: half, leaves: true },
    ]
}

/// How slow clients begin: one is in the middle of a header, one at the beginning of its body.
pub(crate) fn slow_heads(key_line: &str) -> [Vec<u8>; 2] {
    let headers = format!("POST {ENTRIES} HTTP/1.1\r\nHost: h\r\n{key_line}X-Slow: ").into_bytes();
    [headers, post(ENTRIES, &format!("{key_line}Content-Length: 1000\r\n"), b"{")]
}

fn entry_with(headers: &str, body: &[u8]) -> Vec<u8> {
    post(ENTRIES, &format!("{headers}Content-Length: {}\r\n", body.len()), body)
}

/// `headers` are to end with `\r\n`.
fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes()
}

fn oversized(key: &str) -> Vec<Vec<u8>> {
    let bytes = vec![b'9'; OVERSIZED_BYTES];
    let chunk = [format!("{OVERSIZED_BYTES:x}\r\n").as_bytes(), &bytes].concat();
    vec![
        entry_with(key, &bytes),
        post(ENTRIES, &format!("{key}Content-Length: 10485760\r\n"), b"{"),
        post(ENTRIES, &format!("{key}Transfer-Encoding: chunked\r\n"), &chunk),
        // small enough to be read, with an id that is not
        entry_with(key, format!("{{\"gate_id\":\"g\",\"card_id\":{}}}", "9".repeat(50_000)).as_bytes()),
    ]
}

fn deep_json(key: &str) -> Vec<Vec<u8>> {
    let nested = format!("{{\"card_id\":{}1{}}}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    vec![entry_with(key, "[".repeat(60_000).as_bytes()), entry_with(key, nested.as_bytes())]
}

fn bad_utf8(key: &str) -> Vec<Vec<u8>> {
    vec![
        entry_with(key, b"{\"card_id\": \"\xff\xfe\xc0\x80\", \"gate_id\": \"g\"}"),
        entry_with(key, b"{\"card_id\": \"\\ud800\", \"gate_id\": \"g\"}"),
        entry_with(key, &[0xf5; 4_000]),
    ]
}

fn header_floods(key: &str) -> Vec<Vec<u8>> {
    let flood = |lines| "X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(lines);
    vec![
        get("/v1/cards", &format!("{key}{}", flood(60))),
        get("/v1/cards", &format!("{key}{}", flood(400))),
        get("/v1/cards", &format!("{key}X-Long: {}\r\n", "a".repeat(100_000))),
    ]
}

fn path_tricks(key: &str) -> Vec<Vec<u8>> {
    let paths = [
        "/v1/buildings/../../../etc/passwd/entries",
        "/v1/buildings/%2e%2e/entries",
        "/v1/buildings/hq%00/entries",
        "//v1//buildings//hq//entries",
        "/v1/buildings/hq%2fentries",
        "/v1/cards/%ff%fe",
        "/v1/cards?cursor=%F0%9F%92%A3&limit=99999999999999999999",
        "*",
    ];
    let gets = paths.iter().map(|path| get(path, key));
    let posts = paths.iter().map(|path| post(path, &format!("{key}Content-Length: 2\r\n"), b"{}"));
    let long = get(&format!("/{}", "a".repeat(30_000)), key);
    gets.chain(posts).chain([long]).collect()
}

/// Right in form: another's name with this secret, and this name with another secret; and not even that.
fn wrong_keys(key: &str) -> Vec<Vec<u8>> {
    let body = b"{\"card_id\":\"C0\",\"gate_id\":\"g\"}";
    let (header, value) = key.trim_end().split_once(": ").unwrap();
    let (_, secret) = value.split_once('.').unwrap();
    let other_secret: String = value.chars().rev().take(secret.len()).collect();
    vec![
        entry_with(&format!("{header}: k_00000000.{secret}\r\n"), body),
        entry_with(&format!("{header}: {}{other_secret}\r\n", value.trim_end_matches(secret)), body),
        entry_with(&format!("{header}: {}\r\n", "x".repeat(2_000)), body),
        entry_with(&format!("Authorization: Bearer {}\r\n", "e".repeat(4_000)), body),
        entry_with("", body),
    ]
}

fn bad_framing(key: &str) -> Vec<Vec<u8>> {
    vec![
        post(ENTRIES, &format!("{key}Content-Length: 99999999999999999999999\r\n"), b""),
        post(ENTRIES, &format!("{key}Transfer-Encoding: chunked\r\n"), b"fffffffffffffffff\r\n{}"),
        post(ENTRIES, &format!("{key}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), b"0\r\n\r\n"),
        format!("GET\t{ENTRIES} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(),
        // the first bytes of a TLS connection
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0xa5; 506], b"\r\n\r\n"].concat(),
    ]
}

fn half_requests(key: &str) -> Vec<Vec<u8>> {
    let whole = entry_with(key, b"{\"card_id\":\"C0\",\"gate_id\":\"g\"}");
    let head = whole.len() - 8;
    vec![Vec::new(), whole[..40].to_vec(), whole[..head].to_vec()]
}
