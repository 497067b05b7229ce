//! The receiver: whoever wants to be told of what happens, trusting nobody.
//!
//! | call | answers |
//! |---|---|
//! | `POST /any/path` | takes a delivery: 200, or what it was told to answer |
//! | any method `/redirected` | 200; where redirects lead, which nobody must follow |
//! | `GET /stats` | what was seen, for tests |
//! | `POST /behave` | tells how to answer from now on, all paths or one |
//!
//! A delivery is verified by the Standard Webhooks specification if there is a secret for its
//! path; one that is not signed, wrongly signed or old is answered 401. Each path is a receiver of
//! its own if it was told to behave in its own way.

mod conduct;
mod judge;
mod stats;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::header::{LOCATION, RETRY_AFTER};
use hyper::{Method, StatusCode};
use tracing::{info, warn};

use crate::cli::failure::{Exit, Failure};
use crate::cli::simulate::Stage;
use crate::cli::simulate::chance::random_of;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::receiver::conduct::{Conduct, Conducts, Ending, Mode};
use crate::cli::simulate::receiver::judge::Verdict;
use crate::cli::simulate::receiver::stats::{Arrival, Stats, Ticket};
use crate::cli::simulate::server::{self, Changes, Double, Reply, Visit};
use crate::cli::simulate::voice::shown;
use crate::cli::system;
use crate::limits::SIMULATE_DELAY_MS_MAX;
use crate::outbound::signature::Secret;
use crate::time::{Clock as _, SystemClock};

/// Play the receiver of hooks: verifies what it is told, and answers well or badly
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage simulate receiver --listen 127.0.0.1:9002 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
  sillage simulate receiver --mode flaky                half of the calls fail, by chance
  sillage simulate receiver --mode status:503

Ask it, and tell it how to behave while it runs (what is left out stays as it was):
  curl http://127.0.0.1:9002/stats
  curl http://127.0.0.1:9002/behave -d '{\"fail_first\": 3, \"retry_after_s\": 1}'
  curl http://127.0.0.1:9002/behave -d '{\"path\": \"/a\", \"mode\": \"gone\"}'
  curl http://127.0.0.1:9002/behave -d '{\"path\": \"/b\", \"secrets\": [\"whsec_…\"]}'

Modes: success (200), flaky (half of the calls fail, by chance), slow (200 after --slow-ms), gone
(410), redirect or redirect:STATUS (302, to /redirected), status:STATUS, hang (no answer until the
client leaves), sever (the connection is closed).

Exit codes: 0 ended by a signal, 2 wrong usage, 74 the port is in use.")]
pub(crate) struct ReceiverArgs {
    #[command(flatten)]
    stage: Stage,
    /// A secret to verify with, `whsec_…`; may be given again. Without one nothing is verified
    #[arg(long = "secret", value_name = "SECRET", value_parser = Secret::parse)]
    secrets: Vec<Secret>,
    /// How to answer
    #[arg(long, default_value = "success")]
    mode: Mode,
    /// Milliseconds that the mode `slow` takes
    #[arg(long, default_value_t = 3000)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=SIMULATE_DELAY_MS_MAX))]
    slow_ms: u64,
    /// Seconds by which a delivery may be older or newer than this machine's clock
    #[arg(long, default_value_t = 300)]
    tolerance_s: u64,
}

/// Plays the receiver until a signal.
pub(crate) fn run(arguments: &ReceiverArgs) -> Result<Exit, Failure> {
    arguments.stage.start_events();
    let seed = arguments.stage.seed.map_or_else(system::fresh_seed, Ok)?;
    info!(seed, "chance grows from this seed");
    let secrets = arguments.secrets.clone();
    let usual = Conduct { mode: arguments.mode, secrets, ..Conduct::default() };
    let desk = Desk { conducts: Conducts::new(usual), stats: Stats::default() };
    let receiver = Receiver {
        seed,
        slow_ms: arguments.slow_ms,
        tolerance_s: arguments.tolerance_s,
        clock: SystemClock::new(),
        desk: Mutex::new(desk),
        changes: Changes::new(),
    };
    server::play(&[arguments.stage.listen], Arc::new(receiver))
}

/// Whoever wants to be told.
struct Receiver {
    seed: u64,
    slow_ms: u64,
    tolerance_s: u64,
    clock: SystemClock,
    desk: Mutex<Desk>,
    changes: Changes,
}

/// What changes from call to call.
struct Desk {
    conducts: Conducts,
    stats: Stats,
}

/// What a delivery is to meet.
struct Plan {
    ticket: Ticket,
    verdict: Verdict,
    ending: Ending,
    delay_ms: u64,
    retry_after_s: Option<u64>,
}

impl Double for Receiver {
    const NAME: &str = "receiver";

