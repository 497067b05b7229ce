//! A store with seals and hooks as this version writes it, opened for ever.
//!
//! `data/golden/v3/store` was cut off with two snapshots and a log behind them, calls under way,
//! deliveries in every phase and secrets in it; `state.txt` is what it amounted to, secrets left
//! out. `SILLAGE_GOLDEN=write cargo test --lib golden` makes both where there are none. The words
//! of `state.txt` are the names of our types and may change with them, its numbers may not.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fixture::outbound::{
    accept_to_be_sealed, begun, created, delivered, hooks, leased, owed, own, request, sealed,
    seals, spent,
};
use super::fixture::{Bench, RETENTION_MS, checked, queue};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::log::SimDisk;
use crate::record::hooks::{Event, HookSecret, Recipient, Told};
use crate::record::seals::CallPurpose;
use crate::record::{Fact, Selection};
use crate::state::State;
use crate::time::ManualClock;

const OPENED_AT_MS: u64 = 1_796_000_000_000;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden/v3").join(name)
}

/// Makes the store; gives its disk as a process that is killed leaves it.
fn written() -> SimDisk {
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::at(1_795_000_000_000));
    let mut bench = Bench::on(Arc::new(disk.handle()), clock, &[]);
    let expires = bench.ask(|store| store.state.at().uptime).plus_ms(RETENTION_MS);
    let hook = bench.put(vec![created(spent(1, expires))]);
    bench.put(vec![Fact::OwnSecretMade { secret: HookSecret([0x33; 32].into()) }]);
    let formulas = [1, 2, 3].map(|make_up| accept_to_be_sealed(&mut bench, make_up));
    let requests = ["a", "b", "a"].map(|text| bench.put(vec![request(text, None)]));
    seal_and_fail(&mut bench, formulas, requests);
    bench.compact();
    tell(&mut bench, hook, formulas[0]);
    bench.clock.advance_ms(20);
    bench.put(vec![request("a", spent(2, expires))]);
    bench.compact();
    end_in_the_middle(&mut bench, hook, formulas[1]);
    drop(bench);
    disk
}

/// The first formula and a text are sealed; the third formula and a request die.
fn seal_and_fail(bench: &mut Bench, formulas: [Lsn; 3], requests: [Lsn; 3]) {
    let [first, second, third] = formulas;
    let [a, b, also_a] = requests;
    let ids = [first, second, third, a, b];
    bench.put(vec![leased(seals(), ids.map(own).to_vec())]);
    let call = bench.put(vec![begun(CallPurpose::Fresh(MessageId(first)), 10_000)]);
    bench.clock.advance_ms(150);
    let text = checked(1).fingerprint.to_string();
    let ended = Fact::CallEnded { call, pause_ms: 0 };
    bench.put(vec![ended, sealed(own(first), Vec::new(), &text)]);
    let call = bench.put(vec![begun(CallPurpose::Retried(MessageId(a)), 10_000)]);
    let ended = Fact::CallEnded { call, pause_ms: 60_000 };
    bench.put(vec![ended, sealed(own(a), vec![MessageId(also_a)], "a")]);
    let messages = vec![own(second)];
    bench.put(vec![Fact::Deferred { queue: seals(), messages, delay_ms: 500_000 }]);
    let messages = vec![own(third), own(b)];
    bench.put(vec![Fact::Condemned { queue: seals(), messages, reason: "400".into() }]);
    let messages = vec![MessageId(third)];
    bench.put(vec![Fact::DeathsAnnounced { queue: seals(), messages }]);
    state_digest(bench);
}

/// An opening compares.
fn state_digest(bench: &mut Bench) {
    let digest = bench.ask(|store| store.state.digest());
    bench.put(vec![Fact::Digest { digest }]);
}

/// Deliveries are made, made again, given up and not yet made.
fn tell(bench: &mut Bench, hook: Lsn, formula: Lsn) {
    let deliveries = [(); 5].map(|()| bench.put(vec![owed(Recipient::Hook(hook))]));
    bench.put(vec![leased(hooks(), deliveries[..4].iter().copied().map(own).collect())]);
    let before = bench.ask(|store| store.state.formulas().trail(formula));
    let formula = crate::record::Touched { message: MessageId(formula), before };
    let told = Told { formula, event: Event::FormulaAccepted, hook };
    bench.put(vec![delivered(deliveries[0], Some(told))]);
    bench.put(vec![delivered(deliveries[1], None)]);
    bench.put(vec![Fact::HookRedelivered { delivery: MessageId(deliveries[1]) }]);
    let messages = vec![own(deliveries[2])];
    bench.put(vec![Fact::Condemned { queue: hooks(), messages, reason: "404".into() }]);
    let other = bench.put(vec![created(None)]);
    let secret = HookSecret([0x44; 24].into());
    bench.put(vec![Fact::HookSecretChanged { hook: other, secret, overlap_ms: 1 << 40 }]);
    let gone = bench.put(vec![created(None)]);
    bench.put(vec![Fact::HookDisabled { hook: gone, reason: "410 Gone".into() }]);
}

