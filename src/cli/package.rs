//! `turnstiled completions` and `turnstiled man`: what a package ships beside the program, made from the same definition
//! of its commands.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use thiserror::Error;

use super::{Arguments, CommandError, Verdict};

/// Which completions.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where man pages go.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The directory, such as ~/.local/share/man/man1; it is made if need be
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Error)]
#[error("the man pages cannot be written to {}: {source}", dir.display())]
struct ManError {
    dir: PathBuf,
    source: std::io::Error,
}

pub(super) fn complete(
    Completions { shell }: &Completions,
    out: &mut dyn Write,
) -> Result<Verdict, CommandError> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    // into memory first: it panics where it cannot write
    clap_complete::generate(*shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    Ok(Verdict::Passed)
}

pub(super) fn man(Man { dir }: &Man) -> Result<Verdict, CommandError> {
    write_pages(dir).map_err(|source| ManError { dir: dir.clone(), source })?;
    Ok(Verdict::Passed)
}

fn write_pages(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Arguments::command(), dir)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_knows_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            complete(&Completions { shell: *shell }, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("share/man1");
        man(&Man { dir: dir.clone() }).unwrap();
        let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert!(page("turnstiled.1").contains("An event server for buildings"));
        for command in Arguments::command().get_subcommands() {
            let about = command.get_about().unwrap().to_string();
            let first_words: Vec<_> = about.split_whitespace().take(2).collect();
            let name = format!("turnstiled-{}.1", command.get_name());
            assert!(page(&name).contains(&first_words.join(" ")), "{name} does not say {about:?}");
        }
    }
}