    async fn answer(&self, visit: Visit) -> Reply {
        match (&visit.method, visit.path.as_str()) {
            (_, "/redirected") => {
                self.desk().stats.redirected();
                self.changes.note();
                warn!("#{} {} /redirected: a redirect was followed", visit.number, visit.method);
                Reply::text(StatusCode::OK, "nobody should be here\n")
            }
            (&Method::POST, "/behave") => self.behave(&visit),
            (&Method::POST, _) => self.take(&visit).await,
            (&Method::GET, "/stats") => {
                let changes = self.changes.count(&visit).await;
                Reply::json(StatusCode::OK, &self.desk().stats.report(changes))
            }
            (&Method::GET, "/livez" | "/readyz") => Reply::text(StatusCode::OK, "ready\n"),
            (_, path) => {
                Reply::text(StatusCode::NOT_FOUND, format!("{} {path} is nothing\n", visit.method))
            }
        }
    }

    fn sum_up(&self) {
        let counts = self.desk().stats.counts();
        info!(
            "ended after {} deliveries: {} accepted ({} more than once), {} wrongly signed, \
             {} not signed, {} old",
            counts.calls,
            counts.accepted,
            counts.duplicates,
            counts.bad_signature,
            counts.unsigned,
            counts.old
        );
    }
}

impl Receiver {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("nobody panics with the desk")
    }

    /// Takes a delivery.
    async fn take(&self, visit: &Visit) -> Reply {
        let plan = self.plan(visit);
        self.changes.note();
        let mut presence = Presence { receiver: self, visit, ticket: &plan.ticket, is_over: false };
        if plan.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
        }
        let status = match plan.ending {
            Ending::Status(status) => status,
            Ending::Hang => std::future::pending().await,
            Ending::Sever => {
                presence.is_over = true;
                self.end(visit, &plan.ticket, Outcome::Severed);
                return Reply::Sever;
            }
        };
        presence.is_over = true;
        self.end(visit, &plan.ticket, Outcome::Status(status));
        let code = StatusCode::from_u16(status).expect("modes name sane ones only");
        let mut reply = Reply::text(code, format!("{}\n", plan.verdict.words()));
        if code.is_redirection() {
            reply = reply.with(LOCATION, "/redirected");
        }
        match plan.retry_after_s.filter(|_| !code.is_success()) {
            Some(wait_s) => reply.with(RETRY_AFTER, &wait_s.to_string()),
            None => reply,
        }
    }

    /// Judges a delivery and decides what it meets.
    fn plan(&self, visit: &Visit) -> Plan {
        let desk = &mut *self.desk();
        let conduct = desk.conducts.of(&visit.path);
        let now_s = self.clock.wall_ms() / 1000;
        let verdict = judge::judge(&conduct.secrets, visit, now_s, self.tolerance_s);
        let ticket = desk.stats.arrive(Arrival::of(visit, verdict));
        let id = visit.header("webhook-id").unwrap_or_default();
        let mut random = random_of(self.seed, id, ticket.attempt);
        let usual = conduct.ending(ticket.attempt, &mut random);
        let slow_ms = if conduct.mode == Mode::Slow { self.slow_ms } else { 0 };
        Plan {
            verdict,
            ending: if verdict.is_refused() { Ending::Status(401) } else { usual },
            delay_ms: conduct.delay_ms.unwrap_or(slow_ms),
            retry_after_s: conduct.retry_after_s,
            ticket,
        }
    }

    /// Counts and tells what became of a delivery.
    fn end(&self, visit: &Visit, ticket: &Ticket, outcome: Outcome) {
        let standing = self.desk().stats.end(ticket, outcome);
        self.changes.note();
        let name = match visit.header("webhook-id") {
            Some(id) => format!("{}, attempt {}", shown(id), ticket.attempt),
            None => "without an id".to_owned(),
        };
        info!(
            "#{} {} {name}, {}: {}{} {}",
            visit.number,
            shown(&visit.path),
            ticket.verdict.words(),
            outcome.name(),
            standing.words(),
            shown(&String::from_utf8_lossy(&visit.body))
        );
    }

    fn behave(&self, visit: &Visit) -> Reply {
        match self.desk().conducts.tell(&visit.body) {
            Ok(()) => {
                info!("told to behave otherwise");
                Reply::text(StatusCode::NO_CONTENT, "")
            }
            Err(fault) => Reply::text(StatusCode::BAD_REQUEST, format!("{fault}\n")),
        }
    }
}

/// Notices that a client leaves before it was answered: its call is dropped.
struct Presence<'a> {
    receiver: &'a Receiver,
    visit: &'a Visit,
    ticket: &'a Ticket,
    is_over: bool,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.receiver.end(self.visit, self.ticket, Outcome::Left);
        }
    }
}
