//! `sillage import`: formulas from a file into a store that nobody serves, with their dates.
//!
//! The store is opened as `serve` opens it, and each chunk of lines is one batch: one durable
//! group, of which all is there after a crash or nothing. A make-up that is stored already is a
//! duplicate, so an import that was interrupted is gone on with by running it again.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cli::chunks::{End, Fill, Taker, hand_over};
use crate::cli::failure::{Exit, Failure};
use crate::cli::input::Formulas;
use crate::cli::retry::for_terminal;
use crate::cli::settings_args::SettingArgs;
use crate::cli::store::{Store, StoreSettings};
use crate::cli::submit::{layout_by_name, open};
use crate::cli::tally::Tally;
use crate::cli::{progress, system};
use crate::engine::Engine;
use crate::engine::command::{Batch, BatchMode, Item, ItemReply, Rejection, Submission};
use crate::formula::{self, Checked, Invalid, Rules};
use crate::http::problem::Kind;
use crate::limits::{EXPORT_LINE_BYTES_MAX, IMPORT_CHUNK_BYTES, IMPORT_CHUNK_LINES};
use crate::time::Timestamp;

/// Store formulas from a file in a store that nobody serves, with their dates
///
/// The file is what `sillage export` writes, or anything that `sillage submit` takes. A line with
/// accepted_at keeps that date, which must not lie ahead, others get today's. A line with an id
/// must have the make-up of that id. `seq` is given anew. Nothing is ever stored twice: when a run
/// was interrupted, run the same command again.
///
/// Each imported formula is announced on the queue `formulas`, like one that was accepted. Seals
/// and hooks of the store that it came from do not come with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage import formulas.jsonl --data /srv/sillage
  sillage export http://old:8080 | sillage import - --data ./sillage-data

Exit codes: 0 all are stored (new or duplicate), 65 some are invalid or the store is damaged, 74
the disk failed, 75 the store is in use.")]
pub(crate) struct ImportArgs {
    /// The file; - for standard input
    file: PathBuf,
    /// The directory of the store, made if there is none [default: ./sillage-data]
    /// [env: SILLAGE_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A TOML file of settings, as for `serve` [env: SILLAGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Imports what the arguments name and prints a summary.
pub(crate) fn run(arguments: &ImportArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let settings =
        SettingArgs::of_directory(arguments.data.clone(), arguments.config.clone()).load()?;
    let (config, path) = (settings.config, &arguments.file);
    let unreadable = |error| Failure::Input { path: path.clone(), error };
    // Before the store is touched: a misspelt name changes nothing.
    let (input, bytes) = open(path).map_err(|error| unreadable(error.into()))?;
    let formulas = Formulas::new(input, layout_by_name(path)).of_at_most(EXPORT_LINE_BYTES_MAX);
    let settings = StoreSettings::of(&config, system::fresh_seed()?);
    let store = Store::open(&config.data, settings).map_err(Failure::of_store(&config.data))?;
    let rules = Rules { concentration_max: config.concentration_max };
    let mut run = Run { engine: store.engine(), rules };
    let (mut tally, bar) = (Tally::default(), progress::of_bytes(bytes));
    let end = system::runtime()?.block_on(hand_over(&mut run, formulas, &mut tally, &bar));
    bar.finish_and_clear();
    // The log is closed when the last handle is gone.
    drop(run);
    let closed = store.close(&config.data).map_err(Failure::of_store(&config.data));
    // What was stored before a failure is stored: say so in any case.
    tally.print(path, out).map_err(Failure::Output)?;
    match end {
        Ok(()) => closed.map(drop)?,
        Err(End::Input(error)) => return Err(unreadable(error)),
        Err(End::Failed(rejection)) => return Err(Failure::of_rejection(&config.data, rejection)),
    }
    Ok(if tally.invalid == 0 { Exit::Success } else { Exit::Data })
}

/// The store that takes the formulas.
struct Run {
    engine: Engine,
    rules: Rules,
}

/// Formulas that are stored together.
#[derive(Default)]
struct Chunk {
    items: Vec<Item>,
    /// The line of the input on which each formula began.
    lines: Vec<u64>,
    bytes: usize,
}

impl Taker for Run {
    type Chunk = Chunk;
    type Failure = Rejection;

