//! `turnstiled wal repair`: a new data directory of what is left of a damaged one, which stays as it is.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use turnstiled_wal::{Log, LogOptions, RepairFacts, RepairPlan};

use super::{
    CommandError, Verdict,
    child::{self, Stdout},
    repair_dir::{self, Others},
    repair_event,
    verify::{self, What},
};
use crate::{
    app::{highest_settled, highest_snapshot, log_options},
    config::Config,
    data_dir::{self, DataDir},
};

/// Makes the directory `to`, `<data_dir>.repaired` if it is not given.
pub(super) fn run(
    data_dir: &DataDir,
    config: &Config,
    to: Option<PathBuf>,
    out: &mut impl Write,
) -> Result<Verdict, CommandError> {
    let to = to.unwrap_or_else(|| with_suffix(&data_dir.path, ".repaired"));
    let unfinished = with_suffix(&to, ".unfinished");
    for path in [&to, &unfinished] {
        if fs::symlink_metadata(path).is_ok() {
            let path = path.display();
            return Err(format!("{path} is there already; move it away, or name another with --to").into());
        }
    }
    if is_inside(&to, &data_dir.path)? {
        return Err(format!("{} is inside the data directory; name another with --to", to.display()).into());
    }
    let repaired = Repair { old: data_dir, config, new: &unfinished };
    if let Err(error) = repaired.make(out) {
        // half a directory helps nobody; one that cannot be removed is in the way of the next attempt, which says so
        drop(fs::remove_dir_all(&unfinished));
        return Err(error);
    }
    fs::rename(&unfinished, &to)?;
    repair_dir::sync_parent(&to)?;
    print_next(data_dir, &to, out)?;
    Ok(Verdict::Passed)
}

struct Repair<'a> {
    old: &'a DataDir,
    config: &'a Config,
    /// Not there yet.
    new: &'a Path,
}

