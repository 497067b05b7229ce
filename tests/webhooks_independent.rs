//! Our signatures of hooks and those of an independent implementation, PyPI's
//! `standardwebhooks`, are the same: each verifies what the other has signed and refuses what was
//! changed since.
//!
//! Needs a Python that has the library, named by `SILLAGE_WEBHOOKS_PYTHON`; `.ci/run` makes one.
//! Without it these tests say so and pass: nothing is fetched from a network here.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{Call, Receiver, seed};
use hyper::HeaderMap;
use serde_json::{Value, json};
use sillage::outbound::signature::{Forged, Secret, headers, sign, verify};
use sillage::time::{Clock as _, SystemClock};

const PYTHON: &str = "SILLAGE_WEBHOOKS_PYTHON";
const TOLERANCE_S: u64 = 300;
const ROUNDS: usize = 300;

/// The library in a process of its own.
struct Library {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Library {
    /// Starts it; `None`, with the reason printed, where there is none.
    fn start() -> Option<Library> {
        let Some(python) = std::env::var_os(PYTHON).filter(|path| !path.is_empty()) else {
            println!("skipped: {PYTHON} names no Python that has standardwebhooks");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhooks/check.py");
        // A name that is set and wrong is a fault, and nothing to be skipped.
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python that is named can be started");
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Some(Library { child, input, output })
    }

    #[track_caller]
    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").expect("the library reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the library writes");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer to {request}: {line}"))
    }

    #[track_caller]
    fn sign(&mut self, delivery: &Delivery) -> String {
        let Delivery { secret, id, timestamp_s, body } = delivery;
        let answer = self.ask(&json!({"do": "sign", "secret": secret.reveal(), "id": id,
            "timestamp": timestamp_s, "body": body}));
        answer["signature"].as_str().expect("a signature").to_owned()
    }

    #[track_caller]
    fn verifies(&mut self, secret: &Secret, headers: &HeaderMap, body: &str) -> bool {
        let text = |value: &hyper::header::HeaderValue| value.to_str().expect("ASCII").to_owned();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name, text(value))).collect();
        let headers: Value = headers
            .into_iter()
            .map(|(name, value)| (name.to_string(), Value::String(value)))
            .collect();
        let request = json!({"do": "verify", "secret": secret.reveal(), "headers": headers,
            "body": body});
        self.ask(&request)["verified"].as_bool().expect("yes or no")
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is signed, and by what.
#[derive(Clone, Debug)]
struct Delivery {
    secret: Secret,
    id: String,
    timestamp_s: u64,
    body: String,
}

impl Delivery {
    /// Any secret of 24 to 64 bytes, and a body with characters of one to four bytes.
    fn random(random: &mut fastrand::Rng) -> Delivery {
        let characters = ['a', '.', ' ', '"', '\\', '\n', '\u{7f}', 'ü', '…', '𝄞'];
        let name: String =
            (0..random.usize(..40)).map(|_| characters[random.usize(..characters.len())]).collect();
        let id = format!("msg_{}_{:016x}", random.u64(1..), random.u64(..));
        let now_s = now_s();
        let timestamp_s = random.u64(now_s - TOLERANCE_S / 2..now_s + TOLERANCE_S / 2);
        Delivery { secret: secret(random), id, timestamp_s, body: json!({"n": name}).to_string() }
    }

    fn headers(&self) -> HeaderMap {
        headers(
            std::slice::from_ref(&self.secret),
            &self.id,
            self.timestamp_s,
            self.body.as_bytes(),
        )
    }

    /// The same delivery, changed in one place.
    fn changed(&self, random: &mut fastrand::Rng) -> Delivery {
        let mut changed = self.clone();
        match random.u8(..4) {
            0 => changed.secret = secret(random),
            1 => changed.id.push('0'),
            2 => changed.timestamp_s += 1,
            _ => changed.body.insert(0, ' '),
        }
        changed
    }
}

fn secret(random: &mut fastrand::Rng) -> Secret {
    let bytes: Vec<u8> = (0..random.usize(24..=64)).map(|_| random.u8(..)).collect();
    Secret::shared(&bytes).expect("as many bytes as a secret has")
}

