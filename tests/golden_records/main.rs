//! Bytes of every kind of record, as each released version wrote them.
//!
//! Each version has a listing of the kinds that it added. `SILLAGE_BLESS=1 cargo test --test
//! golden_records` writes the one of the present version anew; do that when a kind of record is
//! *added*. A changed line means that stores in the field become unreadable.

mod releases;

use std::fmt::Write;
use std::path::PathBuf;

use sillage::formula::{self, Checked, Rules};
use sillage::ids::{Epoch, Lsn, MessageId, QueueName};
use sillage::record::archive::{self, Archived, EndedRelease, Step, StepKind};
use sillage::record::hooks::{
    CreatedHook, Event, Events, Happening, HookSecret, NamedFormula, OwedDelivery, Recipient,
    SealedBy, Told,
};
use sillage::record::releases::{Action, End, NodeEnd, NodeOutcome};
use sillage::record::seals::{CallPurpose, GivenSeal, RequestedSeal, index_of, text_key};
use sillage::record::{
    AcceptedFormula, Fact, FlowStep, InGroup, ItemOutcome, Record, Selection, SpentKey, Touched,
    codec,
};
use sillage::time::{Moment, Timestamp, Uptime};

use self::releases::facts_of_version_4;

fn golden_file(version: u8) -> PathBuf {
    let file = format!("data/golden/v{version}/records.txt");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn checked() -> Checked {
    let body = br#"{"name": " Soir d'\u00e9t\u00e9 ", "materials": [
        {"name": "Bergamot oil", "concentration": 12.50},
        {"name": "Iso E Super\u00ae", "concentration": "87.5"},
        {"name": "Ros\u00e9", "concentration": 0}]}"#;
    formula::parse(body, &Rules { concentration_max: 100 }).expect("a valid formula")
}

/// Kinds of facts that version 2 added.
fn facts_of_version_2() -> Vec<(&'static str, Fact)> {
    let Checked { formula, fingerprint } = checked();
    let key = SpentKey { key: [0xc3; 32], request: [0xd4; 32], expires: Uptime(1000) };
    let flow = vec![FlowStep::Release];
    let accepted = AcceptedFormula { canon: 1, fingerprint, formula, key: Some(key), flow };
    let accepted_at = Timestamp(1_700_000_000_456);
    vec![
        ("digest", Fact::Digest { digest: u128::MAX - 43 }),
        ("formula-imported", Fact::FormulaImported { accepted, accepted_at }),
    ]
}