    fn add(&self, chunk: &mut Chunk, line: u64, text: Vec<u8>) -> Result<(), String> {
        chunk.bytes += text.len() + 1;
        let item = read(&text, &self.rules, self.engine.now()).map_err(|fault| describe(&fault))?;
        chunk.items.push(item);
        chunk.lines.push(line);
        Ok(())
    }

    fn fill_of(chunk: &Chunk) -> Fill {
        Fill {
            bytes: chunk.bytes as u64,
            is_empty: chunk.items.is_empty(),
            is_full: chunk.items.len() >= IMPORT_CHUNK_LINES || chunk.bytes >= IMPORT_CHUNK_BYTES,
        }
    }

    async fn take(&mut self, chunk: Chunk, tally: &mut Tally) -> Result<(), Rejection> {
        let Chunk { items, lines, .. } = chunk;
        let batch =
            Batch { items, mode: BatchMode::PerItem, key: None, request_id: Box::default() };
        let reply = self.engine.accept_batch(batch).await?;
        for (item, line) in reply.items.into_iter().zip(lines) {
            match item {
                ItemReply::Accepted(_) => tally.new += 1,
                ItemReply::Duplicate(_) => tally.duplicates += 1,
                // Nobody withdraws while we have the store to ourselves.
                ItemReply::Forgotten(seq) => {
                    tally.refuse(line, || format!("it repeats {seq}, which is gone"));
                }
                ItemReply::KeyReused | ItemReply::Invalid(_) => {
                    unreachable!("no line has a key, and what is invalid was not handed over")
                }
            }
        }
        Ok(())
    }
}

/// A line, its members as they stand there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    materials: Option<&'a RawValue>,
    #[serde(borrow)]
    accepted_at: Option<Cow<'a, str>>,
    /// Where it stood in another store's log.
    #[serde(rename = "seq")]
    _seq: Option<IgnoredAny>,
    /// Where its trail was.
    #[serde(rename = "trail")]
    _trail: Option<IgnoredAny>,
}

/// Why a line is not stored.
#[derive(Debug)]
enum LineFault {
    /// It is no valid formula.
    Invalid(Invalid),
    /// Its id is that of another make-up.
    OtherId,
    /// Its date is none.
    Date,
    /// Its date lies ahead of this machine's clock.
    Future {
        /// What the clock says.
        now: Timestamp,
    },
}

/// Reads a line at this time.
fn read(text: &[u8], rules: &Rules, now: Timestamp) -> Result<Item, LineFault> {
    // Whatever is no line of ours is judged, and refused, as the API would.
    let line = serde_json::from_slice::<Line<'_>>(text).ok().filter(|_| text.starts_with(b"{"));
    let Some(line) = line else {
        let checked = formula::parse(text, rules).map_err(LineFault::Invalid)?;
        return Ok(item(checked, None));
    };
    let checked = formula::parse(&body(&line), rules).map_err(LineFault::Invalid)?;
    if line.id.is_some_and(|id| id.parse() != Ok(checked.fingerprint)) {
        return Err(LineFault::OtherId);
    }
    let date = line.accepted_at.map(|date| date.parse()).transpose();
    match date.map_err(|_| LineFault::Date)? {
        Some(date) if date > now => Err(LineFault::Future { now }),
        date => Ok(item(checked, date)),
    }
}

/// What a client would send of the line. A member that it lacks is missed by who reads this.
fn body(line: &Line<'_>) -> Vec<u8> {
    let members = [("name", line.name), ("materials", line.materials)];
    let mut body = Vec::new();
    for (name, value) in members.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        body.push(if body.is_empty() { b'{' } else { b',' });
        body.extend_from_slice(format!("\"{name}\":{}", value.get()).as_bytes());
    }
    if body.is_empty() {
        body.push(b'{');
    }
    body.push(b'}');
    body
}

fn item(checked: Checked, accepted_at: Option<Timestamp>) -> Item {
    let Checked { formula, fingerprint } = checked;
    let submission = Submission { formula, fingerprint, key: None };
    match accepted_at {
        Some(date) => Item::Imported(submission, date),
        None => Item::Valid(submission),
    }
}