impl Repair<'_> {
    fn make(&self, out: &mut impl Write) -> Result<(), CommandError> {
        data_dir::create_private_dir(self.new).map_err(|error| {
            format!(
                "{} cannot be made: {error}; run this as who may write there, or name another with --to",
                self.new.display()
            )
        })?;
        // without the high-water file only these show what was used, and no sequence is used twice
        let snapshots = data_dir::snapshots_dir(&self.old.path);
        let durable_to = self.take_state(out)?.max(highest_snapshot(&snapshots, &self.old.log_name.server)?);
        let options = log_options(&self.config.wal);
        let facts = RepairFacts { store: options.store, durable_to };
        let old_log = data_dir::log_dir(&self.old.path);
        let plan = RepairPlan::make(&old_log, &facts, &mut |segment, of| {
            eprintln!("looking at segment {segment} of {of}");
        })?;
        self.print_plan(&plan, out)?;
        let others = Others::find(&self.old.path)?;
        let needed = plan.bytes_needed(&options).saturating_add(others.bytes);
        writeln!(out, "takes about {} MiB on the disk of {}", needed.div_ceil(1 << 20), self.new.display())?;
        out.flush()?;
        let new_log = data_dir::log_dir(self.new);
        plan.write(&new_log, &options, &mut |segment, of| {
            eprintln!("writing what is left of segment {segment} of {of}");
        })?;
        for skipped in others.copy(&self.old.path, self.new)? {
            writeln!(out, "not copied, neither a file nor a directory: {}", skipped.display())?;
        }
        let name = data_dir::next_log_name(&self.old.log_name);
        data_dir::write_identity(self.new, &name, self.config.wal.store.as_str())?;
        let (first, last) = (plan.highest.saturating_add(1), self.append_event(&plan, &new_log, options)?);
        debug_assert_eq!(first, last, "nothing was appended before");
        writeln!(
            out,
            "the log is {name} from sequence {last} on, which says what became of it (log.repaired)"
        )?;
        if !verify::in_child(self.new, What::Log, &new_log, out)? {
            return Err("the new log is not whole; the disk it was written to may be failing".into());
        }
        Ok(())
    }

    /// The first event of the new epoch. Returns its sequence.
    fn append_event(&self, plan: &RepairPlan, dir: &Path, options: LogOptions) -> Result<u64, CommandError> {
        let mut log = Log::open(dir, options)?;
        let name = data_dir::log_name(self.new)?;
        let append = repair_event::make(plan, &self.old.log_name, &name, &log)?;
        Ok(*log.commit(&[append])?.end())
    }

    /// Takes cursors and dead letters along, if they are whole, and returns the highest sequence they know.
    fn take_state(&self, out: &mut impl Write) -> Result<u64, CommandError> {
        let (old, new) = (data_dir::state_dir(&self.old.path), data_dir::state_dir(self.new));
        if old.exists() && verify::in_child(self.new, What::State, &old, out)? {
            repair_dir::copy_tree(&old, &new)?;
            let arguments = ["wal", "highest-settled"].map(OsStr::new).into_iter().chain([new.as_os_str()]);
            let ended = child::run(arguments, &new, Stdout::Kept)?;
            if let (true, Ok(highest)) =
                (ended.status.is_ok_and(|status| status.success()), ended.said.trim().parse())
            {
                return Ok(highest);
            }
            fs::remove_dir_all(&new)?;
        }
        writeln!(
            out,
            "cursors and dead letters are lost: every sink begins again with the oldest event, which repeats events \
             (consumers deduplicate by id)"
        )?;
        Ok(0)
    }

    fn print_plan(&self, plan: &RepairPlan, out: &mut impl Write) -> Result<(), CommandError> {
        let (name, path) = (&self.old.log_name, self.old.path.display());
        writeln!(out, "log {name} in {path}: {} records salvaged", plan.salvaged)?;
        let gaps = plan.gaps();
        writeln!(out, "missing: {} records in {} ranges", plan.missing(), gaps.len())?;
        for gap in gaps {
            match (gap.first, gap.last) {
                (first, last) if first == last => writeln!(out, "  sequence {first}")?,
                (first, last) => writeln!(out, "  sequences {first} to {last}")?,
            }
        }
        if plan.unfinished > 0 {
            let records = plan.unfinished;
            writeln!(out, "dropped: {records} records of an unanswered command at the end, as a start does")?;
        }
        let left_over = plan.outside.saturating_add(plan.contradicted);
        if left_over > 0 {
            writeln!(
                out,
                "dropped: {left_over} records that the hash chain does not lead to, left over from crashes"
            )?;
        }
        if plan.decided > 0 {
            writeln!(out, "{} sequences were there twice; the hash chain named the right one", plan.decided)?;
        }
        if !plan.guessed.is_empty() {
            let shown: Vec<_> = plan.guessed.iter().map(u64::to_string).collect();
            writeln!(
                out,
                "there twice, and nothing says which is right, so the one written last was taken: sequences {}{}",
                shown.join(", "),
                if plan.guessed_left_off > 0 { " and more" } else { "" }
            )?;
        }
        if plan.missing() > 0 {
            writeln!(
                out,
                "what is missing is lost to this server: cards registered there have to be registered again; people \
                 who entered there are not known inside; an archive may still have the events"
            )?;
        }
        Ok(())
    }
}

/// The child's part of taking the state along.
pub(super) fn print_highest_settled(state: &Path, out: &mut impl Write) -> Result<Verdict, CommandError> {
    writeln!(out, "{}", highest_settled(state)?)?;
    Ok(Verdict::Passed)
}

fn print_next(data_dir: &DataDir, to: &Path, out: &mut impl Write) -> Result<(), CommandError> {
    let old = data_dir.path.as_path();
    writeln!(out, "{} is untouched, {} is whole; to use it:", old.display(), to.display())?;
    writeln!(out, "  mv {} {}", quoted(old), quoted(&with_suffix(old, ".damaged")))?;
    writeln!(out, "  mv {} {}", quoted(to), quoted(old))?;
    writeln!(out, "then start the daemon; keep the damaged directory until you are sure")?;
    Ok(())
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:@".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    // without a trailing slash
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_inside(path: &Path, dir: &Path) -> std::io::Result<bool> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let existing = parent.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    Ok(existing.canonicalize()?.starts_with(dir.canonicalize()?))
}