fn facts_of_version_1() -> Vec<(&'static str, Fact)> {
    let Checked { formula, fingerprint } = checked();
    let queue = || "formulas".parse::<QueueName>().expect("a queue's name");
    let key = || SpentKey { key: [0xa1; 32], request: [0xb2; 32], expires: Uptime(86_400_000) };
    let messages = || {
        let first = Touched { message: MessageId(Lsn(3)), before: Lsn(3) };
        vec![first, Touched { message: MessageId(Lsn(70_000)), before: Lsn(70_123) }]
    };
    let ids = || vec![MessageId(Lsn(3)), MessageId(Lsn(70_000))];
    let plain = AcceptedFormula { canon: 1, fingerprint, formula, key: None, flow: Vec::new() };
    let flow = vec![FlowStep::Seal, FlowStep::Release];
    let keyed = AcceptedFormula { key: Some(key()), flow, ..plain.clone() };
    let outcomes = vec![
        ItemOutcome::Accepted(InGroup(0)),
        ItemOutcome::Duplicate(Lsn(17)),
        ItemOutcome::Repeats(InGroup(0)),
        ItemOutcome::Invalid(r#"{"status":400}"#.into()),
    ];
    vec![
        ("opened", Fact::Opened { epoch: Epoch(3) }),
        ("formula-accepted", Fact::FormulaAccepted(plain)),
        ("formula-accepted-keyed", Fact::FormulaAccepted(keyed)),
        ("formula-withdrawn", Fact::FormulaWithdrawn { formula: Lsn(300), fingerprint }),
        (
            "batch-answered",
            Fact::BatchAnswered { key: key(), outcomes, preceding: 1, request_id: "r-1".into() },
        ),
        (
            "leased",
            Fact::Leased {
                queue: queue(),
                messages: messages(),
                lease_ms: 30_000,
                attempts_max: 5,
                token: 0x0123_4567_89ab_cdef,
            },
        ),
        ("acked", Fact::Acked { queue: queue(), messages: messages() }),
        (
            "nacked",
            Fact::Nacked {
                queue: queue(),
                messages: messages(),
                delay_ms: 1500,
                reason: "scale offline".into(),
            },
        ),
        ("extended", Fact::Extended { queue: queue(), messages: ids(), lease_ms: 60_000 }),
        ("redriven-all", Fact::Redriven { queue: queue(), which: Selection::All }),
        ("purged-ids", Fact::Purged { queue: queue(), which: Selection::Ids(ids()) }),
        ("state-hash", Fact::StateHash { digest: u128::MAX - 42 }),
    ]
}

/// Kinds of facts that version 3 added: seals and hooks.
fn facts_of_version_3() -> Vec<(&'static str, Fact)> {
    let Checked { formula, fingerprint } = checked();
    let flow = vec![FlowStep::Seal, FlowStep::Release];
    let to_be_sealed = AcceptedFormula { canon: 1, fingerprint, formula, key: None, flow };
    let mut facts =
        vec![("formula-accepted-to-be-sealed", Fact::FormulaAccepted(to_be_sealed.clone()))];
    let accepted_at = Timestamp(1_700_000_000_456);
    let imported = Fact::FormulaImported { accepted: to_be_sealed, accepted_at };
    facts.push(("formula-imported-to-be-sealed", imported));
    facts.extend(facts_of_seals());
    facts.extend(facts_of_dead_letters());
    facts.extend(facts_of_hooks());
    facts.extend(owed_deliveries());
    facts
}

fn key_of_version_3() -> SpentKey {
    SpentKey { key: [0xe5; 32], request: [0xf6; 32], expires: Uptime(86_400_000) }
}

fn touched() -> Touched {
    Touched { message: MessageId(Lsn(70_000)), before: Lsn(70_123) }
}

fn facts_of_seals() -> Vec<(&'static str, Fact)> {
    let (text, text_key) = ("Soir d'\u{e9}t\u{e9}", text_key("Soir d'\u{e9}t\u{e9}"));
    let request = RequestedSeal {
        text: text.into(),
        text_key,
        webhook_url: None,
        key: None,
        position: 0,
        eta_s: 0,
        sealed: Some(Lsn(300)),
    };
    let waiting = RequestedSeal {
        webhook_url: Some("https://h.example/x?y=1".into()),
        key: Some(key_of_version_3()),
        position: 17,
        eta_s: 102,
        sealed: None,
        ..request.clone()
    };
    let given = GivenSeal {
        message: touched(),
        shared: vec![MessageId(Lsn(3)), MessageId(Lsn(70_001))],
        inline: vec![MessageId(Lsn(3))],
        signature: "c2lnbmF0dXJl".into(),
        index: index_of(text_key),
    };
    let begun = |purpose| Fact::CallBegun { purpose, deadline_ms: 10_000 };
    vec![
        ("seal-requested-known", Fact::SealRequested(request)),
        ("seal-requested", Fact::SealRequested(waiting)),
        ("call-begun-fresh", begun(CallPurpose::Fresh(MessageId(Lsn(70_000))))),
        ("call-begun-retried", begun(CallPurpose::Retried(MessageId(Lsn(3))))),
        ("call-begun-verify", begun(CallPurpose::Verify)),
        ("call-begun-probe", begun(CallPurpose::Probe)),
        ("call-ended", Fact::CallEnded { call: Lsn(70_124), pause_ms: 60_000 }),
        ("sealed", Fact::Sealed(given)),
    ]
}

fn facts_of_dead_letters() -> Vec<(&'static str, Fact)> {
    let queue = || "seals".parse::<QueueName>().expect("a queue's name");
    let messages = || vec![touched()];
    let reason = "400 from the authority".into();
    let told = vec![MessageId(Lsn(3)), MessageId(Lsn(70_000))];
    vec![
        ("deferred", Fact::Deferred { queue: queue(), messages: messages(), delay_ms: 2500 }),
        ("condemned", Fact::Condemned { queue: queue(), messages: messages(), reason }),
        ("deaths-announced", Fact::DeathsAnnounced { queue: queue(), messages: told }),
    ]
}

fn facts_of_hooks() -> Vec<(&'static str, Fact)> {
    let secret = |byte| HookSecret([byte; 24].into());
    let mut events = Events::default();
    events.add(Event::FormulaSealed);
    events.add(Event::DiskLow);
    let (url, key) = ("https://h.example/all".into(), Some(key_of_version_3()));
    let created = CreatedHook { url, events, secret: secret(0x11), key };
    let about = Told { formula: touched(), event: Event::FormulaSealed, hook: Lsn(300) };
    let delivery = MessageId(Lsn(70_200));
    let delivered = |about, status| Fact::HookDelivered { delivery, about, status, took_ms: 321 };
    vec![
        ("hook-created", Fact::HookCreated(created)),
        ("hook-deleted", Fact::HookDeleted { hook: Lsn(300) }),
        ("hook-disabled", Fact::HookDisabled { hook: Lsn(300), reason: "410 Gone".into() }),
        (
            "hook-secret-changed",
            Fact::HookSecretChanged {
                hook: Lsn(300),
                secret: secret(0x22),
                overlap_ms: 86_400_000,
            },
        ),
        ("own-secret-made", Fact::OwnSecretMade { secret: secret(0x33) }),
        ("hook-delivered", delivered(None, 204)),
        ("hook-delivered-of-a-formula", delivered(Some(about), 200)),
        ("hook-redelivered", Fact::HookRedelivered { delivery }),
    ]
}

fn owed_deliveries() -> Vec<(&'static str, Fact)> {
    let (formula, seq) = (checked().fingerprint, Lsn(70_000));
    let queue = || "formulas".parse::<QueueName>().expect("a queue's name");
    let (message, attempts, reason) = (MessageId(Lsn(3)), 5, || "scale offline".into());
    let named = NamedFormula { fingerprint: formula, name: "Soir d'\u{e9}t\u{e9}".into() };
    let owed = |to, happening| {
        Fact::HookOwed(OwedDelivery { to, happening, token: 0x0123_4567_89ab_cdef })
    };
    let hook = |happening| owed(Recipient::Hook(Lsn(300)), happening);
    let request = |sealed| owed(Recipient::SealRequest(seq), Happening::SealAnswered { sealed });
    let signature = "c2lnbmF0dXJl".into();
    let held = Happening::FormulaHeld { formula, seq, queue: queue(), reason: reason() };
    let dead = Happening::MessageDead { queue: queue(), message, attempts, reason: reason() };
    vec![
        ("owed-formula-accepted", hook(Happening::FormulaAccepted { formula: named, back: 2 })),
        ("owed-formula-withdrawn", hook(Happening::FormulaWithdrawn { formula, seq })),
        ("owed-formula-sealed", hook(Happening::FormulaSealed { formula, seq, signature })),
        ("owed-formula-held", hook(held)),
        ("owed-seal-failed", hook(Happening::SealFailed { message, attempts, reason: reason() })),
        ("owed-message-dead", hook(dead)),
        ("owed-seal", request(Some(SealedBy::Back(3)))),
        ("owed-seal-of-before", request(Some(SealedBy::Record(Lsn(70_123))))),
        ("owed-failure", request(None)),
        ("owed-disk-low", hook(Happening::DiskLow { free_bytes: 1 << 27, low_bytes: 1 << 28 })),
        ("owed-ping", hook(Happening::Ping)),
    ]
}

fn records(facts: Vec<(&'static str, Fact)>) -> Vec<(&'static str, Record)> {
    let at = Moment { wall: Timestamp(1_795_000_000_123), uptime: Uptime(86_400_000) };
    facts.into_iter().map(|(name, fact)| (name, Record { at, fact })).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "whole bytes");
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

fn written(records: &[(&'static str, Record)]) -> String {
    let mut written = String::new();
    for (name, record) in records {
        let mut bytes = Vec::new();
        codec::encode(record, &mut bytes);
        writeln!(written, "{name} {}", hex(&bytes)).expect("writing to a string cannot fail");
    }
    written
}

/// Written by no program of versions 1 to 3, since none took such a flow: a formula that is to be
/// released is of version 4, lest a program before accepts it and does not put it on the queue
/// `releases`. Its bytes behind the version stay readable.
const NOW_OF_VERSION_4: [(&str, &str); 5] = [
    ("formula-accepted-keyed 01", "formula-accepted-keyed 04"),
    ("formula-imported 02", "formula-imported 04"),
    ("formula-accepted-to-be-sealed 03", "formula-accepted-to-be-sealed 04"),
    ("formula-imported-to-be-sealed 03", "formula-imported-to-be-sealed 04"),
    // The same within an archived record.
    ("-with-steps 027200000003", "-with-steps 027200000004"),
];

fn as_written_now(golden: &str) -> String {
    let now = |golden: String, (then, now): &(&str, &str)| golden.replace(then, now);
    NOW_OF_VERSION_4.iter().fold(golden.to_owned(), now)
}

fn assert_golden(version: u8, records: &[(&'static str, Record)]) {
    let golden = std::fs::read_to_string(golden_file(version)).expect("the golden file is there");
    assert_eq!(written(records), as_written_now(&golden), "stored bytes have changed");
    for (line, (name, record)) in golden.lines().zip(records) {
        let bytes = unhex(line.split_once(' ').expect("name and bytes").1);
        assert_eq!(bytes[0], version, "{name} says which version it takes to read it");
        assert_eq!(codec::decode(&bytes).expect(name), *record, "{name}");
    }
}

#[test]
fn every_kind_of_record_has_the_bytes_of_version_1_and_reads_back() {
    assert_golden(1, &records(facts_of_version_1()));
}

#[test]
fn what_version_2_added_has_its_bytes_and_reads_back() {
    assert_golden(2, &records(facts_of_version_2()));
}

#[test]
fn what_version_3_added_has_its_bytes_and_reads_back() {
    assert_golden(3, &records(facts_of_version_3()));
}

#[test]
fn what_version_4_added_has_its_bytes_and_reads_back() {
    let records = records(facts_of_version_4());
    if std::env::var_os("SILLAGE_BLESS").is_some() {
        std::fs::write(golden_file(4), written(&records)).expect("the golden file is writable");
    }
    assert_golden(4, &records);
}

#[test]
fn a_program_of_version_3_could_read_what_has_nothing_to_do_with_releases() {
    let older = [facts_of_version_1(), facts_of_version_2(), facts_of_version_3()].concat();
    for (name, record) in records(older) {
        let mut bytes = Vec::new();
        codec::encode(&record, &mut bytes);
        assert!(bytes[0] <= 3 || is_to_be_released(name), "{name}");
    }
}

#[test]
fn a_program_of_version_2_could_read_what_has_nothing_to_do_with_seals_and_hooks() {
    let older = [facts_of_version_1(), facts_of_version_2()].concat();
    for (name, record) in records(older) {
        let mut bytes = Vec::new();
        codec::encode(&record, &mut bytes);
        assert!(bytes[0] <= 2 || is_to_be_released(name), "{name}");
    }
}

/// These have a step in their flow that programs before know nothing of.
fn is_to_be_released(name: &str) -> bool {
    NOW_OF_VERSION_4.iter().any(|(then, _)| then.split(' ').next() == Some(name))
}

/// What a snapshot keeps of a record: version, length, the payload as above, the steps.
#[test]
fn archived_records_have_the_bytes_of_their_version_1_and_read_back() {
    let queue = || "formulas".parse::<QueueName>().expect("a queue's name");
    let step = |lsn, kind| Step { at: Timestamp(1_795_000_000_123), lsn: Lsn(lsn), kind };
    let steps = [
        step(70_001, StepKind::Leased(queue())),
        step(70_123, StepKind::Nacked(queue(), "scale offline".into())),
        step(70_200, StepKind::Acked(queue())),
    ];
    let mut records = records(facts_of_version_1());
    records.retain(|(name, _)| {
        ["formula-accepted-keyed", "formula-withdrawn", "batch-answered"].contains(name)
    });
    let stored = std::fs::read_to_string(golden_file(1)).expect("the golden file is there");
    let mut written = String::new();
    for (name, _) in &records {
        let (mut plain, mut stepped) = (Vec::new(), Vec::new());
        // As they stood in the log.
        let line = stored.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let payload = unhex(line.expect("it is listed"));
        archive::encode(&payload, &[], &mut plain);
        archive::encode(&payload, &steps, &mut stepped);
        let (plain, stepped) = (hex(&plain), hex(&stepped));
        writeln!(written, "{name} {plain}\n{name}-with-steps {stepped}").expect("a string");
    }
    let file = golden_file(2).with_file_name("archived.txt");
    let golden = std::fs::read_to_string(&file).expect("the golden file is there");
    assert_eq!(written, golden, "stored bytes have changed");
    for (at, line) in golden.lines().enumerate() {
        let bytes = unhex(line.split_once(' ').expect("name and bytes").1);
        let archived = Archived::split(&bytes).expect("whole");
        assert_eq!(codec::decode(archived.payload).expect("a record"), records[at / 2].1);
        let expected: &[Step] = if at % 2 == 0 { &[] } else { &steps };
        assert_eq!(archived.steps().expect("whole"), expected);
    }
}

/// Where one of these steps is, the record is of version 3; the others stay as they were.
#[test]
fn archived_records_with_ends_of_releases_have_the_bytes_of_version_3() {
    let step = |lsn, kind| Step { at: Timestamp(1_795_000_000_123), lsn: Lsn(lsn), kind };
    let node = |url: &str, outcome| NodeEnd { url: url.into(), outcome };
    let ended = |action, end, reason: &str, outcomes: [NodeOutcome; 2]| {
        let [first, second] = outcomes;
        let nodes = vec![node("http://127.0.0.1:5000", first), node("https://b.example", second)];
        let (transaction, reason) = (Lsn(70_400), reason.into());
        StepKind::ReleaseEnded(Box::new(EndedRelease { transaction, action, end, reason, nodes }))
    };
    use NodeOutcome::{Already, Done, Refused, Undone, Unknown};
    let steps = [
        step(70_300, StepKind::Sealed),
        step(70_450, ended(Action::Create, End::Failed, "b: timed out", [Done, Unknown])),
        step(70_460, ended(Action::Create, End::RolledBack, "b: answered 403", [Undone, Refused])),
        step(70_470, ended(Action::Create, End::Succeeded, "", [Done, Already])),
        step(70_480, ended(Action::Delete, End::Succeeded, "", [Done, Done])),
    ];
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    codec::encode(&records(facts_of_version_1())[2].1, &mut payload);
    archive::encode(&payload, &steps, &mut bytes);
    let file = golden_file(4).with_file_name("archived.txt");
    let written = format!("formula-accepted-to-be-released-with-steps {}\n", hex(&bytes));
    if std::env::var_os("SILLAGE_BLESS").is_some() {
        std::fs::write(&file, &written).expect("the golden file is writable");
    }
    let golden = std::fs::read_to_string(&file).expect("the golden file is there");
    assert_eq!(written, golden, "stored bytes have changed");
    let archived = Archived::split(&bytes).expect("whole");
    assert_eq!((bytes[0], archived.steps().expect("whole")), (3, steps.to_vec()));
    // Whatever is cut off or added, it is noticed.
    for len in 0..bytes.len() {
        let read = Archived::split(&bytes[..len]).and_then(|archived| archived.steps());
        assert!(read.is_err() || len == payload.len() + 5, "cut at {len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(Archived::split(&longer).and_then(|archived| archived.steps()).is_err());
    for (kept, version) in [(0..1, 2), (1..2, 3), (4..5, 3)] {
        let mut bytes = Vec::new();
        archive::encode(&payload, &steps[kept.clone()], &mut bytes);
        assert_eq!(bytes[0], version, "{kept:?}");
    }
}

/// Steps of which version 1 does not know; without any of them the bytes are still of version 1.
#[test]
fn archived_records_with_steps_of_seals_and_hooks_have_the_bytes_of_version_2() {
    let queue = || "seals".parse::<QueueName>().expect("a queue's name");
    let step = |lsn, kind| Step { at: Timestamp(1_795_000_000_123), lsn: Lsn(lsn), kind };
    let steps = [
        step(70_001, StepKind::Leased(queue())),
        step(70_123, StepKind::Deferred(queue())),
        step(70_200, StepKind::Condemned(queue(), "400 from the authority".into())),
        step(70_300, StepKind::Sealed),
        step(70_301, StepKind::Told { event: Event::FormulaSealed, hook: Lsn(300) }),
    ];
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    codec::encode(&records(facts_of_version_3())[0].1, &mut payload);
    archive::encode(&payload, &steps, &mut bytes);
    let file = golden_file(3).with_file_name("archived.txt");
    let written = format!("formula-accepted-to-be-sealed-with-steps {}\n", hex(&bytes));
    let golden = std::fs::read_to_string(&file).expect("the golden file is there");
    assert_eq!(written, as_written_now(&golden), "stored bytes have changed");
    let archived = Archived::split(&bytes).expect("whole");
    assert_eq!((bytes[0], archived.steps().expect("whole")), (2, steps.to_vec()));
    for kept in [0..1, 1..2, 2..3, 3..4, 4..5] {
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        archive::encode(&payload, &steps[kept.clone()], &mut bytes);
        assert_eq!(bytes[0], if kept.start == 0 { 1 } else { 2 }, "{kept:?}");
        archive::encode_again(&Archived::split(&bytes).expect("whole"), &mut again);
        assert_eq!(again, bytes, "{kept:?}");
    }
}

#[test]
fn secrets_are_not_shown_by_debug() {
    for (name, fact) in facts_of_version_3() {
        let text = format!("{fact:?}");
        assert!(!text.contains("17, 17") && !text.contains("34, 34"), "{name}: {text}");
        assert!(!text.contains("51, 51"), "{name}: {text}");
    }
}

#[test]
fn cut_changed_and_hostile_bytes_are_errors_and_never_panic() {
    let facts = [facts_of_version_1(), facts_of_version_2(), facts_of_version_3()].concat();
    for (name, record) in records(facts) {
        let mut bytes = Vec::new();
        codec::encode(&record, &mut bytes);
        for len in 0..bytes.len() {
            assert!(codec::decode(&bytes[..len]).is_err(), "{name} cut to {len} bytes");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(codec::decode(&longer).is_err(), "{name} with a byte too many");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // What still decodes is at most another record, never a panic or endless memory.
                // The version, byte 0, says who can read it, and nothing of what it is.
                if let Ok(other) = codec::decode(&flipped) {
                    let is_same = other == record && at > 0;
                    assert!(!is_same, "{name}: byte {at} bit {bit} plays no part");
                }
            }
        }
    }
    let endless_length = [1, 0, 0, 1, 1, 253, 255, 255, 255, 255, 255, 255, 255, 255];
    assert!(codec::decode(&endless_length).is_err());
    assert!(codec::decode(&[5, 0, 0, 0, 1]).is_err(), "a newer version is refused");
    assert!(codec::decode(&[0, 0, 0, 0, 1]).is_err(), "there is no version 0");
}
