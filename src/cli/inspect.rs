//! `sillage inspect`: look into a store; reads only, and works while it is damaged.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cli::examine::{self, Frame, Stat, Verdict};
use crate::cli::failure::{Exit, Failure};
use crate::cli::offline::LsnRange;
use crate::cli::render;
use crate::cli::retry::for_terminal;
use crate::ids::Lsn;
use crate::log::Kind;
use crate::record::codec;

/// Look into a store; changes nothing, and works while it is damaged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage inspect ./sillage-data stat
  sillage inspect ./sillage-data dump --lsn 100..120
  sillage inspect ./sillage-data dump --json | jq 'select(.fact == \"formula_accepted\")'
  sillage inspect ./sillage-data verify --receipt 42:0123456789abcdef")]
pub(crate) struct InspectArgs {
    /// The directory of the store
    directory: PathBuf,
    #[command(subcommand)]
    view: View,
}

#[derive(Debug, clap::Subcommand)]
enum View {
    /// What the store says of itself: identity, epoch, snapshots, segments, last durable record
    Stat {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Every frame of the log with what it records
    Dump {
        /// Only these LSNs, both ends included
        #[arg(long, value_name = "A..B", default_value = "1..18446744073709551615")]
        #[arg(hide_default_value = true)]
        lsn: LsnRange,
        /// Print one JSON object per frame
        #[arg(long)]
        json: bool,
    },
    /// Tell whether the record of a receipt, and all before it, are still there
    #[command(after_help = "\
A record goes from the log once two snapshots cover it. What it stored is kept, but its receipt can
no longer be proven: keep a backup if you need to.

Exit codes: 0 present, 65 lost, of another history, or no longer provable.")]
    Verify {
        /// The receipt of an accepted formula
        #[arg(long, value_name = "LSN:CHAIN")]
        receipt: ChainReceipt,
    },
}

/// A receipt: a record's LSN and the chain over all frames up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChainReceipt {
    lsn: Lsn,
    chain: u64,
}

impl FromStr for ChainReceipt {
    type Err = MalformedReceipt;

    fn from_str(text: &str) -> Result<ChainReceipt, MalformedReceipt> {
        let (lsn, chain) = text.split_once(':').ok_or(MalformedReceipt)?;
        let is_hex = chain.len() == 16 && chain.bytes().all(|byte| byte.is_ascii_hexdigit());
        let chain = u64::from_str_radix(chain, 16).ok().filter(|_| is_hex);
        let lsn = lsn.parse().map(Lsn).map_err(|_| MalformedReceipt)?;
        Ok(ChainReceipt { lsn, chain: chain.ok_or(MalformedReceipt)? })
    }
}

/// The text is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MalformedReceipt;

impl fmt::Display for MalformedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a receipt: a number, a colon and 16 hex digits")
    }
}

impl std::error::Error for MalformedReceipt {}

/// Shows what the arguments ask for.
pub(crate) fn run(arguments: &InspectArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    match &arguments.view {
        View::Stat { json } => {
            let stat = examine::stat(directory).map_err(Failure::of_store(directory))?;
            let printed = if *json { print_stat_json(&stat, out) } else { print_stat(&stat, out) };
            printed.map_err(Failure::Output)?;
            Ok(Exit::Success)
        }
        View::Dump { lsn, json } => {
            let print = |frame: Frame| {
                let view = frame_view(&frame);
                if *json { writeln!(out, "{view}") } else { print_frame(&view, out) }
            };
            let printed = examine::frames(directory, lsn.0.clone(), print);
            printed.map_err(Failure::of_store(directory))?.map_err(Failure::Output)?;
            Ok(Exit::Success)
        }
        View::Verify { receipt } => {
            let verdict = examine::verify_receipt(directory, receipt.lsn, receipt.chain);
            let verdict = verdict.map_err(Failure::of_store(directory))?;
            print_verdict(verdict, receipt.lsn, out).map_err(Failure::Output)
        }
    }
}

fn print_verdict(verdict: Verdict, lsn: Lsn, out: &mut impl Write) -> io::Result<Exit> {
    match verdict {
        Verdict::Present => {
            writeln!(out, "present: LSN {lsn} and everything before it are as acknowledged")?;
            Ok(Exit::Success)
        }
        Verdict::Covered => {
            let what = "a snapshot covers it, and the log that could prove it is gone";
            writeln!(out, "not provable: LSN {lsn} is no longer in the log; {what}")?;
            Ok(Exit::Data)
        }
        Verdict::Lost => {
            writeln!(out, "lost: no whole record has LSN {lsn}")?;
            Ok(Exit::Data)
        }
        Verdict::ChainDiffers => {
            writeln!(out, "chain differs: the log up to LSN {lsn} is not the acknowledged one")?;
            Ok(Exit::Data)
        }
    }
}

fn print_stat(stat: &Stat, out: &mut impl Write) -> io::Result<()> {
    let end = if stat.is_closed { "closed in order" } else { "not closed in order" };
    writeln!(out, "store {}, epoch {}, {end}", stat.uuid, stat.epoch)?;
    writeln!(out, "durable up to LSN {}", stat.durable)?;
    for snapshot in &stat.snapshots {
        let (file, lsn) = (&snapshot.file, snapshot.lsn);
        match snapshot.bytes {
            Some(bytes) => writeln!(out, "{file}  up to LSN {lsn}  {bytes} bytes")?,
            None => writeln!(out, "{file}  up to LSN {lsn}  damaged")?,
        }
    }
    for segment in &stat.segments {
        let last = segment.last.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
        let seal = if segment.is_sealed { "sealed" } else { "open" };
        let (file, first, bytes) = (&segment.file, segment.first, segment.bytes);
        writeln!(out, "{file}  LSN {first} to {last}  {bytes} bytes  {seal}")?;
    }
    Ok(())
}