/// Another reign, which is cut off with a call under way.
fn end_in_the_middle(bench: &mut Bench, hook: Lsn, formula: Lsn) {
    bench.put(vec![begun(CallPurpose::Verify, 7000)]);
    bench.put(vec![owed(Recipient::Hook(hook))]);
    bench.clock.advance_ms(500_000);
    bench.put(vec![leased(seals(), vec![own(formula)])]);
    bench.put(vec![begun(CallPurpose::Fresh(MessageId(formula)), 10_000)]);
    let which = Selection::All;
    bench.put(vec![Fact::Purged { queue: hooks(), which }]);
    bench.withdraw(3);
    state_digest(bench);
    bench.accept(4);
}

/// What a store amounts to, by its state and by each record that is kept.
fn told(bench: &Bench) -> String {
    let mut told = bench.ask(|store| told_by_state(&store.state));
    let last = bench.ask(|store| store.state.lsn());
    for lsn in (1..=last.0).map(Lsn) {
        // Those that are no record, such as the ends of segments, cannot be read.
        if let Ok(Some(kept)) = bench.core.read(lsn) {
            writeln!(told, "{lsn} {:?} {:?}", kept.record, kept.steps).expect("a string");
        }
    }
    told
}

fn told_by_state(state: &State) -> String {
    let (calls, hooks) = (state.calls(), state.hooks());
    let mut told = format!("digest {:032x} at {:?}\n", state.digest(), state.at());
    let mut tell = |line: String| writeln!(told, "{line}").expect("a string");
    calls.running().for_each(|call| tell(format!("running {call:?}")));
    calls.ended().for_each(|call| tell(format!("{call:?}")));
    tell(format!("{:?}, {} requests wait", calls.pace(), state.seals().len()));
    hooks.iter().for_each(|hook| tell(format!("hook {hook:?}")));
    hooks.delivered().iter().for_each(|delivered| tell(format!("{delivered:?}")));
    tell(format!("own secret: {}", hooks.own_secret().is_some()));
    for (name, queue) in state.queues() {
        let at = state.at().uptime;
        tell(format!("{name} {:?} leasable {:?}", queue.counts(at), queue.leasable(at, 9)));
    }
    told
}

/// The files that a store consists of.
fn kept(disk: &SimDisk) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|path| path.to_string());
    paths.filter(|path| !path.ends_with(".tmp") && path != "LOCK").collect()
}

fn opened(disk: &SimDisk) -> Bench {
    Bench::on(Arc::new(disk.handle()), Arc::new(ManualClock::at(OPENED_AT_MS)), &[])
}

#[test]
fn store_with_seals_and_hooks_opens_for_ever_as_what_it_was() {
    if std::env::var("SILLAGE_GOLDEN").is_ok_and(|what| what == "write") {
        let disk = written();
        for path in kept(&disk) {
            let file = golden("store").join(&path);
            assert!(!file.exists(), "{path}: released bytes are never rewritten");
            std::fs::create_dir_all(file.parent().expect("it has one")).expect("created");
            std::fs::write(file, disk.bytes(&path).expect("there")).expect("written");
        }
        std::fs::write(golden("state.txt"), told(&opened(&disk))).expect("written");
    }
    let disk = SimDisk::new(2);
    for directory in ["", "log/", "snapshots/"] {
        for found in std::fs::read_dir(golden("store").join(directory)).expect("it is there") {
            let path = found.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name").to_string_lossy();
                disk.put(&format!("{directory}{name}"), &std::fs::read(&path).expect("read"));
            }
        }
    }
    let expected = std::fs::read_to_string(golden("state.txt")).expect("it is there");
    let mut bench = opened(&disk);
    assert_eq!(told(&bench), expected);
    assert!(!expected.contains("0x33") && !expected.contains("51, 51"), "secrets are left out");

    // A snapshot of this version on top says the same of it, and another reign, too.
    let digest = bench.ask(|store| store.state.digest());
    bench.compact();
    bench.ask(|store| store.state.check_invariants());
    assert_eq!(bench.ask(|store| store.state.digest()), digest);
    let queue = bench.ask(|store| store.state.queue(QueueName::HOOKS).cloned());
    let bench = bench.reopen();
    let again = bench.ask(|store| store.state.queue(QueueName::HOOKS).cloned());
    let at = bench.ask(|store| store.state.at().uptime);
    assert_eq!(again.map(|it| it.counts(at)), queue.map(|it| it.counts(at)));
    assert!(queue_of_formulas_goes_on(&bench));
}

/// Whether consumers outside see the formula that was accepted last.
fn queue_of_formulas_goes_on(bench: &Bench) -> bool {
    bench.ask(|store| {
        let formulas = store.state.queue(queue().as_str()).expect("built in");
        formulas.leasable(store.state.at().uptime, 99).len() >= 2
    })
}
