//! A state that rests on snapshots is the state that remembers everything.
//!
//! Random histories are applied side by side to a state that keeps all (`whole`), to one that
//! freezes, rests and thaws at random (`live`), and to states that resume from an image and
//! replay the rest. Trees stand in for the tables of the snapshots ([`Snapshot`]). All must have
//! the same digest, the same queues, and give the same answer to every question; and whatever
//! may still be asked for must be among the bodies that the snapshot keeps.

mod history;

use std::collections::{BTreeMap, BTreeSet};

use self::history::outbound::{TEXTS, text};
use self::history::{Entry, History, KEYS, MAKE_UPS, fingerprint, key};
use super::State;
use super::formulas::Whereabouts;
use super::idempotency::{KeyWhereabouts, Spent};
use super::image::Image;
use super::outlook::Phase;
use super::rest::Base;
use crate::formula::Fingerprint;
use crate::ids::{Epoch, Lsn, MessageId, QueueName};
use crate::limits::{LOST_CALLS_PAUSE_MS, STATE_LAYERS_MAX};
use crate::record::Fact;
use crate::record::hooks::Event;
use crate::record::seals::CallPurpose;

/// What a snapshot has on disk.
#[derive(Clone, Default)]
struct Snapshot {
    image: Option<Image>,
    formulas: BTreeMap<Fingerprint, Lsn>,
    keys: BTreeMap<[u8; 32], Spent>,
    trails: BTreeMap<Lsn, Lsn>,
    bodies: BTreeSet<Lsn>,
}

impl Snapshot {
    /// The snapshot of all up to `through`, from this one and the entries since.
    fn next(&self, entries: &[Entry], through: Lsn) -> Snapshot {
        let mut state = self.state();
        replay(&mut state, self, entries, through);
        let now = state.at().uptime;
        let mut next = self.clone();
        next.formulas.retain(|_, lsn| !state.formulas().is_withdrawn(*lsn));
        next.formulas.extend(state.formulas().fingerprints());
        next.keys.retain(|_, spent| spent.expires > now);
        next.keys.extend(state.keys().sorted(now));
        next.trails.extend(state.formulas().touched());
        let is_spent = |lsn: &Lsn| next.keys.values().any(|spent| spent.lsn == *lsn);
        let stored: BTreeSet<Lsn> = next.formulas.values().copied().collect();
        let queue = state.queue(QueueName::FORMULAS).expect("built in");
        let is_wanted = |entry: &Entry| match entry {
            Entry::Record(lsn, record) if *lsn <= through => match record.fact {
                Fact::FormulaWithdrawn { .. } => queue.holds(MessageId(*lsn)),
                Fact::BatchAnswered { .. } | Fact::HookCreated(_) => is_spent(lsn),
                Fact::SealRequested(_) | Fact::Sealed(_) => true,
                Fact::HookOwed(_) => state.is_delivery_kept(MessageId(*lsn)),
                _ => stored.contains(lsn) || state.is_kept(*lsn),
            },
            _ => false,
        };
        let wanted = entries.iter().filter(|entry| is_wanted(entry)).map(Entry::lsn);
        let has = |lsn: &Lsn| *lsn > self.base() || self.bodies.contains(lsn);
        next.bodies = wanted.filter(has).collect();
        let mut bytes = Vec::new();
        state.image(through).encode(&mut bytes);
        let image = Image::decode(&bytes).expect("what was encoded decodes");
        let mut again = Vec::new();
        image.encode(&mut again);
        assert_eq!(again, bytes, "an image has one form");
        next.image = Some(image);
        next
    }

    fn base(&self) -> Lsn {
        self.image.as_ref().map_or(Lsn::ZERO, Image::base)
    }

    fn state(&self) -> State {
        self.image.clone().map_or_else(State::default, State::resume)
    }

    fn find(&self, state: &State, fingerprint: &Fingerprint) -> Option<Lsn> {
        match state.formulas().find(fingerprint) {
            Whereabouts::Stored(lsn) => Some(lsn),
            Whereabouts::Below => {
                let found = self.formulas.get(fingerprint).copied();
                found.filter(|lsn| !state.formulas().is_withdrawn(*lsn))
            }
        }
    }

