//! Images as bytes: golden, hostile, and large.

mod groups;
mod outbound;
mod partners;

use std::fmt::Write;
use std::path::PathBuf;

use super::*;
use crate::record::{Fact, Record, Selection, SpentKey, Touched};
use crate::state::State;
use crate::time::{Timestamp, Uptime};

/// Bytes that version 1 wrote. `SILLAGE_BLESS=1 cargo test --lib image` writes golden bytes anew:
/// only while the version is not released.
const GOLDEN: &str = "data/golden/v2/image.txt";

/// A state with something in every list of its image.
fn state() -> State {
    let mut state = State::default();
    let mut apply = |ms: u64, fact: Fact| {
        let at = Moment { wall: Timestamp(1_790_000_000_000 + ms), uptime: Uptime(ms) };
        state.apply(state.lsn().next(), &Record { at, fact });
    };
    apply(0, Fact::Opened { epoch: Epoch(1) });
    for make_up in 0..8_u8 {
        apply(1, accepted(make_up));
    }
    let lease = |ids: &[u64], attempts_max, token| Fact::Leased {
        queue: formulas(),
        messages: touched(ids),
        lease_ms: 1000,
        attempts_max,
        token,
    };
    apply(2, lease(&[2], 1, 7));
    apply(2, lease(&[3, 4, 5, 6], 5, 8));
    apply(3, nacked(&[2], 0));
    apply(4, nacked(&[3], 500));
    apply(5, nacked(&[4], 0));
    apply(6, Fact::Acked { queue: formulas(), messages: touched(&[5]) });
    apply(7, Fact::FormulaWithdrawn { formula: Lsn(6), fingerprint: fingerprint(4) });
    apply(8, Fact::FormulaWithdrawn { formula: Lsn(9), fingerprint: fingerprint(7) });
    apply(8, Fact::Redriven { queue: formulas(), which: Selection::Ids(Vec::new()) });
    state.note_loss(Epoch(9));
    state.check_invariants();
    state
}

fn accepted(make_up: u8) -> Fact {
    let body = br#"{"name": "n", "materials": [{"name": "m", "concentration": 1}]}"#;
    let rules = crate::formula::Rules { concentration_max: 100 };
    let formula = crate::formula::parse(body, &rules).expect("valid").formula;
    let bytes = [make_up; 32];
    let expires = Uptime(10 * (u64::from(make_up) + 1));
    let key = make_up.is_multiple_of(3).then_some(SpentKey { key: bytes, request: bytes, expires });
    let (fingerprint, flow) = (fingerprint(make_up), Vec::new());
    let accepted = crate::record::AcceptedFormula { canon: 1, fingerprint, formula, key, flow };
    Fact::FormulaAccepted(accepted)
}

fn fingerprint(make_up: u8) -> crate::formula::Fingerprint {
    crate::formula::Fingerprint([make_up; 32])
}

fn nacked(ids: &[u64], delay_ms: u64) -> Fact {
    Fact::Nacked { queue: formulas(), messages: touched(ids), delay_ms, reason: "why".into() }
}

fn formulas() -> QueueName {
    QueueName::FORMULAS.parse().expect("well formed")
}

fn touched(ids: &[u64]) -> Vec<Touched> {
    ids.iter().map(|&id| Touched { message: MessageId(Lsn(id)), before: Lsn(id) }).collect()
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.image(Lsn(state.lsn().0 + 1)).encode(&mut bytes);
    bytes
}

fn assert_golden(file: &str, bytes: &[u8]) {
    let text = bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    });
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    #[allow(clippy::disallowed_methods, reason = "golden bytes are a file")]
    let expected = {
        if std::env::var_os("SILLAGE_BLESS").is_some() {
            std::fs::write(&golden, format!("{text}\n")).expect("the golden file is writable");
        }
        std::fs::read_to_string(&golden).expect("the golden file is there")
    };
    assert_eq!(format!("{text}\n"), expected, "stored bytes have changed");
}

