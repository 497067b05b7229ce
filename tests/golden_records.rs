//! Bytes of every kind of record, as each released version wrote them.
//!
//! Each version has a listing of the kinds that it added. `SILLAGE_BLESS=1 cargo test --test
//! golden_records` writes the one of the present version anew; do that when a kind of record is
//! *added*. A changed line means that stores in the field become unreadable.

use std::fmt::Write;
use std::path::PathBuf;

use sillage::formula::{self, Checked, Rules};
use sillage::ids::{Epoch, Lsn, MessageId, QueueName};
use sillage::record::archive::{self, Archived, Step, StepKind};
use sillage::record::{
    AcceptedFormula, Fact, FlowStep, InGroup, ItemOutcome, Record, Selection, SpentKey, Touched,
    codec,
};
use sillage::time::{Moment, Timestamp, Uptime};

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

fn assert_golden(version: u8, records: &[(&'static str, Record)]) {
    let golden = std::fs::read_to_string(golden_file(version)).expect("the golden file is there");
    assert_eq!(written(records), golden, "stored bytes have changed");
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
    let records = records(facts_of_version_2());
    if std::env::var_os("SILLAGE_BLESS").is_some() {
        std::fs::write(golden_file(2), written(&records)).expect("the golden file is writable");
    }
    assert_golden(2, &records);
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
    let mut written = String::new();
    for (name, record) in &records {
        let (mut payload, mut plain, mut stepped) = (Vec::new(), Vec::new(), Vec::new());
        codec::encode(record, &mut payload);
        archive::encode(&payload, &[], &mut plain);
        archive::encode(&payload, &steps, &mut stepped);
        let (plain, stepped) = (hex(&plain), hex(&stepped));
        writeln!(written, "{name} {plain}\n{name}-with-steps {stepped}").expect("a string");
    }
    let file = golden_file(2).with_file_name("archived.txt");
    if std::env::var_os("SILLAGE_BLESS").is_some() {
        std::fs::write(&file, &written).expect("the golden file is writable");
    }
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

#[test]
fn cut_changed_and_hostile_bytes_are_errors_and_never_panic() {
    let facts = [facts_of_version_1(), facts_of_version_2()].concat();
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
                if let Ok(other) = codec::decode(&flipped) {
                    assert_ne!(other, record, "{name}: byte {at} bit {bit} plays no part");
                }
            }
        }
    }
    let endless_length = [1, 0, 0, 1, 1, 253, 255, 255, 255, 255, 255, 255, 255, 255];
    assert!(codec::decode(&endless_length).is_err());
    assert!(codec::decode(&[3, 0, 0, 0, 1]).is_err(), "a newer version is refused");
    assert!(codec::decode(&[0, 0, 0, 0, 1]).is_err(), "there is no version 0");
}
