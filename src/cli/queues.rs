//! `sillage lease`, `ack` and `nack`: a consumer for people and scripts.
//!
//! A lease is asked for once and never again: if its answer is lost, its messages come back by
//! themselves when it lapses, while a second lease would hold others.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Answer, Call, HttpClient, Server};
use crate::cli::retry::{for_terminal, success};
use crate::cli::span::Span;
use crate::cli::system;
use crate::ids::QueueName;

/// Lease messages from a queue and print each as one line of JSON
///
/// A leased message is yours until the lease lapses; then it goes back to the front of the
/// queue. Take the `receipt` of each message to ack or nack it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage lease formulas --max 10 --lease 5m
  sillage lease formulas --wait 20s | jq -r .receipt")]
pub(crate) struct LeaseArgs {
    /// The queue
    queue: QueueName,
    /// No more messages than this
    #[arg(long, value_name = "N", default_value_t = 1)]
    max: u32,
    /// How long they are yours, such as 30s or 5m
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    lease: Span,
    /// How long to wait if there is none, such as 20s
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Span,
    #[command(flatten)]
    server: Server,
}

/// Tell the queue that leased messages are done for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sillage ack formulas 2a-1-7-0123456789abcdef

Exit codes: 0 all are done, 65 some receipts are stale: their lease lapsed, or they were settled.")]
pub(crate) struct AckArgs {
    /// The queue
    queue: QueueName,
    /// The receipts of the messages
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<String>,
    #[command(flatten)]
    server: Server,
}

/// Give leased messages back to the queue
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sillage nack formulas 2a-1-7-0123456789abcdef --delay 10m --reason 'scale is down'

Exit codes: 0 all are back, 65 some receipts are stale: their lease lapsed, or they were settled.")]
pub(crate) struct NackArgs {
    /// The queue
    queue: QueueName,
    /// The receipts of the messages
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<String>,
    /// Not to be leased again before this, such as 10m
    #[arg(long, value_name = "DURATION")]
    delay: Option<Span>,
    /// Why; kept in the message's history
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Leases messages and prints them.
pub(crate) fn lease(arguments: &LeaseArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Leased<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    let body = json!({
        "max": arguments.max,
        "lease_s": arguments.lease.0.as_secs_f64(),
        "wait_s": arguments.wait.0.as_secs_f64(),
    });
    let client = HttpClient::new(&arguments.server)?;
    let answer = post(&client, &arguments.queue, "lease", &body)?;
    let leased: Leased<'_> = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
    for message in leased.messages {
        writeln!(out, "{}", message.get()).map_err(Failure::Output)?;
    }
    Ok(Exit::Success)
}

/// Acks messages.
pub(crate) fn ack(arguments: &AckArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let body = json!({ "receipts": arguments.receipts });
    let answer = post(&client, &arguments.queue, "ack", &body)?;
    print_settled("acked", &answer, &client, out)
}

/// Nacks messages.
pub(crate) fn nack(arguments: &NackArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let client = HttpClient::new(&arguments.server)?;
    let mut body = json!({ "receipts": arguments.receipts });
    if let Some(delay) = arguments.delay {
        body["delay_s"] = json!(delay.0.as_secs_f64());
    }
    if let Some(reason) = &arguments.reason {
        body["reason"] = json!(reason);
    }
    let answer = post(&client, &arguments.queue, "nack", &body)?;
    print_settled("nacked", &answer, &client, out)
}

fn post(
    client: &HttpClient,
    queue: &QueueName,
    action: &str,
    body: &serde_json::Value,
) -> Result<Answer, Failure> {
    let target = format!("/queues/{queue}/{action}");
    let call = Call::post(target, "application/json", body.to_string().into_bytes());
    success(system::runtime()?.block_on(client.call(&call))?)
}

fn print_settled(
    what: &str,
    answer: &Answer,
    client: &HttpClient,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Settled {
        done: Vec<String>,
        stale: Vec<String>,
    }
    let settled: Settled = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
    let mut print = || -> io::Result<()> {
        for id in &settled.done {
            writeln!(out, "{what} {}", for_terminal(id))?;
        }
        for receipt in &settled.stale {
            writeln!(out, "stale {}", for_terminal(receipt))?;
        }
        Ok(())
    };
    print().map_err(Failure::Output)?;
    Ok(if settled.stale.is_empty() { Exit::Success } else { Exit::Data })
}
