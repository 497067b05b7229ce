//! `sillage check` and `sillage repair`: on the directory of a store that nobody serves.

use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgGroup;

use crate::cli::examine::{self, Acceptance, RepairSummary};
use crate::cli::failure::{Exit, Failure};
use crate::ids::Lsn;

/// Check a store: read every frame, replay it, test every invariant; changes nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sillage check ./sillage-data

Exit codes: 0 sound, 65 damaged (the report says where and what to run next), 75 in use.")]
pub(crate) struct CheckArgs {
    /// The directory of the store
    directory: PathBuf,
}

/// Make a damaged store open again, giving up the records that cannot be read
///
/// Copies everything it touches to `quarantine/` first, and records the loss in the log. Their
/// formulas and messages are gone for the service, so restore a backup instead if there is one.
/// What to accept stands in the report of `sillage check`.
///
/// Without any of the options nothing is given up: only what the store holds twice is moved to
/// `quarantine/`, such as a damaged snapshot beside a good one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage repair ./sillage-data
  sillage repair ./sillage-data --accept-loss 17..20
  sillage repair ./sillage-data --accept-tail")]
#[command(group = ArgGroup::new("acceptance"))]
pub(crate) struct RepairArgs {
    /// The directory of the store
    directory: PathBuf,
    /// The LSNs to give up, both ends included
    #[arg(long, value_name = "A..B", group = "acceptance")]
    accept_loss: Option<LsnRange>,
    /// Cut off what follows the last whole frame, though it may have been acknowledged
    #[arg(long, group = "acceptance")]
    accept_tail: bool,
}

/// Checks the store that the arguments name.
pub(crate) fn check(arguments: &CheckArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let found = examine::check(directory).map_err(Failure::of_store(directory))?;
    writeln!(
        out,
        "{} is sound: {} frames up to LSN {} in {} segments ({} bytes), {} formulas, {} messages",
        directory.display(),
        found.frames,
        found.lsn,
        found.segments,
        found.bytes,
        found.formulas,
        found.messages
    )
    .map_err(Failure::Output)?;
    Ok(Exit::Success)
}

/// Repairs the store that the arguments name.
pub(crate) fn repair(arguments: &RepairArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let acceptance = match &arguments.accept_loss {
        Some(range) => Acceptance::Loss(range.0.clone()),
        None if arguments.accept_tail => Acceptance::Tail,
        None => Acceptance::Nothing,
    };
    let done = examine::repair(directory, acceptance).map_err(Failure::of_store(directory))?;
    writeln!(out, "{}", outcome(&directory.display().to_string(), &done))
        .map_err(Failure::Output)?;
    Ok(Exit::Success)
}

/// What a repair did, in one line.
fn outcome(directory: &str, done: &RepairSummary) -> String {
    if !done.has_written {
        return format!("{directory} needs no repair; nothing was changed");
    }
    let lost = done.lost.iter().map(|lsns| format!("{}..{}", lsns.start(), lsns.end()));
    let lost = match lost.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "and lost nothing".to_owned(),
        lost => format!("without LSN {lost}"),
    };
    let copies = if done.has_copies { "; what was there is in quarantine/" } else { "" };
    let next = match done.snapshots_aside {
        0 => String::new(),
        // Until then there is nothing to fall back on.
        _ => format!("; a snapshot is among it: next, `sillage compact {directory}`"),
    };
    format!("{directory} opens again {lost}{copies}{next}")
}

/// LSNs on the command line: `A..B`, both ends included, or one alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LsnRange(pub(crate) RangeInclusive<Lsn>);

impl FromStr for LsnRange {
    type Err = MalformedRange;

    fn from_str(text: &str) -> Result<LsnRange, MalformedRange> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let lsn = |text: &str| text.parse().map(Lsn).map_err(|_| MalformedRange);
        let (first, last) = (lsn(first)?, lsn(last)?);
        let is_range = Lsn::ZERO < first && first <= last;
        if is_range { Ok(LsnRange(first..=last)) } else { Err(MalformedRange) }
    }
}

/// The text is no range of LSNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedRange;

impl fmt::Display for MalformedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a range of LSNs such as 17..20 (both included, the first is 1)")
    }
}

impl std::error::Error for MalformedRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends_and_begin_at_one() {
        assert_eq!("17..20".parse(), Ok(LsnRange(Lsn(17)..=Lsn(20))));
        assert_eq!("5".parse(), Ok(LsnRange(Lsn(5)..=Lsn(5))));
        for wrong in ["", "..", "1..", "..2", "0..1", "2..1", "a..b", "1...2", "1..2..3", "-1..2"] {
            assert_eq!(wrong.parse::<LsnRange>(), Err(MalformedRange), "{wrong}");
        }
    }
}
