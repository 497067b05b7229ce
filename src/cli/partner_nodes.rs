//! `sillage nodes`: how the partner nodes are doing, as the server has met them since its start.

use std::io::Write;

use serde::Deserialize;

use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Call, HttpClient, Server};
use crate::cli::retry::{call_patiently, success};
use crate::cli::system;
use crate::cli::table::Table;
use crate::cli::transacted::print_json;

/// List the partner nodes: their breakers, how long they take, what was wrong last
///
/// A node whose breaker is open has failed so often in a row that it is left alone for a while.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sillage nodes")]
pub(crate) struct NodesArgs {
    /// Print what the server sends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<NodeHealth>,
}

#[derive(Deserialize)]
struct NodeHealth {
    url: String,
    /// Whether it is one of the nodes of today, or only of an earlier transaction.
    #[serde(default = "is_configured")]
    configured: bool,
    breaker: String,
    latency_s: Option<f64>,
    average_s: Option<f64>,
    calls: u64,
    failures: u64,
    last_success_at: Option<String>,
    last_error_at: Option<String>,
    last_error: Option<String>,
}

fn is_configured() -> bool {
    true
}

/// Lists the nodes.
pub(crate) fn run(arguments: &NodesArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    let call = Call::get("/nodes".to_owned());
    let answer = system::runtime()?.block_on(call_patiently(&client, &call, &mut random))?;
    let answer = success(answer)?;
    let said: Nodes = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
    let printed = match arguments.json {
        true => print_json(&answer.body, out),
        false => table_of(&said).print(out),
    };
    printed.map_err(Failure::Output)?;
    Ok(Exit::Success)
}

fn table_of(said: &Nodes) -> Table {
    let names =
        ["node", "breaker", "latest", "average", "calls", "failed", "last success", "last error"];
    let mut table = Table::headed(&names);
    for node in &said.nodes {
        let url = match node.configured {
            true => node.url.clone(),
            false => format!("{} (not configured now)", node.url),
        };
        let NodeHealth { breaker, latency_s, average_s, calls, failures, .. } = node;
        let success = node.last_success_at.as_deref().unwrap_or("never");
        let error = match (&node.last_error_at, &node.last_error) {
            (Some(at), Some(error)) => format!("{at} {error}"),
            (_, error) => error.clone().unwrap_or_default(),
        };
        let (latest, average) = (shown_ms(*latency_s), shown_ms(*average_s));
        let (calls, failures) = (calls.to_string(), failures.to_string());
        table.row(&[&url, breaker, &latest, &average, &calls, &failures, success, &error]);
    }
    table
}

fn shown_ms(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.0} ms", seconds * 1000.0))
}
