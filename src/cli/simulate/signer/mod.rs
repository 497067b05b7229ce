//! The signer: an authority that seals, as unreliable and as strict as the one it stands for.
//!
//! | call | answers |
//! |---|---|
//! | `GET /crypto/sign?message=` | 200 `text/plain`: RSA PKCS#1 v1.5 with SHA-256, in base64 |
//! | `GET /crypto/verify?message=&signature=` | 200 `{"valid": true}` or 400 `{"valid": false}` |
//! | `GET /` | 200 |
//! | `GET /public-key` | the key to verify with, in PEM |
//! | `GET /stats` | what was seen, for tests |
//! | `POST /behave` | tells how to answer from now on |
//!
//! The first three need `Authorization`, else 401, and count towards the rate. A call beyond it is
//! answered 429 and is a violation, whatever else was told. Otherwise a rule for its message
//! decides, else the next step of the script, else the default rule, else chance.
//!
//! The key is made at the start and forgotten at the end.

mod arguments;
mod behave;
mod key;
mod stats;
mod voice;

pub(super) use arguments::SignerArgs;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, RETRY_AFTER};
use hyper::{Method, StatusCode};
use subtle::ConstantTimeEq as _;
use tracing::{info, warn};

use crate::cli::failure::{Exit, Failure};
use crate::cli::simulate::answer::{Answer, Rule};
use crate::cli::simulate::chance::Chances;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::server::{self, Changes, Double, Reply, Visit};
use crate::cli::simulate::signer::behave::Rules;
use crate::cli::simulate::signer::key::Key;
use crate::cli::simulate::signer::stats::{Call, Stats};
use crate::cli::simulate::signer::voice::{Subject, line_of, words_of};
use crate::cli::simulate::voice::shown;
use crate::cli::simulate::window::{Rate, Verdict, Window};
use crate::cli::system;

/// Plays the authority until a signal.
pub(super) fn run(arguments: &SignerArgs) -> Result<Exit, Failure> {
    let script = arguments.script()?;
    arguments.stage.start_events();
    let seed = arguments.stage.seed.map_or_else(system::fresh_seed, Ok)?;
    let key = Key::generate().map_err(|error| Failure::System { what: "making a key", error })?;
    if let Some(path) = &arguments.public_key_out {
        let unwritable = |error| Failure::Unwritable { path: path.clone(), error };
        std::fs::write(path, key.public_pem()).map_err(unwritable)?;
    }
    info!(seed, rate = %arguments.rate, "chance grows from this seed");
    let chances = arguments.chances(seed);
    let desk = Desk {
        authorization: arguments.key.clone(),
        window: Window::new(arguments.rate),
        rules: Rules::new(script),
        stats: Stats::default(),
    };
    let (desk, changes) = (Mutex::new(desk), Changes::new());
    server::play(&[arguments.stage.listen], Arc::new(Signer { key, chances, desk, changes }))
}

/// The authority.
struct Signer {
    key: Key,
    chances: Chances,
    desk: Mutex<Desk>,
    changes: Changes,
}

/// What changes from call to call.
struct Desk {
    /// What `Authorization` must hold; `None`: anything, or nothing.
    authorization: Option<String>,
    window: Window,
    rules: Rules,
    stats: Stats,
}

/// What a call that was admitted is to meet.
struct Plan {
    answer: Answer,
    delay_ms: u64,
    rule: Rule,
}

impl Double for Signer {
    const NAME: &str = "signer";

    async fn answer(&self, visit: Visit) -> Reply {
        match (&visit.method, visit.path.as_str()) {
            (&Method::GET, "/crypto/sign") => self.call(&visit, Call::Sign).await,
            (&Method::GET, "/crypto/verify") => self.call(&visit, Call::Verify).await,
            (&Method::GET, "/") => self.call(&visit, Call::Probe).await,
            (&Method::GET, "/public-key") => Reply::text(StatusCode::OK, self.key.public_pem()),
            (&Method::GET, "/livez" | "/readyz") => Reply::text(StatusCode::OK, "ready\n"),
            (&Method::GET, "/stats") => {
                let changes = self.changes.count(&visit).await;
                let desk = self.desk();
                Reply::json(StatusCode::OK, &desk.stats.report(&desk.window, changes))
            }
            (&Method::POST, "/behave") => self.behave(&visit),
            (_, path) => {
                Reply::text(StatusCode::NOT_FOUND, format!("{} {path} is nothing\n", visit.method))
            }
        }
    }

    fn sum_up(&self) {
        let desk = self.desk();
        let (calls, violations) = (desk.stats.calls(), desk.window.violations());
        let most = desk.window.max_in_window();
        let rate = desk.window.rate();
        info!(
            "ended after {calls} calls, at most {most} in any {} ms ({} allowed), \
             {violations} beyond the rate",
            rate.window_ms, rate.calls
        );
    }
}

