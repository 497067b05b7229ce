//! The command line: one command per file, one line on stderr when it fails, one exit code.
//!
//! Commands come in four kinds. `serve` runs the service. `check`, `inspect`, `repair`, `reset`,
//! `restore`, `compact`, `import` and `config` work on a directory or a configuration, without a
//! server. `submit`, `list`, `get`, `lease`, `ack`, `nack`, `group`, `transactions`, `nodes`,
//! `backup` and `bench` talk to a server over HTTP; `export` does either. `simulate` plays what
//! Sillage itself calls.
//!
//! Results go to stdout, events and failures to stderr. A command gives an [`Exit`] or a
//! `Failure`, and only [`run`] turns them into output and exit code.

mod archive;
mod backup;
pub mod bench;
mod chunks;
mod compact;
mod copy_fault;
mod events;
mod examine;
mod export;
mod failure;
mod follow;
mod formulas;
mod group;
mod hooking;
mod http_client;
mod import;
mod input;
mod inspect;
mod offline;
mod part_file;
mod partner_nodes;
mod progress;
mod queues;
mod releasing;
mod render;
mod render_outbound;
mod render_partners;
mod replayed;
mod reset;
mod restore;
mod retry;
mod sealing;
mod serve;
mod settings_args;
mod show_config;
mod simulate;
mod span;
mod store;
mod store_fault;
mod store_files;
mod stored;
mod submit;
mod system;
mod table;
mod tally;
mod transacted;
mod transactions;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Exit;

use crate::cli::failure::Failure;
use crate::cli::settings_args::SettingArgs;

/// Stores fragrance formulas exactly once and queues each in the same log record.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Try it:
  sillage serve --ephemeral
  curl http://127.0.0.1:8080/formulas -H 'content-type: application/json' \\
    -d '{\"name\": \"Dawn\", \"materials\": [{\"name\": \"Hedione\", \"concentration\": 9.5}]}'
  sillage lease formulas

Exit codes: 0 done, 2 wrong usage or configuration, 65 damaged or refused data, 74 input/output
or server failed, 75 store in use by another process. `group` and `transactions` have more of them."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT
    ///
    /// Recovers the store, listens, and prints where and how to try it. On a signal, requests
    /// under way are answered and the log is closed; a second signal ends it at once. Killing it
    /// at any time loses nothing that was acknowledged.
    #[command(after_help = "\
Examples:
  sillage serve
  sillage serve --data /srv/sillage --listen 0.0.0.0:8080 --tokens /etc/sillage/tokens
  SILLAGE_LOG_FORMAT=json sillage serve --config /etc/sillage.toml

A flag overrides its variable, a variable the file, the file the default. `sillage config` with
the same flags shows what would hold, and why.

Exit codes: 0 ended by a signal, 2 wrong usage or configuration, 65 the store is damaged, 74 the
port is in use or the disk fails, 75 the store is in use.")]
    Serve(SettingArgs),
    /// Print the configuration that would hold, and where each value comes from
    #[command(after_help = "Example:\n  sillage config --config /etc/sillage.toml")]
    Config(SettingArgs),
    Check(offline::CheckArgs),
    Inspect(inspect::InspectArgs),
    Repair(offline::RepairArgs),
    Reset(reset::ResetArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Compact(compact::CompactArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Submit(submit::SubmitArgs),
    List(formulas::ListArgs),
    Get(formulas::GetArgs),
    Lease(queues::LeaseArgs),
    Ack(queues::AckArgs),
    Nack(queues::NackArgs),
    Group(group::GroupArgs),
    Transactions(transactions::TransactionsArgs),
    Nodes(partner_nodes::NodesArgs),
    Bench(bench::BenchArgs),
    Simulate(simulate::SimulateArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return print_refusal(&refusal).into(),
    };
    let exit = match dispatch(&arguments.command) {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe() => Exit::Success,
        Err(failure) => {
            eprintln!("sillage: {failure}");
            failure.exit()
        }
    };
    exit.into()
}

fn dispatch(command: &Command) -> Result<Exit, Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let exit = match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Config(arguments) => show_config::run(arguments, &mut out),
        Command::Check(arguments) => offline::check(arguments, &mut out),
        Command::Inspect(arguments) => inspect::run(arguments, &mut out),
        Command::Repair(arguments) => offline::repair(arguments, &mut out),
        Command::Reset(arguments) => reset::run(arguments, &mut out),
        Command::Backup(arguments) => backup::run(arguments, &mut out),
        Command::Restore(arguments) => restore::run(arguments, &mut out),
        Command::Compact(arguments) => compact::run(arguments, &mut out),
        Command::Export(arguments) => export::run(arguments, &mut out),
        Command::Import(arguments) => import::run(arguments, &mut out),
        Command::Submit(arguments) => submit::run(arguments, &mut out),
        Command::List(arguments) => formulas::list(arguments, &mut out),
        Command::Get(arguments) => formulas::get(arguments, &mut out),
        Command::Lease(arguments) => queues::lease(arguments, &mut out),
        Command::Ack(arguments) => queues::ack(arguments, &mut out),
        Command::Nack(arguments) => queues::nack(arguments, &mut out),
        Command::Group(arguments) => group::run(arguments, &mut out),
        Command::Transactions(arguments) => transactions::run(arguments, &mut out),
        Command::Nodes(arguments) => partner_nodes::run(arguments, &mut out),
        Command::Bench(arguments) => bench::run(arguments, &mut out),
        Command::Simulate(arguments) => simulate::run(arguments, &mut out),
    };
    // A failed command has printed, too: what it did before it failed.
    let flushed = out.flush().map_err(Failure::Output);
    exit.and_then(|exit| flushed.map(|()| exit))
}

/// Prints help, version or what is wrong with the command line.
fn print_refusal(refusal: &clap::Error) -> Exit {
    // Nothing is left to be done if even that cannot be printed.
    let _printed = refusal.print();
    if refusal.use_stderr() { Exit::Usage } else { Exit::Success }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