    fn find_key(&self, state: &State, key: &[u8; 32]) -> Option<Spent> {
        let now = state.at().uptime;
        match state.keys().find(key, now) {
            KeyWhereabouts::Spent(spent) => Some(spent),
            KeyWhereabouts::Below => self.keys.get(key).copied().filter(|s| s.expires > now),
        }
    }
}

/// Applies what comes after the snapshot, up to `through`, as an opening does.
fn replay(state: &mut State, snapshot: &Snapshot, entries: &[Entry], through: Lsn) {
    for entry in entries {
        if entry.lsn() > snapshot.base() && entry.lsn() <= through {
            apply(state, snapshot, entry);
        }
    }
}

fn apply(state: &mut State, snapshot: &Snapshot, entry: &Entry) {
    match entry {
        Entry::Loss(_, known_from) => state.note_loss(*known_from),
        Entry::Record(lsn, record) => {
            if state.is_bereft() {
                recall(state, snapshot, &record.fact);
            }
            assert!(!state.is_denied_by(&record.fact), "a stated digest differs at {lsn}");
            state.apply(*lsn, record);
        }
    }
}

/// Has a bereft state remember what the snapshot says of a fact's formula and key.
fn recall(state: &mut State, snapshot: &Snapshot, fact: &Fact) {
    if let Some((fingerprint, lsn)) =
        fact.fingerprint().and_then(|f| snapshot.formulas.get_key_value(f))
    {
        state.recall(*fingerprint, *lsn);
    }
    for (key, spent) in fact.keys().filter_map(|key| snapshot.keys.get_key_value(key)) {
        state.recall_key(*key, *spent);
    }
}

/// All answers of `state`, which rests on `snapshot`, are those of `whole`.
fn compare(whole: &State, state: &State, snapshot: &Snapshot) {
    state.check_invariants();
    assert_eq!(state.base(), snapshot.base());
    assert_eq!(state.digest(), whole.digest(), "digests at record {}", whole.lsn());
    assert_eq!(state.formulas().len(), whole.formulas().len());
    let none = Snapshot::default();
    for make_up in 0..MAKE_UPS {
        let fingerprint = fingerprint(make_up);
        let expected = none.find(whole, &fingerprint);
        assert_eq!(snapshot.find(state, &fingerprint), expected, "make-up {make_up}");
    }
    for name in 0..KEYS {
        let expected = none.find_key(whole, &key(name));
        assert_eq!(snapshot.find_key(state, &key(name)), expected, "key {name}");
    }
    for number in 0..TEXTS {
        let expected = none.find_key(whole, &text(number));
        assert_eq!(snapshot.find_key(state, &text(number)), expected, "text {number}");
    }
    compare_order(whole, state, snapshot);
    compare_queues(whole, state);
    compare_outbound(whole, state);
}

fn compare_outbound(whole: &State, state: &State) {
    assert_eq!(state.calls.running, whole.calls.running);
    assert_eq!(state.calls.ended, whole.calls.ended);
    assert_eq!(state.calls.pace, whole.calls.pace);
    assert_eq!(state.seals.texts, whole.seals.texts);
    assert_eq!(state.hooks.hooks, whole.hooks.hooks);
    assert_eq!(state.hooks.delivered, whole.hooks.delivered);
    assert_eq!(state.hooks.own_secret, whole.hooks.own_secret);
    assert_eq!(state.groups.groups, whole.groups.groups);
    assert_eq!(state.releases.transactions, whole.releases.transactions);
    for event in Event::NAMES.map(|(event, _)| event) {
        assert!(state.hooks.subscribers(event).eq(whole.hooks.subscribers(event)));
    }
}

/// The stored formulas in order, and their trails.
fn compare_order(whole: &State, state: &State, snapshot: &Snapshot) {
    let formulas = state.formulas();
    let below: BTreeSet<Lsn> = snapshot.formulas.values().copied().collect();
    let below = below.into_iter().filter(|lsn| !formulas.is_withdrawn(*lsn));
    let in_order: Vec<Lsn> = below.chain(formulas.after(Lsn::ZERO)).collect();
    assert_eq!(in_order, whole.formulas().after(Lsn::ZERO).collect::<Vec<_>>());
    for lsn in in_order {
        let is_below = formulas.holds(lsn) == Whereabouts::Below;
        assert_eq!(is_below, lsn <= state.base(), "formula {lsn}");
        let trail = match formulas.trail(lsn) {
            untouched if untouched == lsn => *snapshot.trails.get(&lsn).unwrap_or(&lsn),
            touched => touched,
        };
        assert_eq!(trail, whole.formulas().trail(lsn), "trail of formula {lsn}");
    }
}

