//! The `turnstiled` program: reads its arguments, runs a command, makes the exit code.

use std::{error::Error, io, process::ExitCode};

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
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("turnstiled: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `turnstiled check | head`: the reader has what it wanted, and there is nothing to say. What is written elsewhere than to stdout has errors of its own.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
