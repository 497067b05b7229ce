//! `sillage submit`: formulas from a file to a server, each stored once however often it is sent.
//!
//! The input is streamed: read, cut into chunks, sent as NDJSON, answered line by line, forgotten.
//! Two things keep formulas from doubling. Within a run each chunk has an idempotency key made
//! from its bytes, its place and a number drawn for the run, so a retry after a lost answer gets
//! that answer. Across runs the server knows a formula by its make-up, so whoever starts an
//! interrupted run again is told of duplicates and goes on. The number is what keeps the two
//! apart: without it a second run would be told that everything is new.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::cli::chunks::{End, Fill, Taker, hand_over};
use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Answer, Call, CallError, HttpClient, Server};
use crate::cli::input::{Formulas, Layout};
use crate::cli::retry::{Patience, Problem, is_transient, refusal};
use crate::cli::tally::Tally;
use crate::cli::{progress, system};
use crate::limits::{CLIENT_CHUNK_BYTES, CLIENT_CHUNK_LINES};

/// Send formulas from a file or standard input to a server
///
/// The file holds one JSON object, an array of them, or one per line (NDJSON); it is streamed,
/// so it may be larger than memory. Nothing is ever stored twice: when a run was interrupted,
/// run the same command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage submit formulas.jsonl
  jq -c '.[]' lab.json | sillage submit -

Exit codes: 0 all are stored (new or duplicate), 65 some are invalid, 74 the server could not be
reached.")]
pub(crate) struct SubmitArgs {
    /// The file; - for standard input
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// Submits what the arguments name and prints a summary.
pub(crate) fn run(arguments: &SubmitArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let path = &arguments.file;
    let unreadable = |error| Failure::Input { path: path.clone(), error };
    let (input, bytes) = open(path).map_err(|error| unreadable(error.into()))?;
    let mut run = Run {
        client,
        random: fastrand::Rng::with_seed(system::fresh_seed()?),
        nonce: system::fresh_seed()?,
        chunks: 0,
    };
    let (mut tally, bar) = (Tally::default(), progress::of_bytes(bytes));
    let formulas = Formulas::new(input, layout_by_name(path));
    let end = system::runtime()?.block_on(hand_over(&mut run, formulas, &mut tally, &bar));
    bar.finish_and_clear();
    // What was stored before a failure is stored: say so in any case.
    tally.print(path, out).map_err(Failure::Output)?;
    match end {
        Ok(()) if tally.invalid == 0 => Ok(Exit::Success),
        Ok(()) => Ok(Exit::Data),
        Err(End::Input(error)) => Err(unreadable(error)),
        Err(End::Failed(failure)) => Err(failure),
    }
}

/// Opens the file, or standard input for `-`; gives its length if it has one.
pub(crate) fn open(path: &Path) -> io::Result<(Box<dyn BufRead>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), bytes))
}

/// How the file's name says that it is laid out.
pub(crate) fn layout_by_name(path: &Path) -> Layout {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("jsonl" | "ndjson") => Layout::Lines,
        _ => Layout::Unknown,
    }
}

/// One run over one input.
struct Run {
    client: HttpClient,
    random: fastrand::Rng,
    /// Makes this run's keys its own.
    nonce: u64,
    /// Chunks sent so far.
    chunks: u64,
}

/// Formulas that travel together.
#[derive(Default)]
struct Chunk {
    /// NDJSON.
    body: Vec<u8>,
    /// The line of the input on which each formula began.
    lines: Vec<u64>,
}

impl Taker for Run {
    type Chunk = Chunk;
    type Failure = Failure;

    fn add(&self, chunk: &mut Chunk, line: u64, text: Vec<u8>) -> Result<(), String> {
        chunk.body.extend_from_slice(&text);
        chunk.body.push(b'\n');
        chunk.lines.push(line);
        Ok(())
    }

    fn fill_of(chunk: &Chunk) -> Fill {
        let (lines, bytes) = (chunk.lines.len(), chunk.body.len());
        let is_full = lines >= CLIENT_CHUNK_LINES || bytes >= CLIENT_CHUNK_BYTES;
        Fill { bytes: bytes as u64, is_empty: lines == 0, is_full }
    }

