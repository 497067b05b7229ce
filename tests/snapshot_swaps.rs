//! Questions while one snapshot takes over from the other, back to back: every answer is right.
//!
//! Some formulas stay for good: whatever is asked about them is answered as at first, to the
//! byte. Others come and go: what was withdrawn before a question was asked is in no answer.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Call, Client, Formula, Messages, Server, Store, list_all, numbered, settle};
use serde_json::json;

/// Formulas that stay.
const LASTING: u64 = 300;
/// Snapshots that are written meanwhile.
const SNAPSHOTS: u64 = 40;

/// What all threads share.
struct Stage<'a> {
    server: &'a Server,
    lasting: &'a [Formula],
    is_over: AtomicBool,
    /// Ids of formulas whose withdrawal was answered and that are not stored again.
    withdrawn: Mutex<BTreeSet<String>>,
}

impl Stage<'_> {
    /// Does it over and over until the snapshots are written.
    fn repeat(&self, mut act: impl FnMut(&mut Client, u64)) {
        let mut client = self.server.client();
        for turn in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            act(&mut client, turn);
        }
    }

    /// Stores and withdraws formulas of its own.
    fn come_and_go(&self, client: &mut Client, turn: u64) {
        let stored = client.post("/formulas", numbered(10_000 + turn)).expect(201);
        let Formula { id, .. } = stored.parse();
        client.send(&Call::new("DELETE", format!("/formulas/{id}"))).expect(204);
        client.get(&format!("/formulas/{id}")).expect(404);
        self.withdrawn.lock().expect("no panic holds this lock").insert(id);
    }

    fn list(&self, client: &mut Client) {
        let withdrawn = self.withdrawn.lock().expect("no panic holds this lock").clone();
        let listed: Vec<String> = list_all(client).into_iter().map(|one| one.id).collect();
        let ids: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!(ids.len(), listed.len(), "each is listed once");
        for formula in self.lasting {
            assert!(ids.contains(&*formula.id), "{} is not listed", formula.seq);
        }
        assert!(!listed.iter().any(|id| withdrawn.contains(id)), "a withdrawn one is listed");
    }

    /// Asks about one that stays in all ways that there are.
    fn ask(&self, client: &mut Client, turn: u64) {
        let number = turn % LASTING;
        let formula = &self.lasting[usize::try_from(number).expect("small")];
        for target in [format!("/formulas/{}", formula.id), format!("/formulas/{}", formula.seq)] {
            let found: Formula = client.get(&target).expect(200).parse();
            assert_eq!((&found.id, found.lines()), (&formula.id, formula.lines()));
        }
        let trail = client.get(&format!("/formulas/{}/trail", formula.id)).expect(200).json();
        let steps = trail["steps"].as_array().expect("an array").len();
        assert_eq!(steps, 4, "accepted, announced, leased, acked: {trail}");
        let refused = client.post("/formulas", numbered(number)).expect(409).json();
        assert_eq!(refused["existing"]["seq"], formula.seq);
        let again = Call::post("/formulas", numbered(number)).key(format!("key-{number}"));
        let again: Formula = client.send(&again).expect(201).parse();
        assert_eq!(again.seq, formula.seq);
    }

    /// Leases what there is: every message can be read.
    fn consume(client: &mut Client) {
        let wish = json!({"max": 20, "lease_s": 30, "wait_s": 0}).to_string();
        let leased: Messages = client.post("/queues/formulas/lease", wish).expect(200).parse();
        let receipts: Vec<&str> = leased.messages.iter().map(|one| &*one.receipt).collect();
        if !receipts.is_empty() {
            // Withdrawn meanwhile, all of them may be stale.
            let status = settle(client, "ack", &receipts, &json!({})).status;
            assert!([200, 409].contains(&status), "{status}");
        }
    }
}

#[test]
fn every_answer_is_right_while_snapshots_swap() {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let mut client = server.client();
    let keyed = |n: u64| Call::post("/formulas", numbered(n)).key(format!("key-{n}"));
    let lasting: Vec<Formula> =
        (0..LASTING).map(|n| client.send(&keyed(n)).expect(201).parse()).collect();
    for _ in 0..LASTING.div_ceil(20) {
        Stage::consume(&mut client);
    }
    let stage = Stage {
        server: &server,
        lasting: &lasting,
        is_over: AtomicBool::new(false),
        withdrawn: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let stage = &stage;
        let asking = [
            scope.spawn(move || stage.repeat(|client, turn| stage.come_and_go(client, turn))),
            scope.spawn(move || stage.repeat(|client, _| stage.list(client))),
            scope.spawn(move || stage.repeat(|client, turn| stage.ask(client, turn))),
            scope.spawn(move || stage.repeat(|client, _| Stage::consume(client))),
        ];
        let mut operator = server.client();
        for _ in 0..SNAPSHOTS {
            operator.send(&Call::new("POST", "/admin/snapshot")).expect(200);
            if asking.iter().any(|one| one.is_finished()) {
                break;
            }
        }
        stage.is_over.store(true, Ordering::Relaxed);
    });
    let events = server.transcript().join("\n");
    assert!(!events.contains(r#""level":"ERROR""#), "{events}");
    assert_eq!(server.terminate().code, Some(0));
}