#[test]
fn an_image_has_the_bytes_of_version_1_and_reads_back_as_the_same_state() {
    let state = state();
    let bytes = encoded(&state);
    assert_golden(GOLDEN, &bytes);
    let image = Image::decode(&bytes).expect("what was encoded decodes");
    assert_eq!((image.lsn(), image.base()), (state.lsn(), state.lsn().next()));
    assert_eq!(image.formula_count(), state.formulas().len());
    let resumed = State::resume(image);
    resumed.check_invariants();
    assert_eq!(resumed.digest(), state.digest());
    assert_eq!(resumed.formulas().withdrawn(), state.formulas().withdrawn());
    assert_eq!(resumed.keys().latest_expiry(), state.keys().latest_expiry());
    assert!(resumed.is_bereft());
    assert_eq!(encoded(&resumed), bytes, "and as the same bytes");
}

#[test]
fn cut_lengthened_and_flipped_bytes_are_errors_or_another_image_and_never_a_panic() {
    let bytes = encoded(&state());
    for len in 0..bytes.len() {
        assert!(Image::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    assert!(Image::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "a byte too many");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(image) = Image::decode(&flipped) {
            assert!(State::resume(image).lsn() > Lsn::ZERO, "bit {bit}");
        }
    }
    assert!(matches!(Image::decode(&[9, 0]), Err(ImageError::Newer { version: 9 })));
}

#[test]
fn a_length_without_bytes_is_an_error_and_takes_no_memory() {
    let mut head = Head {
        lsn: Lsn(9),
        at: Moment::default(),
        epoch: Epoch(1),
        records_since_hash: 0,
        bereft_until: None,
        base: Lsn(9),
        formula_count: u64::MAX,
        formula_digest: 0,
        keys: KeyTotals::default(),
        pins: u64::MAX,
        queues: 0,
    };
    let mut bytes = vec![VERSION];
    put(&mut bytes, &head);
    assert!(matches!(Image::decode(&bytes), Err(ImageError::Undecodable(_))));
    (head.pins, head.queues) = (0, 1);
    bytes.truncate(1);
    put(&mut bytes, &head);
    let (name, many) = (formulas(), u64::MAX);
    let queue =
        QueueHead { name, fresh_parts: 1, returned: many, leased: many, delayed: many, dead: many };
    put(&mut bytes, &queue);
    put(&mut bytes, &(0_u32, u64::MAX));
    assert!(matches!(Image::decode(&bytes), Err(ImageError::NotASet(_))));
}

#[test]
fn an_entry_that_stands_twice_or_beyond_the_end_is_a_contradiction() {
    let mut image = state().image(Lsn(99));
    let queue = image.queues.get_mut(QueueName::FORMULAS).expect("built in");
    let dead = *queue.dead.keys().next().expect("one is dead");
    queue.ready.fresh.insert(dead.0);
    let mut bytes = Vec::new();
    image.encode(&mut bytes);
    let decoded = Image::decode(&bytes);
    assert!(matches!(decoded, Err(ImageError::Contradiction { lsn }) if lsn == dead.0));
    let queue = image.queues.get_mut(QueueName::FORMULAS).expect("built in");
    queue.ready.fresh.remove(dead.0);
    queue.ready.fresh.insert(Lsn(1_000_000));
    bytes.clear();
    image.encode(&mut bytes);
    let decoded = Image::decode(&bytes);
    assert!(matches!(decoded, Err(ImageError::Contradiction { lsn: Lsn(1_000_000) })));
}

#[test]
fn ten_million_ready_messages_take_little_room() {
    let mut state = State::default();
    let queue = state.queues.get_mut(QueueName::FORMULAS).expect("built in");
    // Every fifth LSN is something else, so there are no long runs.
    let ids = (1..=12_500_000_u64).filter(|lsn| !lsn.is_multiple_of(5));
    ids.for_each(|lsn| queue.put(MessageId(Lsn(lsn))));
    assert_eq!(queue.ready.len(), 10_000_000);
    state.lsn = Lsn(12_500_000);
    let bytes = encoded(&state);
    assert!(bytes.len() < 2_000_000, "{} bytes, 1.6 MB of them a bit per LSN", bytes.len());
    let resumed = State::resume(Image::decode(&bytes).expect("what was encoded decodes"));
    assert_eq!(resumed.digest(), state.digest());
}
