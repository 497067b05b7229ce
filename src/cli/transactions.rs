//! `sillage transactions`: what becomes of groups on the partner nodes, and trying again by hand.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Follower, WaitArgs, target_of};
use crate::cli::http_client::{Call, HttpClient, Server};
use crate::cli::retry::{call_patiently, success};
use crate::cli::system;
use crate::cli::table::Table;
use crate::cli::transacted::{Form, Told, Transacted};
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::state::releases::Phase;

/// List transactions in the order in which they were begun, show one, or try one again
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  sillage transactions --state failed
  sillage transactions show 42 --wait 5m
  sillage transactions retry 42

Exit codes of show and retry: 0 succeeded, 1 rolled back (the nodes are as they were), 3 not at an
end when the wait was over (the server goes on), 4 failed (nodes may differ; the server goes on to
undo). Of all: 2 wrong usage or permission, 65 refused or unknown, 74 the server could not be
reached."
)]
pub(crate) struct TransactionsArgs {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Show one transaction and how its nodes stand
    Show(OneArgs),
    /// Try one at once that waits or has failed; one that has failed has all its tries again
    Retry(OneArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those in this state
    #[arg(long, value_parser = PossibleValuesParser::new(Phase::ALL.map(Phase::name)))]
    state: Option<String>,
    /// No more than this many
    #[arg(long, value_name = "N", default_value_t = PAGE_DEFAULT)]
    limit: usize,
    /// Print each transaction as the server sends it, one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The transaction
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the transaction as the server sends it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// One page of the list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    transactions: Vec<&'a RawValue>,
    next: Option<String>,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &TransactionsArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    match &arguments.part {
        None => list(&arguments.list, out),
        Some(Part::Show(one)) => show(one, out),
        Some(Part::Retry(one)) => retry(one, out),
    }
}

fn show(arguments: &OneArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let (told, followed) = system::runtime()?.block_on(async {
        let mut follower = Follower::new(&client, &arguments.wait)?;
        let told = follower.ask(&Call::get(target_of(&arguments.id))).await?;
        Ok::<_, Failure>(follower.follow(told).await)
    })?;
    finish(&told, followed, arguments, out)
}

/// Asked for once: a repetition might find the transaction at the end that the first one led to,
/// and would be refused.
fn retry(arguments: &OneArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let target = format!("{}/retry", target_of(&arguments.id));
    let call = Call::post(target, "", Vec::new());
    let (told, followed) = system::runtime()?.block_on(async {
        let mut follower = Follower::new(&client, &arguments.wait)?;
        let told = follower.ask_once(&call).await?;
        Ok::<_, Failure>(follower.follow(told).await)
    })?;
    finish(&told, followed, arguments, out)
}

fn finish(
    told: &Told,
    followed: Result<(), Failure>,
    arguments: &OneArgs,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    told.print(if arguments.json { Form::Json } else { Form::Text }, out)?;
    followed.map(|()| told.transaction.exit())
}

fn list(arguments: &ListArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    let mut table = Table::headed(&["id", "state", "action", "tries", "changed at", "group", ""]);
    system::runtime()?.block_on(async {
        let mut left = arguments.limit;
        let mut after = None;
        while left > 0 {
            let call = Call::get(list_target(arguments, left.min(PAGE_MAX), after.as_deref()));
            let answer = success(call_patiently(&client, &call, &mut random).await?)?;
            let page: Page<'_> =
                serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
            for transaction in page.transactions.iter().take(left) {
                if arguments.json {
                    writeln!(out, "{}", transaction.get()).map_err(Failure::Output)?;
                } else {
                    let row = serde_json::from_str(transaction.get());
                    add_row(&mut table, &row.map_err(|_| client.garbled())?);
                }
            }
            left -= page.transactions.len().min(left);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok::<_, Failure>(())
    })?;
    if !arguments.json {
        table.print(out).map_err(Failure::Output)?;
    }
    Ok(Exit::Success)
}

fn list_target(arguments: &ListArgs, limit: usize, after: Option<&str>) -> String {
    let path = "/transactions?";
    let mut query = form_urlencoded::Serializer::for_suffix(path.to_owned(), path.len());
    query.append_pair("limit", &limit.to_string());
    let filters = [("state", arguments.state.as_deref()), ("after", after)];
    for (name, value) in filters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

fn add_row(table: &mut Table, row: &Transacted) {
    let Transacted { id, group, action, state, reason, tries, changed_at, .. } = row;
    let (tries, reason) = (tries.to_string(), reason.as_deref().unwrap_or_default());
    table.row(&[id, state.name(), action, &tries, changed_at, group, reason]);
}
