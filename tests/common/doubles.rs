//! The doubles that Sillage talks to: `sillage simulate signer` and `receiver`, with what they
//! have seen as types.
//!
//! Both are servers like any other of the harness: killed when dropped, their lines printed when
//! the test fails. How they answer is told by `behave` (see `src/cli/simulate`), so that tests
//! need no chance.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Client, Finished, PATIENCE, Server, Store, sillage};

/// What `Signer::start` gives as `--key`.
pub(crate) const SIGNER_KEY: &str = "sesame";

/// A simulated authority.
#[derive(Debug)]
pub(crate) struct Signer {
    server: Server,
}

/// What the authority has seen.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SignerStats {
    /// Grows with everything that happens.
    changes: u64,
    /// Authorised calls, those beyond the rate among them: `signs` + `verifies` + `probes`.
    pub(crate) calls: u64,
    pub(crate) signs: u64,
    pub(crate) verifies: u64,
    pub(crate) probes: u64,
    pub(crate) unauthorised: u64,
    /// Calls that are not answered yet, and the most that were at a time.
    pub(crate) under_way: u64,
    pub(crate) max_under_way: u64,
    /// Calls by what became of them: a status, `severed`, or `left` when the client left first.
    pub(crate) by_status: BTreeMap<String, u64>,
    /// The rate that it counts by.
    pub(crate) allowed: u64,
    pub(crate) window_ms: u64,
    /// The most calls in any window, and how many were beyond the rate.
    pub(crate) max_in_window: u64,
    pub(crate) violations: u64,
    /// When calls arrived, in milliseconds with three decimals since it started.
    pub(crate) arrivals_ms: Vec<f64>,
    /// Calls for signatures by message.
    pub(crate) per_message: BTreeMap<String, MessageStats>,
}

/// What the authority has seen of a message.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct MessageStats {
    pub(crate) calls: u64,
    /// Calls answered with 200, be the signature right or wrong.
    pub(crate) signed: u64,
    pub(crate) failed: u64,
    pub(crate) under_way: u64,
    pub(crate) arrivals_ms: Vec<f64>,
}

impl SignerStats {
    /// What it has seen of this message; nothing if it was never asked about it.
    pub(crate) fn of(&self, message: &str) -> MessageStats {
        self.per_message.get(message).cloned().unwrap_or_default()
    }
}

impl Signer {
    /// An authority with these arguments besides address and key, such as `["--rate", "10/3s"]`.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Signer {
        let command = sillage(["simulate", "signer", "--key", SIGNER_KEY]);
        Signer { server: start_double(command, arguments) }
    }

    /// Its address as a setting: `http://127.0.0.1:…`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The store with this authority for each server to come.
    pub(crate) fn of(&self, store: Store) -> Store {
        store.with(&["--seal-url", &self.url()]).with(&["--seal-key", SIGNER_KEY])
    }

    /// The key to verify signatures with, in PEM, for `--seal-public-key`.
    pub(crate) fn public_key(&self) -> String {
        self.server.client().get("/public-key").expect(200).text().to_owned()
    }

    /// What it has seen.
    #[track_caller]
    pub(crate) fn stats(&self) -> SignerStats {
        self.server.client().get("/stats").expect(200).parse()
    }

    /// Tells it how to answer from now on.
    #[track_caller]
    pub(crate) fn behave(&self, told: &Value) {
        self.server.client().post("/behave", told.to_string()).expect(204);
    }

    /// Answers calls about this message so until further notice: a status, or one of `wrong`,
    /// `garbage`, `hang`, `sever`, and `usual`.
    #[track_caller]
    pub(crate) fn answer(&self, message: &str, answer: impl Into<Value>) {
        self.behave(&json!({"message": message, "answer": answer.into()}));
    }

    /// Answers all messages without a rule of their own so until further notice.
    #[track_caller]
    pub(crate) fn answer_all(&self, answer: impl Into<Value>) {
        self.behave(&json!({"default": {"answer": answer.into()}}));
    }

    /// Asks until the authority has seen what is waited for.
    #[track_caller]
    pub(crate) fn await_stats(
        &self,
        what: &str,
        holds: impl FnMut(&SignerStats) -> bool,
    ) -> SignerStats {
        await_stats(self.server.client(), what, |stats: &SignerStats| stats.changes, holds)
    }

    /// The double as a server, to signal, read or call it directly.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(self) -> Finished {
        self.server.terminate()
    }
}

/// A simulated receiver of hooks. Each path is a receiver of its own.
#[derive(Debug)]
pub(crate) struct Receiver {
    server: Server,
}