/// What is wrong with a line, in the words of `submit`.
fn describe(fault: &LineFault) -> String {
    let invalid = match fault {
        LineFault::Invalid(invalid) => invalid,
        LineFault::OtherId => return "/id is not that of this make-up".to_owned(),
        LineFault::Date => {
            return "/accepted_at is not a date such as 2026-11-21T08:30:00.250Z".to_owned();
        }
        LineFault::Future { now } => {
            return format!("/accepted_at lies in the future: this machine's clock says {now}");
        }
    };
    let kind = if invalid.malformed { Kind::MalformedBody } else { Kind::InvalidFormula };
    let mut text = kind.text().title.to_owned();
    for (index, fault) in invalid.faults.iter().enumerate() {
        text.push_str(if index == 0 { ": " } else { "; " });
        text.push_str(format!("{} {}", fault.pointer, fault.kind).trim());
    }
    if invalid.unlisted > 0 {
        text.push_str(&format!("; and {} more", invalid.unlisted));
    }
    for_terminal(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { concentration_max: 100 };
    const MATERIALS: &str = r#""materials":[{"name":"x","concentration":1.50}]"#;

    /// What the clock says.
    const NOW: &str = "2026-11-21T08:30:00.250Z";

    fn now() -> Timestamp {
        NOW.parse().expect("a date")
    }

    fn fault(line: &str) -> String {
        match read(line.as_bytes(), &RULES, now()) {
            Err(fault) => describe(&fault),
            Ok(item) => panic!("{line} was read: {item:?}"),
        }
    }

    #[test]
    fn lines_of_an_export_and_bare_formulas_are_read() {
        let plain = format!(r#"{{"name":"a",{MATERIALS}}}"#);
        let checked = formula::parse(plain.as_bytes(), &RULES).expect("a formula");
        let id = checked.fingerprint;
        let own = format!(r#""id":"{id}","seq":7,"accepted_at":"2026-11-21T08:30:00.250Z""#);
        let exported = format!(r#"{{{own},"name":"a",{MATERIALS}}}"#);
        for line in [&plain, &exported] {
            let (submission, date) =
                match read(line.as_bytes(), &RULES, now()).expect("it is valid") {
                    Item::Valid(submission) => (submission, None),
                    Item::Imported(submission, date) => (submission, Some(date.to_string())),
                    Item::Invalid(problem) => panic!("{problem}"),
                };
            assert_eq!((&submission.formula, submission.fingerprint), (&checked.formula, id));
            let is_exported = line.contains("accepted_at");
            assert_eq!(date, is_exported.then(|| "2026-11-21T08:30:00.250Z".to_owned()));
        }
    }

    #[test]
    fn lines_that_contradict_themselves_are_refused() {
        let id = "0".repeat(64);
        let with = |member: &str| format!(r#"{{{member},"name":"a",{MATERIALS}}}"#);
        assert_eq!(fault(&with(&format!(r#""id":"{id}""#))), "/id is not that of this make-up");
        assert_eq!(fault(&with(r#""id":"""#)), "/id is not that of this make-up");
        assert!(
            fault(&with(r#""accepted_at":"yesterday""#)).starts_with("/accepted_at is not a date")
        );
        let at = |date: &str| with(&format!(r#""accepted_at":"{date}""#));
        assert!(read(at(NOW).as_bytes(), &RULES, now()).is_ok(), "this very moment");
        let ahead = fault(&at("2026-11-21T08:30:00.251Z"));
        assert!(ahead.starts_with("/accepted_at lies in the future"), "{ahead}");
        assert!(ahead.contains(NOW), "{ahead}");
    }

    #[test]
    fn faults_are_told_as_submit_tells_them() {
        assert!(fault("{}").starts_with("Invalid formula: "), "{}", fault("{}"));
        assert!(fault("{}").contains("name"), "{}", fault("{}"));
        assert!(fault("{").starts_with("Malformed"), "{}", fault("{"));
        assert!(fault(&format!(r#"{{"nmae":"a",{MATERIALS}}}"#)).contains("nmae"));
        for other in ["[]", r#"["a","b"]"#, "1", "null", r#"{"name":"a","name":"b"}"#, "\"\u{1b}\""]
        {
            assert!(!fault(other).is_empty(), "{other}");
        }
    }
}
