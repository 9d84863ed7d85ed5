//! The `turnstiled` program: reads its arguments, runs a command, makes the exit code.

use std::process::ExitCode;

use clap::Parser;
use turnstiled::cli::{self, Arguments};

/// See its line in Cargo.toml.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    turnstiled_wal::explain_panics_while_opening();
    // clap exits with 2 on bad usage, and with 0 after --help and --version.
    let arguments = Arguments::parse();
    match cli::run(arguments) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            eprintln!("turnstiled: {error}");
            ExitCode::FAILURE
        }
    }
}
