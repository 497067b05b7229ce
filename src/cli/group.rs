//! `sillage group`: creates or deletes a group on all partner nodes or on none, and asks the nodes
//! for one.
//!
//! The server does it; this begins it under an idempotency key of the run, so that a beginning
//! whose answer was lost is not a second one, waits, and tells how it went.

use std::io::{self, Write};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Follower, WaitArgs};
use crate::cli::http_client::{Call, HttpClient, Server};
use crate::cli::retry::{call_patiently, for_terminal, success};
use crate::cli::system;
use crate::cli::table::Table;
use crate::cli::transacted::{Form, print_json, shell_word};
use crate::ids::GroupId;
use crate::record::releases::Action;

/// Create or delete a group on all partner nodes or on none, or ask the nodes for one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage group create lavender
  sillage group delete lavender --wait 1m
  sillage group show lavender

Exit codes of create and delete: 0 done on all nodes, 1 rolled back (the nodes are as they were),
3 not at an end when the wait was over (the server goes on), 4 failed (nodes may differ; the server
goes on to undo).
Exit codes of show: 0 the nodes agree, 3 a node does not tell, 5 the nodes disagree.
Of all: 2 wrong usage or permission, 65 refused, such as when another transaction holds the group,
74 the server could not be reached.")]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Create it on all nodes, or leave all as they were
    Create(ChangeArgs),
    /// Delete it from all nodes, or leave all as they were
    Delete(ChangeArgs),
    /// Ask each node whether it has the group
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// The group's name on the nodes
    id: GroupId,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the transaction as the server sends it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The group's name on the nodes
    id: GroupId,
    /// Print what the server sends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What the nodes say of a group.
#[derive(Deserialize)]
struct Whereabouts {
    nodes: Vec<NodeSays>,
    /// `None`: a node that did not tell may be the one that differs.
    agree: Option<bool>,
    /// The transaction that holds the group.
    #[serde(default)]
    transaction: Option<Holder>,
}

#[derive(Deserialize)]
struct NodeSays {
    url: String,
    present: Option<bool>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Holder(#[serde(deserialize_with = "crate::cli::transacted::id")] String);

/// Does what the arguments say.
pub(crate) fn run(arguments: &GroupArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    match &arguments.part {
        Part::Create(arguments) => change(Action::Create, arguments, out),
        Part::Delete(arguments) => change(Action::Delete, arguments, out),
        Part::Show(arguments) => show(arguments, out),
    }
}

fn change(action: Action, arguments: &ChangeArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let body = json!({ "groupId": arguments.id.as_str(), "action": action.name() });
    let body = body.to_string().into_bytes();
    let mut call = Call::post("/transactions".to_owned(), "application/json", body);
    // Another run is another transaction, which finds done what this one did.
    call.key = Some(format!("{:016x}{:016x}", system::fresh_seed()?, system::fresh_seed()?));
    let (told, followed) = system::runtime()?.block_on(async {
        let mut follower = Follower::new(&client, &arguments.wait)?;
        let told = follower.ask(&call).await?;
        Ok::<_, Failure>(follower.follow(told).await)
    })?;
    told.print(form(arguments.json), out)?;
    followed.map(|()| told.transaction.exit())
}

fn form(json: bool) -> Form {
    if json { Form::Json } else { Form::Text }
}

fn show(arguments: &ShowArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut random = fastrand::Rng::with_seed(system::fresh_seed()?);
    let id = arguments.id.as_str();
    let call = Call::get(format!("/groups/{}", utf8_percent_encode(id, NON_ALPHANUMERIC)));
    let answer = system::runtime()?.block_on(call_patiently(&client, &call, &mut random))?;
    let answer = success(answer)?;
    let said: Whereabouts = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
    let printed = match form(arguments.json) {
        Form::Json => print_json(&answer.body, out),
        Form::Text => said.print(id, out),
    };
    printed.map_err(Failure::Output)?;
    Ok(said.exit())
}

impl Whereabouts {
    fn exit(&self) -> Exit {
        match self.agree {
            Some(true) => Exit::Success,
            Some(false) => Exit::Disagree,
            None => Exit::Unsettled,
        }
    }

    fn print(&self, id: &str, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "group {}", for_terminal(id))?;
        let mut table = Table::indented();
        for node in &self.nodes {
            let presence = match node.present {
                Some(true) => "present",
                Some(false) => "absent",
                None => "unknown",
            };
            table.row(&[&node.url, presence, node.error.as_deref().unwrap_or_default()]);
        }
        table.print(out)?;
        let is_on_all = self.nodes.iter().all(|node| node.present == Some(true));
        let verdict = match self.agree {
            Some(true) if is_on_all => "on all nodes",
            Some(true) => "on no node",
            Some(false) => "the nodes disagree",
            None => "a node does not tell",
        };
        writeln!(out, "{verdict}")?;
        match &self.transaction {
            Some(Holder(holder)) => {
                writeln!(out, "A transaction holds it, and changes it or undoes what it did:")?;
                writeln!(out, "  sillage transactions show {}", shell_word(holder))
            }
            None => Ok(()),
        }
    }
}
