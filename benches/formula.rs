//! What one POST costs in the module `formula`. Resource: one core; nothing here waits.
//!
//! Expectation, for the body below (427 bytes, 8 materials) at about 3 GHz:
//! - UTF-8 check and one pass over the tokens: 427 bytes at about 1 ns → 0.4 µs;
//! - names: trim, look for control characters, key: 131 bytes at three times 0.5 ns → 0.2 µs;
//! - six allocations with their frees at 20 ns → 0.15 µs;
//! - SHA-256 over 278 bytes: 5 blocks of 64 at 50 ns with the SHA instructions → 0.25 µs.
//!
//! So about 1 µs for `parse`, which includes the fingerprint; the target is at most 2.5 µs.
//! Measured, least of eight runs: 1.5 µs. A profile gives 48 % to reader and parser and 11 % to
//! SHA-256. A name that is not ASCII adds about 0.8 µs.
//!
//! `cargo bench --bench formula`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sillage::formula::{Rules, canonical_lines, fingerprint, name_key, parse};

/// A formula of the usual size: 8 materials, ASCII names, two of them with blanks to drop.
const BODY: &str = concat!(
    r#"{"name":"Summer Breeze","materials":["#,
    r#"{"name":"Bergamot Oil","concentration":15.5},"#,
    r#"{"name":"Hedione","concentration":22.75},"#,
    r#"{"name":"Iso E Super","concentration":18.25},"#,
    r#"{"name":"Linalyl Acetate","concentration":7.125},"#,
    r#"{"name":"Ethylene Brassylate","concentration":12},"#,
    r#"{"name":"Ambroxan 10% in DPG","concentration":4.375},"#,
    r#"{"name":"Lavender absolute","concentration":0.0625},"#,
    r#"{"name":"Dipropylene Glycol","concentration":19.9375}]}"#,
);

fn formula(criterion: &mut Criterion) {
    let rules = Rules::default();
    let checked = parse(BODY.as_bytes(), &rules).expect("the body is a valid formula");
    let marked = BODY.replace("Hedione", "Hédione®").replace("Lavender", "Lavande α");
    let invalid = BODY.replace("15.5", "-15.5").replace("\"concentration\":12", "\"unit\":12");
    assert!(parse(invalid.as_bytes(), &rules).is_err(), "the body has three faults");

    let mut group = criterion.benchmark_group("formula");
    group.throughput(Throughput::Bytes(BODY.len() as u64));
    group.bench_function("parse", |b| b.iter(|| parse(black_box(BODY.as_bytes()), &rules)));
    group.bench_function("parse_two_unicode_names", |b| {
        b.iter(|| parse(black_box(marked.as_bytes()), &rules));
    });
    group.bench_function("parse_three_faults", |b| {
        b.iter(|| parse(black_box(invalid.as_bytes()), &rules));
    });
    group.bench_function("fingerprint", |b| b.iter(|| fingerprint(black_box(&checked.formula))));
    group.bench_function("canonical_lines", |b| {
        b.iter(|| canonical_lines(black_box(&checked.formula)));
    });
    group.bench_function("name_key", |b| b.iter(|| name_key(black_box("Ethylene Brassylate"))));
    group.bench_function("fingerprint_to_text", |b| {
        b.iter(|| black_box(checked.fingerprint).to_string());
    });
    group.finish();
}

criterion_group!(benches, formula);
criterion_main!(benches);