/// What the receiver has seen.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReceiverStats {
    /// Grows with everything that happens.
    changes: u64,
    pub(crate) calls: u64,
    /// Calls answered with 2xx, and those of them whose id had been accepted before.
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    /// By what was found of the signature. Without a secret all are in none of these.
    pub(crate) verified: u64,
    pub(crate) bad_signature: u64,
    pub(crate) unsigned: u64,
    pub(crate) old: u64,
    /// Calls of the target of redirects.
    pub(crate) redirected: u64,
    pub(crate) under_way: u64,
    pub(crate) by_status: BTreeMap<String, u64>,
    pub(crate) by_path: BTreeMap<String, u64>,
    /// Calls by `webhook-id`.
    pub(crate) by_id: BTreeMap<String, u64>,
    /// The first deliveries, in order of arrival.
    pub(crate) deliveries: Vec<Delivery>,
}

/// One call of the receiver.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) at_ms: f64,
    pub(crate) path: String,
    pub(crate) webhook_id: Option<String>,
    /// As sent: seconds since 1970.
    pub(crate) timestamp: Option<String>,
    /// As sent: `v1,…`, several with blanks between them.
    pub(crate) signature: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) body: String,
    /// `good`, `bad`, `unsigned`, `old` or `unchecked`.
    pub(crate) verdict: String,
    /// Whether it was checked and is good.
    pub(crate) verified: bool,
    /// How many calls with its id there were, with this one.
    pub(crate) attempt: u64,
    /// `None` until it is answered, and if it never was.
    pub(crate) status: Option<u16>,
}

impl Delivery {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a hook brings JSON")
    }

    /// Whether it was answered with 2xx.
    pub(crate) fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl ReceiverStats {
    /// The deliveries to this path.
    pub(crate) fn at(&self, path: &str) -> Vec<&Delivery> {
        self.deliveries.iter().filter(|delivery| delivery.path == path).collect()
    }

    /// What was accepted at this path, as JSON.
    #[track_caller]
    pub(crate) fn accepted_at(&self, path: &str) -> Vec<Value> {
        let accepted = self.at(path).into_iter().filter(|delivery| delivery.is_accepted());
        accepted.map(Delivery::json).collect()
    }
}

impl Receiver {
    /// A receiver with these arguments besides the address, such as `["--mode", "gone"]`.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Receiver {
        Receiver { server: start_double(sillage(["simulate", "receiver"]), arguments) }
    }

    /// The URL of one of its paths, such as `/a`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    /// The store whose servers may call it, though it is on this machine.
    pub(crate) fn allowed_by(&self, store: Store) -> Store {
        store.with(&["--webhook-allow", "127.0.0.0/8"])
    }

    /// What it has seen.
    #[track_caller]
    pub(crate) fn stats(&self) -> ReceiverStats {
        self.server.client().get("/stats").expect(200).parse()
    }

    /// Tells it how to answer from now on.
    #[track_caller]
    pub(crate) fn behave(&self, told: &Value) {
        self.server.client().post("/behave", told.to_string()).expect(204);
    }

    /// Answers at this path by the mode, such as `gone` or `status:503`, until further notice.
    #[track_caller]
    pub(crate) fn mode(&self, path: &str, mode: &str) {
        self.behave(&json!({"path": path, "mode": mode}));
    }

    /// Verifies what comes to this path by these secrets from now on.
    #[track_caller]
    pub(crate) fn trust(&self, path: &str, secrets: &[&str]) {
        self.behave(&json!({"path": path, "secrets": secrets}));
    }

    /// Asks until the receiver has seen what is waited for.
    #[track_caller]
    pub(crate) fn await_stats(
        &self,
        what: &str,
        holds: impl FnMut(&ReceiverStats) -> bool,
    ) -> ReceiverStats {
        await_stats(self.server.client(), what, |stats: &ReceiverStats| stats.changes, holds)
    }

    /// The double as a server, to signal, read or call it directly.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(self) -> Finished {
        self.server.terminate()
    }
}

/// Reads what a double has seen, each time after something happened, until `holds` says yes.
#[track_caller]
pub(super) fn await_stats<S: DeserializeOwned + Debug>(
    mut client: Client,
    what: &str,
    changes: impl Fn(&S) -> u64,
    mut holds: impl FnMut(&S) -> bool,
) -> S {
    let began = Instant::now();
    let mut stats: S = client.get("/stats").expect(200).parse();
    while !holds(&stats) {
        assert!(began.elapsed() < PATIENCE, "still not so after {PATIENCE:?}: {what}\n{stats:?}");
        stats = client.get(&format!("/stats?after={}", changes(&stats))).expect(200).parse();
    }
    stats
}

#[track_caller]
pub(super) fn start_double(mut command: Command, arguments: &[&str]) -> Server {
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(arguments);
    match Server::start(command) {
        Ok(server) => server,
        Err(finished) => panic!("the double did not start: {finished:?}"),
    }
}