fn compare_queues(whole: &State, state: &State) {
    let now = whole.at();
    for ((name, expected), (_, found)) in whole.queues().zip(state.queues()) {
        assert_eq!(found.counts(now.uptime), expected.counts(now.uptime), "{name}");
        assert_eq!(found.oldest(), expected.oldest(), "{name}");
        assert_eq!(found.unannounced, expected.unannounced, "{name}");
        for phase in [Phase::Ready, Phase::Leased, Phase::Delayed, Phase::Dead] {
            let peek = |queue: &super::queues::Queue| queue.peek(phase, now, None, usize::MAX);
            assert_eq!(peek(found), peek(expected), "{phase:?} on {name}");
            assert!(peek(found).iter().all(|seen| found.holds(seen.id)), "what is seen is held");
        }
    }
}

/// Whatever a consumer or a repeated request may ask for is among the snapshot's bodies.
fn assert_kept(state: &State, snapshot: &Snapshot, entries: &[Entry]) {
    let is_there = |lsn: Lsn| lsn > snapshot.base() || snapshot.bodies.contains(&lsn);
    for entry in entries {
        let Entry::Record(lsn, record) = entry else { continue };
        let is_on_queue = state.queues().any(|(_, queue)| queue.holds(MessageId(*lsn)));
        // What a transaction is about stands in the state.
        let is_known = state.releases().is_transaction(MessageId(*lsn));
        if is_known || !is_on_queue && !state.hooks().delivered().contains_key(&MessageId(*lsn)) {
            continue;
        }
        assert!(is_there(*lsn), "message {lsn} is on a queue, or can be put back");
        if let Fact::FormulaWithdrawn { formula, .. } = record.fact {
            assert!(is_there(formula), "message {lsn} shows formula {formula}");
        }
    }
    for key in (0..KEYS).map(key).chain((0..TEXTS).map(text)) {
        if let Some(spent) = snapshot.find_key(state, &key)
            && !state.releases().is_transaction(MessageId(spent.lsn))
        {
            assert!(is_there(spent.lsn), "key {key:?} answers with record {}", spent.lsn);
        }
    }
    let stored = snapshot.formulas.values();
    assert!(stored.clone().all(|lsn| is_there(*lsn)), "what is stored has a body");
}

/// A snapshot under way: what it will be once it stands, and whether it will.
struct UnderWay {
    next: Snapshot,
    stands_after: u32,
    succeeds: bool,
}

/// Says which history it was when a test fails in it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Seed(seed) = self;
            eprintln!("seed {seed}: `SILLAGE_SEED={seed}` runs this history alone");
        }
    }
}

