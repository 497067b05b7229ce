//! `sillage list` and `sillage get`: what a server has stored.

use std::io::{self, Write};

use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Call, HttpClient, Server};
use crate::cli::retry::{call_patiently, for_terminal, success};
use crate::cli::system;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};

/// List stored formulas in the order in which they were accepted
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage list
  sillage list --material 'Iso E Super' --limit 1000
  sillage list --json --limit 1000000 > formulas.jsonl")]
pub(crate) struct ListArgs {
    /// Only formulas of this name; case and blanks do not count
    #[arg(long)]
    name: Option<String>,
    /// Only formulas with this material; case and blanks do not count
    #[arg(long)]
    material: Option<String>,
    /// No more than this many
    #[arg(long, value_name = "N", default_value_t = PAGE_DEFAULT)]
    limit: usize,
    /// Print each formula as the server sends it, one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Print one formula as the server sends it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sillage get 42")]
pub(crate) struct GetArgs {
    /// Its id (64 hex digits) or seq (a number)
    #[arg(value_name = "ID|SEQ")]
    which: String,
    #[command(flatten)]
    server: Server,
}

/// One page of the list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    formulas: Vec<&'a RawValue>,
    next: Option<String>,
}

/// What a line of the list shows.
#[derive(Deserialize)]
struct Row {
    seq: u64,
    id: String,
    accepted_at: String,
    name: String,
    materials: Vec<IgnoredAny>,
}

/// Lists what the arguments select.
pub(crate) fn list(arguments: &ListArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    system::runtime()?.block_on(async {
        let mut left = arguments.limit;
        let mut after = None;
        while left > 0 {
            let call = Call::get(list_target(arguments, left.min(PAGE_MAX), after.as_deref()));
            let answer = success(call_patiently(&client, &call, &mut random).await?)?;
            let page: Page<'_> =
                serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
            for formula in page.formulas.iter().take(left) {
                print(formula, arguments, &client, out)?;
            }
            left -= page.formulas.len().min(left);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        out.flush().map_err(Failure::Output)?;
        Ok(Exit::Success)
    })
}

fn list_target(arguments: &ListArgs, limit: usize, after: Option<&str>) -> String {
    let path = "/formulas?";
    let mut query = form_urlencoded::Serializer::for_suffix(path.to_owned(), path.len());
    query.append_pair("limit", &limit.to_string());
    let filters = [("name", &arguments.name), ("material", &arguments.material)];
    for (filter, value) in filters {
        if let Some(value) = value {
            query.append_pair(filter, value);
        }
    }
    if let Some(after) = after {
        query.append_pair("after", after);
    }
    query.finish()
}

fn print(
    formula: &RawValue,
    arguments: &ListArgs,
    client: &HttpClient,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if arguments.json {
        return writeln!(out, "{}", formula.get()).map_err(Failure::Output);
    }
    let row: Row = serde_json::from_str(formula.get()).map_err(|_| client.garbled())?;
    print_row(&row, out).map_err(Failure::Output)
}

fn print_row(row: &Row, out: &mut impl Write) -> io::Result<()> {
    let id: String = for_terminal(&row.id).chars().take(12).collect();
    let (accepted_at, name) = (for_terminal(&row.accepted_at), for_terminal(&row.name));
    let lines = row.materials.len();
    writeln!(out, "{:>8}  {id}  {accepted_at}  {lines:>4} materials  {name}", row.seq)
}

/// Prints the formula that the arguments name.
pub(crate) fn get(arguments: &GetArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    let which = utf8_percent_encode(&arguments.which, NON_ALPHANUMERIC);
    let call = Call::get(format!("/formulas/{which}"));
    let answer = system::runtime()?.block_on(call_patiently(&client, &call, &mut random))?;
    let answer = success(answer)?;
    if answer.status != StatusCode::OK {
        return Err(client.garbled().into());
    }
    let text = answer.body.trim_ascii_end();
    out.write_all(text).and_then(|()| writeln!(out)).map_err(Failure::Output)?;
    Ok(Exit::Success)
}
