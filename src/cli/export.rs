//! `sillage export`: every stored formula as one line of JSON, from a server or from a directory.
//!
//! Both sources give a formula as the API shows it, and one function makes the line of it: the
//! same store gives the same lines on either way. Digits are copied as text.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Call, Credential, HttpClient, Server};
use crate::cli::part_file::{Existing, PartFile};
use crate::cli::retry::{call_patiently, success};
use crate::cli::{progress, stored, system};
use crate::http::formula_json;
use crate::limits::{EXPORT_PROGRESS_EVERY, PAGE_MAX};

/// Write every stored formula as one line of JSON (NDJSON)
///
/// A line has id, seq, name, materials and accepted_at, with all digits as they were sent, in the
/// order of acceptance: for other programs, and for `sillage import` of any version. Messages,
/// leases, idempotency keys, seals and hooks are no part of it; `sillage backup` copies those, too.
///
/// From a server: formulas that are accepted meanwhile come at the end, those that are withdrawn
/// meanwhile may be missing. From a directory: it must not be in use, and is not changed.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "sillage export [OPTIONS] <URL> [FILE]\n       sillage export [OPTIONS] \
                      --data <DIR> [FILE]",
    after_help = "\
Examples:
  sillage export http://127.0.0.1:8080 formulas.jsonl
  sillage export --data ./sillage-data | jq -c 'select(.materials | length > 20)'

Without FILE, or with -, the lines go to standard output. A FILE gets its name when it is complete.

Exit codes: 0 every formula was written, 2 FILE exists, 65 the store is damaged, 74 the server or
the disk failed, 75 the store is in use."
)]
pub(crate) struct ExportArgs {
    /// The server's address; with --data, the file to write
    #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    #[arg(required_unless_present = "data")]
    first: Option<String>,
    /// The file to write
    #[arg(value_name = "FILE", conflicts_with = "data")]
    second: Option<PathBuf>,
    /// The directory of a store that nobody serves
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Replace FILE if it exists, once the new one is complete
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    credential: Credential,
}

/// Where formulas come from.
enum Source<'a> {
    Server(&'a str),
    Directory(&'a Path),
}

/// Exports what the arguments name.
pub(crate) fn run(arguments: &ExportArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let (source, file) = match (&arguments.data, &arguments.first) {
        (Some(directory), file) => (Source::Directory(directory), file.as_ref().map(PathBuf::from)),
        (None, url) => {
            let url = url.as_deref().expect("clap asks for it");
            (Source::Server(url), arguments.second.clone())
        }
    };
    match file.filter(|file| file != Path::new("-")) {
        None => {
            let mut lines = Lines::to(out, None);
            write(&source, &arguments.credential, &mut lines)?;
        }
        Some(path) => {
            let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
            let unwritable = |error| Failure::Unwritable { path: path.clone(), error };
            let part = PartFile::begin(&path, existing).map_err(unwritable)?;
            let mut lines = Lines::to(BufWriter::new(part.file()), Some(&path));
            let count = write(&source, &arguments.credential, &mut lines)?;
            drop(lines);
            part.complete().map_err(unwritable)?;
            let path = path.display();
            writeln!(out, "{path}: {count} formulas").map_err(Failure::Output)?;
        }
    }
    Ok(Exit::Success)
}

/// Writes every formula of the source; gives how many.
fn write(
    source: &Source<'_>,
    credential: &Credential,
    lines: &mut Lines<'_, impl Write>,
) -> Result<u64, Failure> {
    let written = match source {
        Source::Server(url) => {
            let client = HttpClient::new(&Server::at(url, credential))?;
            system::runtime()?.block_on(from_server(&client, lines))
        }
        Source::Directory(directory) => from_directory(directory, lines),
    };
    lines.bar.finish_and_clear();
    written?;
    lines.flush()?;
    Ok(lines.count)
}

/// One page of the list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    formulas: Vec<&'a RawValue>,
    next: Option<String>,
}