fn now_s() -> u64 {
    SystemClock::new().wall_ms() / 1000
}

/// `delivery` under the signature of another one.
fn signed_as(delivery: &Delivery, signed: &str) -> HeaderMap {
    let mut headers = delivery.headers();
    headers.insert("webhook-signature", signed.parse().expect("ASCII"));
    headers
}

#[test]
fn both_make_the_same_signature_and_verify_what_the_other_made() {
    let Some(mut library) = Library::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..ROUNDS {
        let delivery = Delivery::random(&mut random);
        let Delivery { secret, id, timestamp_s, body } = &delivery;
        let secrets = std::slice::from_ref(secret);
        let theirs = library.sign(&delivery);
        assert_eq!(sign(secrets, id, *timestamp_s, body.as_bytes()), theirs, "{delivery:?}");
        assert!(library.verifies(secret, &delivery.headers(), body), "{delivery:?}");
        let headers = signed_as(&delivery, &theirs);
        assert_eq!(verify(secrets, &headers, body.as_bytes(), now_s(), TOLERANCE_S), Ok(()));
    }
}

#[test]
fn both_refuse_what_was_changed_since() {
    let Some(mut library) = Library::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    for _ in 0..ROUNDS {
        let delivery = Delivery::random(&mut random);
        let changed = delivery.changed(&mut random);
        let signed = library.sign(&delivery);
        let headers = signed_as(&changed, &signed);
        let Delivery { secret, body, .. } = &changed;
        assert!(!library.verifies(secret, &headers, body), "{delivery:?} as {changed:?}");
        let ours =
            verify(std::slice::from_ref(secret), &headers, body.as_bytes(), now_s(), TOLERANCE_S);
        assert_eq!(ours, Err(Forged::Signature), "{delivery:?} as {changed:?}");
    }
}

#[test]
fn both_refuse_what_is_old_or_to_come() {
    let Some(mut library) = Library::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    let cases =
        [(now_s() - 2 * TOLERANCE_S, Forged::TooOld), (now_s() + 2 * TOLERANCE_S, Forged::TooNew)];
    for (timestamp_s, fault) in cases {
        let delivery = Delivery { timestamp_s, ..Delivery::random(&mut random) };
        let Delivery { secret, body, .. } = &delivery;
        let headers = delivery.headers();
        assert!(!library.verifies(secret, &headers, body));
        let secrets = std::slice::from_ref(secret);
        assert_eq!(verify(secrets, &headers, body.as_bytes(), now_s(), TOLERANCE_S), Err(fault));
    }
}

#[test]
fn while_a_secret_is_rotated_either_one_verifies() {
    let Some(mut library) = Library::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    let delivery = Delivery::random(&mut random);
    let secrets = [secret(&mut random), secret(&mut random)];
    let Delivery { id, timestamp_s, body, .. } = &delivery;
    let headers = headers(&secrets, id, *timestamp_s, body.as_bytes());
    for secret in &secrets {
        assert!(library.verifies(secret, &headers, body));
    }
    assert!(!library.verifies(&delivery.secret, &headers, body));
}

#[test]
fn the_simulated_receiver_takes_what_the_library_signed_and_nothing_else() {
    let Some(mut library) = Library::start() else { return };
    let mut random = fastrand::Rng::with_seed(seed());
    let delivery = Delivery::random(&mut random);
    let mut receiver = Receiver::start(&["--secret", &delivery.secret.reveal()]);
    let mut client = receiver.server().client();
    let signed = library.sign(&delivery);
    let call = |delivery: &Delivery| {
        Call::post("/hook", delivery.body.clone())
            .header("webhook-id", delivery.id.clone())
            .header("webhook-timestamp", delivery.timestamp_s.to_string())
            .header("webhook-signature", signed.clone())
    };
    client.send(&call(&delivery)).expect(200);
    let changed = Delivery { id: format!("{}0", delivery.id), ..delivery.clone() };
    client.send(&call(&changed)).expect(401);
    let stats = receiver.stats();
    assert_eq!((stats.verified, stats.bad_signature), (1, 1));
}