    /// Sends a chunk until every line of it is decided or patience ends.
    async fn take(&mut self, chunk: Chunk, tally: &mut Tally) -> Result<(), Failure> {
        self.chunks += 1;
        let key = chunk_key(self.nonce, self.chunks, &chunk.body);
        let content_type = "application/x-ndjson";
        let mut call = Call::post("/formulas".to_owned(), content_type, chunk.body);
        call.key = Some(key);
        let mut patience = Patience::new(&mut self.random);
        loop {
            let attempt = Attempt::of(self.client.call(&call).await, &chunk.lines, &self.client)?;
            match attempt {
                Attempt::Decided(results) => {
                    count(tally, &results, &chunk.lines);
                    return Ok(());
                }
                Attempt::Failed { failure, retry_after_s, decided } => {
                    if !patience.wait(retry_after_s).await {
                        count(tally, &decided, &chunk.lines);
                        return Err(failure);
                    }
                }
            }
        }
    }
}

/// The key of a chunk: the same for every attempt to send it, and for nothing else.
fn chunk_key(nonce: u64, chunk: u64, body: &[u8]) -> String {
    let mut sha = Sha256::new();
    sha.update(nonce.to_le_bytes());
    sha.update(chunk.to_le_bytes());
    sha.update(body);
    sha.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What one attempt to send a chunk came to.
enum Attempt {
    /// Every line has its result.
    Decided(Vec<LineResult>),
    /// Some lines have none: send the chunk again under the same key.
    Failed { failure: Failure, retry_after_s: Option<u64>, decided: Vec<LineResult> },
}

impl Attempt {
    /// # Errors
    /// If sending again cannot help.
    fn of(
        result: Result<Answer, CallError>,
        lines: &[u64],
        client: &HttpClient,
    ) -> Result<Attempt, Failure> {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Ok(Attempt::failed(error.into(), None, Vec::new())),
        };
        let retry_after_s = answer.retry_after_s;
        if !answer.status.is_success() {
            let failure = refusal(&answer);
            if is_transient(answer.status.as_u16()) {
                return Ok(Attempt::failed(failure, retry_after_s, Vec::new()));
            }
            return Err(failure);
        }
        let mut results = parse_results(&answer.body).ok_or_else(|| client.garbled())?;
        let decided = results.iter().take_while(|result| !is_transient(result.status)).count();
        if results.len() > lines.len() {
            return Err(client.garbled().into());
        }
        if decided == lines.len() {
            return Ok(Attempt::Decided(results));
        }
        let failure = match results.get(decided) {
            Some(result) => result.failure(),
            None => client.garbled().into(),
        };
        results.truncate(decided);
        Ok(Attempt::failed(failure, retry_after_s, results))
    }

    fn failed(failure: Failure, retry_after_s: Option<u64>, decided: Vec<LineResult>) -> Attempt {
        Attempt::Failed { failure, retry_after_s, decided }
    }
}

/// The server's word on one line.
#[derive(Clone, Debug, serde::Deserialize)]
struct LineResult {
    status: u16,
    #[serde(default)]
    problem: Problem,
}

impl LineResult {
    fn detail(&self) -> String {
        self.problem.describe(StatusCode::from_u16(self.status).unwrap_or_default())
    }

    fn failure(&self) -> Failure {
        Failure::Refused { status: self.status, detail: self.detail() }
    }
}

fn parse_results(body: &[u8]) -> Option<Vec<LineResult>> {
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Counts what became of lines; each result is that of the line at its place.
fn count(tally: &mut Tally, results: &[LineResult], lines: &[u64]) {
    for (result, line) in results.iter().zip(lines) {
        match result.status {
            200..300 => tally.new += 1,
            409 => tally.duplicates += 1,
            _ => tally.refuse(*line, || result.detail()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_the_same_for_each_attempt_and_other_for_each_chunk_and_run() {
        let key = chunk_key(1, 1, b"{}\n");
        assert_eq!(key, chunk_key(1, 1, b"{}\n"));
        assert_eq!(key.len(), 32);
        for other in [chunk_key(2, 1, b"{}\n"), chunk_key(1, 2, b"{}\n"), chunk_key(1, 1, b"{ }\n")]
        {
            assert_ne!(key, other);
        }
    }
}
