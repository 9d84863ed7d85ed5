//! Any bytes are a whole snapshot or refused, as a whole file and as the lines after a good header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnstiled::projections::{entry::Entry, format::Decoder};

const HEADER: &[u8] = b"{\"snapshot\":1,\"log\":\"hq-1.1\",\"sequence\":\"00000000000000000001\",\"hash\":\"\",\
\"time\":\"2026-11-20T08:01:02.345Z\"}\n";

fuzz_target!(|bytes: &[u8]| {
    for bytes in [bytes, &[HEADER, bytes].concat()] {
        let Ok(decoder) = Decoder::new(bytes) else { continue };
        for line in decoder.map_while(Result::ok) {
            let _ = Entry::read(&line);
        }
    }
});