impl Signer {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("nobody panics with the desk")
    }

    /// Admits a call, keeps it waiting as planned, and answers it.
    async fn call(&self, visit: &Visit, call: Call) -> Reply {
        let message = visit.parameter("message").unwrap_or_default();
        let subject = Subject { number: visit.number, call, message };
        let admitted = self.admit(visit, &subject);
        self.changes.note();
        let plan = match admitted {
            Ok(plan) => plan,
            Err(refusal) => return *refusal,
        };
        let mut presence = Presence { signer: self, subject: &subject, is_answered: false };
        if plan.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
        }
        if plan.answer == Answer::Hang {
            info!("{}", line_of(&subject, "no answer, until the client leaves"));
            std::future::pending::<()>().await;
        }
        presence.is_answered = true;
        let (reply, outcome, words) = self.reply(visit, &subject, &plan);
        self.desk().stats.end(call, message, outcome);
        self.changes.note();
        info!("{}", line_of(&subject, &words));
        reply
    }

    /// Counts the call and decides what it meets; refuses one that is not authorised or one too
    /// many.
    fn admit(&self, visit: &Visit, subject: &Subject<'_>) -> Result<Plan, Box<Reply>> {
        let desk = &mut *self.desk();
        let given = visit.header(AUTHORIZATION).unwrap_or_default();
        let wanted = desk.authorization.as_deref().unwrap_or(given);
        if !bool::from(given.as_bytes().ct_eq(wanted.as_bytes())) {
            desk.stats.unauthorised();
            info!("{}", line_of(subject, "401, it is not authorised"));
            let reply = Reply::text(StatusCode::UNAUTHORIZED, "not authorised\n");
            return Err(Box::new(reply));
        }
        let verdict = desk.window.arrive(visit.at_us);
        desk.stats.begin(subject.call, subject.message, visit.at_us);
        if let Verdict::Beyond { calls, free_in_us } = verdict {
            desk.stats.end(subject.call, subject.message, Outcome::Status(429));
            let Rate { calls: allowed, window_ms } = desk.window.rate();
            let words =
                format!("429, VIOLATION: {calls} calls in {window_ms} ms, {allowed} allowed");
            warn!("{}", line_of(subject, &words));
            let wait_s = free_in_us.div_ceil(1_000_000).to_string();
            let reply = Reply::text(StatusCode::TOO_MANY_REQUESTS, "too many calls\n");
            return Err(Box::new(reply.with(RETRY_AFTER, &wait_s)));
        }
        let rule = desk.rules.next(subject.call, subject.message);
        let (drawn, delay_ms) = match subject.call {
            Call::Sign => {
                let health = desk.stats.health(subject.message);
                self.chances.draw(subject.message, health, visit.at_us)
            }
            Call::Verify | Call::Probe => (Answer::Sign, 0),
        };
        let answer = if rule.answer == Answer::Usual { drawn } else { rule.answer };
        Ok(Plan { answer, delay_ms: rule.delay_ms.unwrap_or(delay_ms), rule })
    }

    /// The answer, what is counted for it, and what is said of it.
    fn reply(&self, visit: &Visit, subject: &Subject<'_>, plan: &Plan) -> (Reply, Outcome, String) {
        let (reply, outcome) = match plan.answer {
            Answer::Sever => (Reply::Sever, Outcome::Severed),
            Answer::Garbage => {
                let page = "<!doctype html><title>Welcome</title>\n";
                let body = plan.rule.body.clone().unwrap_or_else(|| page.to_owned());
                (Reply::of(StatusCode::OK, "text/html", body.into()), Outcome::Status(200))
            }
            Answer::Status(status) => {
                let code = StatusCode::from_u16(status).expect("rules name sane ones only");
                let usual = || format!("{} as told\n", code.canonical_reason().unwrap_or("failed"));
                let body = plan.rule.body.clone().unwrap_or_else(usual);
                (Reply::text(code, body), Outcome::Status(status))
            }
            Answer::Sign | Answer::Wrong | Answer::Usual | Answer::Hang => {
                self.serve(visit, subject, plan)
            }
        };
        let after = match plan.rule.retry_after_s {
            Some(wait_s) => reply.with(RETRY_AFTER, &wait_s.to_string()),
            None => reply,
        };
        (after, outcome, format!("{} after {} ms", words_of(outcome, plan.answer), plan.delay_ms))
    }

    /// What the call asked for.
    fn serve(&self, visit: &Visit, subject: &Subject<'_>, plan: &Plan) -> (Reply, Outcome) {
        let (status, text) = match (subject.call, visit.parameter("message")) {
            (Call::Probe, _) => (StatusCode::OK, "an authority, simulated\n".to_owned()),
            (_, None) => (StatusCode::BAD_REQUEST, "message is missing\n".to_owned()),
            (Call::Sign, Some(message)) if plan.answer == Answer::Wrong => {
                (StatusCode::OK, self.key.sign(&format!("not {message}")))
            }
            (Call::Sign, Some(message)) => (StatusCode::OK, self.key.sign(message)),
            (Call::Verify, Some(message)) => {
                let signature = visit.parameter("signature").unwrap_or_default();
                let is_valid = self.key.verifies(message, signature);
                let status = if is_valid { StatusCode::OK } else { StatusCode::BAD_REQUEST };
                let document = serde_json::json!({ "valid": is_valid });
                return (Reply::json(status, &document), Outcome::Status(status.as_u16()));
            }
        };
        let text = plan.rule.body.clone().unwrap_or(text);
        (Reply::text(status, text), Outcome::Status(status.as_u16()))
    }

    fn behave(&self, visit: &Visit) -> Reply {
        let desk = &mut *self.desk();
        match desk.rules.tell(&visit.body) {
            Ok(told) => {
                desk.authorization = told.key.or_else(|| desk.authorization.take());
                let body = String::from_utf8_lossy(&visit.body);
                info!("told to behave: {}", shown(body.trim()));
                Reply::of(StatusCode::NO_CONTENT, "text/plain", "".into())
            }
            Err(fault) => Reply::text(StatusCode::BAD_REQUEST, format!("{fault}\n")),
        }
    }
}

/// Notices that a client leaves before it was answered: its call is dropped.
struct Presence<'a> {
    signer: &'a Signer,
    subject: &'a Subject<'a>,
    is_answered: bool,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.signer.desk().stats.end(self.subject.call, self.subject.message, Outcome::Left);
        self.signer.changes.note();
        info!("{}", line_of(self.subject, "the client left before the answer"));
    }
}
