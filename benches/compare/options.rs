//! What can be set on the command line, after `--`.

use std::path::PathBuf;

use clap::Parser;

/// turnstiled beside a bare append, Redis and PostgreSQL, in one run on one disk.
///
/// `BENCH_DIR` names a directory on the disk to use; without it the build directory's is used.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// How often every case is run, one after the other.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// How long a case is measured in each round; a warm-up comes before it.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Cards of the large building; a tenth of their holders is inside.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) cards: usize,
    /// Events in the log whose start is timed.
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) events: usize,
    /// Where the results go; the notes at the end of the file that is there are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"))]
    pub(crate) out: PathBuf,
    /// Set by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}