/// The histories of a test: these, or the one that is asked for.
fn seeds(all: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let wanted = std::env::var("SILLAGE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    wanted.map_or(all, |seed| seed..seed + 1)
}

/// Runs one history; how many snapshots stood.
fn run(seed: u64, has_losses: bool) -> u32 {
    let _told = Seed(seed);
    let mut history = History::new(seed, has_losses);
    let mut live = State::default();
    let (mut snapshot, mut under_way, mut stood) = (Snapshot::default(), None::<UnderWay>, 0);
    for step in 0..history.random.u32(50..250) {
        for entry in history.step() {
            apply(&mut live, &snapshot, &entry);
        }
        compare(&history.whole, &live, &snapshot);
        under_way = match under_way {
            None if history.random.u8(..12) == 0 => {
                live.freeze();
                let through = history.seal();
                let next = snapshot.next(&history.entries, through);
                let stands_after = step + history.random.u32(..20);
                let succeeds = history.random.u8(..3) > 0;
                Some(UnderWay { next, stands_after, succeeds })
            }
            Some(done) if step >= done.stands_after && done.succeeds => {
                drop(live.rebase(Base::of(done.next.image.as_ref().expect("it has one"))));
                snapshot = done.next;
                stood += 1;
                assert_kept(&live, &snapshot, &history.entries);
                compare(&history.whole, &live, &snapshot);
                None
            }
            Some(failed) if step >= failed.stands_after => {
                live.thaw();
                compare(&history.whole, &live, &snapshot);
                None
            }
            other => other,
        };
        if history.random.u8(..25) == 0 {
            let mut resumed = snapshot.state();
            replay(&mut resumed, &snapshot, &history.entries, Lsn(u64::MAX));
            compare(&history.whole, &resumed, &snapshot);
        }
    }
    stood
}

#[test]
fn resting_on_snapshots_changes_no_answer() {
    let seeds = seeds(0..300);
    let stood: u32 = seeds.clone().map(|seed| run(seed, false)).sum();
    assert!(seeds.end - seeds.start == 1 || stood > 500, "hardly any snapshot stood: {stood}");
}

#[test]
fn resting_on_snapshots_changes_no_answer_behind_accepted_losses() {
    let seeds = seeds(1000..1300);
    let stood: u32 = seeds.clone().map(|seed| run(seed, true)).sum();
    assert!(seeds.end - seeds.start == 1 || stood > 500, "hardly any snapshot stood: {stood}");
}

#[test]
fn behind_a_loss_the_authority_is_left_alone_for_calls_may_be_among_it() {
    for has_called in [false, true] {
        let mut history = History::new(1, false);
        if has_called {
            let (purpose, deadline_ms) = (CallPurpose::Probe, 5);
            history.record(Fact::CallBegun { purpose, deadline_ms });
        }
        history.whole.note_loss(Epoch(2));
        let paused_until = [1, 2, 3].map(|epoch| {
            history.pass_ms(9);
            history.record(Fact::Opened { epoch: Epoch(epoch) });
            history.whole.calls().pace().paused_until.0
        });
        // From the first reign on that knows of the loss.
        let until = if has_called { 18 + LOST_CALLS_PAUSE_MS } else { 0 };
        assert_eq!(paused_until, [0, until, until]);
    }
}

#[test]
fn layers_are_merged_when_snapshot_after_snapshot_comes_to_nothing() {
    let mut history = History::new(5, false);
    let mut live = State::default();
    for _ in 0..3 * STATE_LAYERS_MAX {
        for _ in 0..10 {
            for entry in history.step() {
                apply(&mut live, &Snapshot::default(), &entry);
            }
        }
        live.freeze();
        live.thaw();
        compare(&history.whole, &live, &Snapshot::default());
    }
    live.freeze();
    let through = history.seal();
    let snapshot = Snapshot::default().next(&history.entries, through);
    drop(live.rebase(Base::of(snapshot.image.as_ref().expect("it has one"))));
    compare(&history.whole, &live, &snapshot);
    assert_eq!(live.formulas().after(Lsn::ZERO).count(), 0, "all is in the snapshot");
}

#[test]
#[should_panic(expected = "one snapshot is made at a time")]
fn nothing_is_frozen_twice() {
    let mut state = State::default();
    state.freeze();
    state.freeze();
}

#[test]
fn digests_of_version_1_are_compared_until_a_key_expires() {
    let mut history = History::new(1, false);
    let epoch = Epoch(history.whole.epoch().0 + 1);
    history.record(Fact::Opened { epoch });
    let wrong = Fact::StateHash { digest: history.whole.digest() ^ 1 };
    assert!(history.whole.is_denied_by(&wrong));
    let expires = history.whole.at().uptime.plus_ms(10);
    history.spend_in_batch(0, expires);
    assert!(history.whole.is_denied_by(&wrong));
    history.pass_ms(10);
    history.record(Fact::Opened { epoch: Epoch(epoch.0 + 1) });
    assert!(!history.whole.is_denied_by(&wrong), "it would be the sum without the key");
    assert!(history.whole.is_denied_by(&Fact::Digest { digest: history.whole.digest() ^ 1 }));
    let resumed = State::resume(history.whole.image(history.whole.lsn()));
    assert!(!resumed.is_denied_by(&wrong), "an image remembers that a key expired");
}