fn print_stat_json(stat: &Stat, out: &mut impl Write) -> io::Result<()> {
    let segments: Vec<Value> = stat
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file,
                "first_lsn": segment.first.0,
                "last_lsn": segment.last.map(|lsn| lsn.0),
                "bytes": segment.bytes,
                "sealed": segment.is_sealed,
            })
        })
        .collect();
    let snapshots = stat.snapshots.iter().map(
        |snapshot| json!({ "file": snapshot.file, "lsn": snapshot.lsn.0, "bytes": snapshot.bytes }),
    );
    let snapshots: Vec<Value> = snapshots.collect();
    let stat = json!({
        "uuid": stat.uuid,
        "epoch": stat.epoch.0,
        "durable_lsn": stat.durable.0,
        "closed": stat.is_closed,
        "snapshots": snapshots,
        "segments": segments,
    });
    writeln!(out, "{stat}")
}

/// A frame as one flat JSON object: where it stands, then what it records.
fn frame_view(frame: &Frame) -> Value {
    let mut view = json!({
        "lsn": frame.lsn.0,
        "epoch": frame.epoch.0,
        "kind": kind_name(frame.kind),
        "file": format!("log/{:020}.seg", frame.segment.0),
        "offset": frame.offset,
        "receipt": format!("{}:{}", frame.lsn, frame.chain),
        "payload_len": frame.payload.len(),
    });
    if matches!(frame.kind, Kind::Record | Kind::Opened | Kind::StateHash) {
        match codec::decode(&frame.payload) {
            Ok(record) => {
                view["at"] = json!(record.at.wall.to_string());
                render::add_fact(&mut view, &record.fact);
            }
            Err(error) => view["undecodable"] = json!(error.to_string()),
        }
    }
    view
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Record => "record",
        Kind::Mark => "mark",
        Kind::Seal => "seal",
        Kind::StateHash => "state_hash",
        Kind::Opened => "opened",
        Kind::Loss => "loss",
    }
}

/// The same for people: LSN and kind first, then `member=value`.
fn print_frame(view: &Value, out: &mut impl Write) -> io::Result<()> {
    let members = view.as_object().into_iter().flatten();
    let (lsn, kind) = (view["lsn"].as_u64(), view["kind"].as_str());
    let mut line = format!("{:>8} {}", lsn.unwrap_or_default(), kind.unwrap_or_default());
    for (name, value) in members.filter(|(name, _)| !matches!(name.as_str(), "lsn" | "kind")) {
        line.push_str(&format!(" {name}={}", for_terminal(&value.to_string())));
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::record::{Fact, Record};
    use crate::time::{Moment, Timestamp, Uptime};

    fn opened() -> Frame {
        let at = Moment { wall: Timestamp(1_000), uptime: Uptime(0) };
        let mut payload = Vec::new();
        codec::encode(&Record { at, fact: Fact::Opened { epoch: Epoch(3) } }, &mut payload);
        Frame {
            lsn: Lsn(9),
            epoch: Epoch(3),
            kind: Kind::Opened,
            segment: Lsn(1),
            chain: "00112233aabbccdd".to_owned(),
            offset: 4096,
            payload,
        }
    }

    #[test]
    fn frame_shows_place_date_and_fact() {
        let view = frame_view(&opened());
        assert_eq!(view["lsn"], 9);
        assert_eq!(view["at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(view["fact"], "opened");
        let mut out = Vec::new();
        print_frame(&view, &mut out).expect("memory takes all");
        let line = String::from_utf8(out).expect("UTF-8");
        assert!(line.starts_with("       9 opened "), "{line}");
        assert!(line.contains("offset=4096"), "{line}");
    }

    #[test]
    fn payload_that_does_not_decode_is_shown_as_such() {
        let frame = Frame { payload: vec![1, 255, 255], ..opened() };
        let view = frame_view(&frame);
        assert!(view["undecodable"].as_str().is_some_and(|text| !text.is_empty()));
    }

    #[test]
    fn receipts_are_a_number_and_sixteen_hex_digits() {
        let receipt = "42:0123456789abcdef".parse();
        assert_eq!(receipt, Ok(ChainReceipt { lsn: Lsn(42), chain: 0x0123_4567_89ab_cdef }));
        for wrong in ["", "42", "42:", "42:123", ":0123456789abcdef", "42:+123456789abcdef"] {
            assert_eq!(wrong.parse::<ChainReceipt>(), Err(MalformedReceipt), "{wrong}");
        }
    }

    #[test]
    fn lost_or_different_history_is_no_success() {
        let exit =
            |verdict| print_verdict(verdict, Lsn(4), &mut Vec::new()).expect("memory takes all");
        assert_eq!(exit(Verdict::Present), Exit::Success);
        // What proves nothing must not pass as a proof.
        assert_eq!(exit(Verdict::Covered), Exit::Data);
        assert_eq!(exit(Verdict::Lost), Exit::Data);
        assert_eq!(exit(Verdict::ChainDiffers), Exit::Data);
    }
}
