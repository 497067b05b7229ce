//! `sillage simulate`: the far sides that Sillage talks to, as doubles to try it and to test it.
//!
//! ```text
//! sillage serve ── GET /crypto/sign ─► simulate signer     an authority: slow, strict, unreliable
//!               ├─ POST /any/path ───► simulate receiver   whoever wants to be told
//!               └─ POST /v1/group/ ──► simulate nodes      partners that hold groups, or do not
//! ```
//!
//! All serve HTTP on one thread (`server`), print a line for each call, count what they see
//! (`GET /stats`) and are told at run time how to behave (`POST /behave`). What they decide is
//! decided by pure code that takes the time and the seed: `window`, `chance`, `answer`, `mode`,
//! `node`.
//!
//! They keep nothing on disk and keep no secret: they are not for production.

mod answer;
mod chance;
mod nodes;
mod outcome;
mod receiver;
mod recent;
mod server;
mod signer;
mod step;
mod voice;
mod window;

pub(crate) use nodes::BadNodes;

use std::io::Write;
use std::net::SocketAddr;

use crate::cli::events;
use crate::cli::failure::{Exit, Failure};
use crate::config::{LogFormat, LogLevel};

/// Play the authority that seals, the receiver of hooks or partner nodes, to try and test Sillage
///
/// The signer is an authority as it is in the field: slow, failing for minutes, and strict about
/// its rate. The receiver is whoever subscribed to hooks: it verifies signatures and, if asked to,
/// fails, dawdles or redirects. The nodes hold groups, and fail in every way that nodes fail.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A full loop, in three terminals:
  sillage simulate signer --listen 127.0.0.1:9001 --key sesame --fail 0.3
  sillage simulate receiver --listen 127.0.0.1:9002
  sillage serve --ephemeral --seal-url http://127.0.0.1:9001 --seal-key sesame \\
    --webhook-allow 127.0.0.0/8
and then:
  curl 'http://127.0.0.1:8080/crypto/sign?message=hello&webhook_url=http://127.0.0.1:9002/told'
  curl http://127.0.0.1:9001/stats")]
pub(crate) struct SimulateArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    Signer(signer::SignerArgs),
    Receiver(receiver::ReceiverArgs),
    Nodes(nodes::NodesArgs),
}

/// What all doubles are told.
#[derive(Debug, clap::Args)]
struct Stage {
    /// Where to listen; port 0 lets the system choose one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What chance grows from: the same seed and calls, the same answers; else drawn and printed
    #[arg(long)]
    seed: Option<u64>,
    /// How to print calls: `pretty` on a terminal, else `json`
    #[arg(long, value_enum)]
    log_format: Option<Format>,
}

/// How calls are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line of text for people.
    Pretty,
    /// A JSON object per line for machines.
    Json,
}

impl Stage {
    /// Prints to stderr from now on.
    fn start_events(&self) {
        let format = self.log_format.map(|format| match format {
            Format::Pretty => LogFormat::Pretty,
            Format::Json => LogFormat::Json,
        });
        events::start_as(format, LogLevel::Info);
    }
}

/// Plays the part until a signal.
pub(crate) fn run(arguments: &SimulateArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    match &arguments.part {
        Part::Signer(arguments) => signer::run(arguments),
        Part::Receiver(arguments) => receiver::run(arguments),
        Part::Nodes(arguments) => nodes::run(arguments, out),
    }
}
