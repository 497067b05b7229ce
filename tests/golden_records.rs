//! Bytes of every kind of record, as each released version wrote them.
//!
//! `SILLAGE_BLESS=1 cargo test --test golden_records` writes the file of the present version
//! anew. Do that when a kind of record is *added*. A changed line means that stores in the field
//! become unreadable.

use std::fmt::Write;
use std::path::PathBuf;

use sillage::formula::{self, Checked, Rules};
use sillage::ids::{Epoch, Lsn, MessageId, QueueName};
use sillage::record::{
    AcceptedFormula, Fact, FlowStep, InGroup, ItemOutcome, Record, Selection, SpentKey, Touched,
    codec,
};
use sillage::time::{Moment, Timestamp, Uptime};

fn golden_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden/v1/records.txt")
}

fn checked() -> Checked {
    let body = br#"{"name": " Soir d'\u00e9t\u00e9 ", "materials": [
        {"name": "Bergamot oil", "concentration": 12.50},
        {"name": "Iso E Super\u00ae", "concentration": "87.5"},
        {"name": "Ros\u00e9", "concentration": 0}]}"#;
    formula::parse(body, &Rules { concentration_max: 100 }).expect("a valid formula")
}

fn facts() -> Vec<(&'static str, Fact)> {
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

fn records() -> Vec<(&'static str, Record)> {
    let at = Moment { wall: Timestamp(1_795_000_000_123), uptime: Uptime(86_400_000) };
    facts().into_iter().map(|(name, fact)| (name, Record { at, fact })).collect()
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

#[test]
fn every_kind_of_record_has_the_bytes_of_version_1_and_reads_back() {
    let mut written = String::new();
    for (name, record) in records() {
        let mut bytes = Vec::new();
        codec::encode(&record, &mut bytes);
        writeln!(written, "{name} {}", hex(&bytes)).expect("writing to a string cannot fail");
    }
    if std::env::var_os("SILLAGE_BLESS").is_some() {
        std::fs::write(golden_file(), &written).expect("the golden file is writable");
    }
    let golden = std::fs::read_to_string(golden_file()).expect("the golden file is there");
    assert_eq!(written, golden, "stored bytes have changed");
    for (line, (name, record)) in golden.lines().zip(records()) {
        let bytes = unhex(line.split_once(' ').expect("name and bytes").1);
        assert_eq!(codec::decode(&bytes).expect(name), record, "{name}");
    }
}

#[test]
fn cut_changed_and_hostile_bytes_are_errors_and_never_panic() {
    for (name, record) in records() {
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
    assert!(codec::decode(&[2, 0, 0, 0, 1]).is_err(), "a newer version is refused");
}