async fn from_server(
    client: &HttpClient,
    lines: &mut Lines<'_, impl Write>,
) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    let mut target = format!("/formulas?limit={PAGE_MAX}");
    loop {
        let call = Call::get(target);
        let answer = success(call_patiently(client, &call, &mut random).await?)?;
        let page: Page<'_> = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
        for formula in &page.formulas {
            let shown = Shown::read(formula.get()).ok_or_else(|| client.garbled())?;
            lines.put(&shown)?;
        }
        let Some(next) = page.next else { return Ok(()) };
        let path = format!("/formulas?limit={PAGE_MAX}&");
        let length = path.len();
        target = form_urlencoded::Serializer::for_suffix(path, length)
            .append_pair("after", &next)
            .finish();
    }
}

fn from_directory(directory: &Path, lines: &mut Lines<'_, impl Write>) -> Result<(), Failure> {
    let mut json = Vec::new();
    let visited = stored::formulas(directory, |formula, count| {
        lines.bar.set_length(count);
        json.clear();
        formula_json(&mut json, formula);
        let text = std::str::from_utf8(&json).expect("JSON is UTF-8");
        let shown = Shown::read(text).expect("the API shows every formula in the same way");
        lines.put(&shown)
    });
    visited.map_err(Failure::of_store(directory))?
}

/// A formula as the API shows it, its members as they stand there.
#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    seq: &'a RawValue,
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    materials: &'a RawValue,
    #[serde(borrow)]
    accepted_at: &'a RawValue,
}

impl Shown<'_> {
    /// `None`: the text is something else, or would be more than one line.
    fn read(text: &str) -> Option<Shown<'_>> {
        if text.contains(['\n', '\r']) {
            return None;
        }
        serde_json::from_str(text).ok()
    }
}

/// Where lines go.
struct Lines<'a, W> {
    out: W,
    /// The file, if it is one.
    path: Option<&'a Path>,
    count: u64,
    bar: ProgressBar,
}

impl<'a, W: Write> Lines<'a, W> {
    fn to(out: W, path: Option<&'a Path>) -> Lines<'a, W> {
        Lines { out, path, count: 0, bar: progress::of_formulas(None) }
    }

    fn put(&mut self, formula: &Shown<'_>) -> Result<(), Failure> {
        let members = [
            (r#"{"id":"#, formula.id),
            (r#","seq":"#, formula.seq),
            (r#","name":"#, formula.name),
            (r#","materials":"#, formula.materials),
            (r#","accepted_at":"#, formula.accepted_at),
        ];
        for text in members.iter().flat_map(|(before, value)| [before, value.get()]).chain(["}\n"])
        {
            self.out.write_all(text.as_bytes()).map_err(|error| self.failure(error))?;
        }
        self.count += 1;
        if self.count.is_multiple_of(EXPORT_PROGRESS_EVERY) {
            self.bar.set_position(self.count);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| self.failure(error))
    }

    fn failure(&self, error: io::Error) -> Failure {
        match self.path {
            Some(path) => Failure::Unwritable { path: path.to_owned(), error },
            None => Failure::Output(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_members_in_order_and_the_digits_as_they_were() {
        let shown = concat!(
            r#"{"id":"ab","seq":7,"name":"a\"b","materials":[{"name":"x","concentration":1.50}],"#,
            r#""accepted_at":"2026-11-21T08:30:00.250Z","trail":"/formulas/ab/trail","new":1}"#
        );
        let mut lines = Lines::to(Vec::new(), None);
        lines.put(&Shown::read(shown).expect("a formula")).expect("memory takes all");
        let expected = concat!(
            r#"{"id":"ab","seq":7,"name":"a\"b","materials":[{"name":"x","concentration":1.50}],"#,
            r#""accepted_at":"2026-11-21T08:30:00.250Z"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(lines.out).expect("UTF-8"), expected);
        assert!(Shown::read(&shown.replace(",\"seq", ",\n\"seq")).is_none());
        assert!(Shown::read("{}").is_none());
    }
}
