//! Real formulas and real material names, as people and vendors write them.
//!
//! The data belongs to third parties and is not part of the repository. It is looked for in
//! `SILLAGE_SHARED_DATA`, else in `../shared/data`; where it is missing, the tests say so and
//! pass. Counts and digests were computed from the same files with
//! `data/golden/v1/fingerprints.py`, so they also hold canon 1 against its second implementation.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sillage::formula::{
    Checked, Fingerprint, Rules, canonical_lines, fingerprint, name_key, parse,
};

/// The text of a file of the data, if it is there.
fn shared(name: &str) -> Option<String> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("SILLAGE_SHARED_DATA").map_or(beside, PathBuf::from);
    let text = fs::read_to_string(folder.join(name));
    text.inspect_err(|error| eprintln!("skipped: {name} cannot be read: {error}")).ok()
}

/// What serde_json makes of a formula, its numbers left as text.
#[derive(Deserialize)]
struct Sent<'a> {
    name: String,
    #[serde(borrow)]
    materials: Vec<SentLine<'a>>,
}

#[derive(Deserialize)]
struct SentLine<'a> {
    name: String,
    #[serde(borrow)]
    concentration: &'a RawValue,
}

/// Asserts that nothing was changed but blanks around names.
fn assert_kept(checked: &Checked, line: &str) {
    let sent: Sent<'_> = serde_json::from_str(line).expect("the line is JSON");
    assert_eq!(checked.formula.name(), sent.name.trim());
    assert_eq!(checked.formula.materials().len(), sent.materials.len());
    for (material, sent) in checked.formula.materials().zip(&sent.materials) {
        assert_eq!(material.name, sent.name.trim());
        assert_eq!(material.concentration, sent.concentration.get());
    }
}

#[test]
fn real_formulas_are_accepted_as_sent_and_are_all_different() {
    let Some(text) = shared("formulas-real.jsonl") else { return };
    let mut digest = Sha256::new();
    let mut seen: HashSet<Fingerprint> = HashSet::new();
    for line in text.lines() {
        let checked = parse(line.as_bytes(), &Rules::default()).expect(line);
        assert_kept(&checked, line);
        assert_eq!(fingerprint(&checked.formula), checked.fingerprint);
        assert!(seen.insert(checked.fingerprint), "stands there twice: {line}");
        digest.update(checked.fingerprint.0);
    }
    assert_eq!(seen.len(), 796);
    let all = Fingerprint(digest.finalize().into()).to_string();
    assert_eq!(all, "19e23e19c35b964af91520cd3a775a1e74b0ef1c823d38901140502df3ae3361");
}

#[test]
fn real_formulas_are_the_same_in_canonical_spelling_and_any_order() {
    let Some(text) = shared("formulas-real.jsonl") else { return };
    for line in text.lines() {
        let checked = parse(line.as_bytes(), &Rules::default()).expect(line);
        let lines = canonical_lines(&checked.formula).into_iter().rev().map(|(key, value)| {
            let key = serde_json::to_string(&key).unwrap();
            format!(r#"{{"concentration":"{value}","name":{key}}}"#)
        });
        let lines: Vec<String> = lines.collect();
        let body = format!(r#"{{"materials":[{}],"name":"other"}}"#, lines.join(","));
        let again = parse(body.as_bytes(), &Rules::default()).expect(&body);
        assert_eq!(again.fingerprint, checked.fingerprint, "{line}");
    }
}

#[test]
fn real_names_have_the_keys_of_the_second_implementation() {
    let Some(text) = shared("material-names.tsv") else { return };
    let rows = text.lines().skip(1).filter_map(|row| row.split('\t').next());
    let names: BTreeSet<&str> = rows.collect();
    assert_eq!(names.len(), 1669);
    let keys: BTreeSet<String> = names.iter().map(|name| name_key(name)).collect();
    for key in &keys {
        assert!(!key.is_empty());
        assert_eq!(name_key(key), *key, "a key is its own key");
    }
    // 99 names are another spelling of one that is there: ®, ™, case or blanks.
    assert_eq!(keys.len(), 1570);
    let joined = keys.into_iter().collect::<Vec<_>>().join("\n");
    let all = Fingerprint(Sha256::digest(joined).into()).to_string();
    assert_eq!(all, "29176b592b4c5ffeb9111f80713c735aed31eff648da9cbffb819f8d0536c79f");
}

#[test]
fn real_spellings_fold_together_and_real_materials_stay_apart() {
    let Some(text) = shared("material-names.tsv") else { return };
    let rows = text.lines().skip(1).filter_map(|row| row.split('\t').next());
    let names: HashSet<&str> = rows.collect();
    for (one, other) in [
        ("Iso E Super", "Iso E Super®"),
        ("Sylvamber", "Sylvamber™"),
        ("AMBROXAN®", "Ambroxan"),
        ("Fixateur 505 E", "Fixateur 505E"),
        ("Hedione® HC", "Hedione HC"),
        ("Phenoxy Ethyl Iso Butyrate", "Phenoxyethyl isobutyrate"),
    ] {
        assert!(names.contains(one) && names.contains(other), "{one} or {other} is not there");
        assert_eq!(name_key(one), name_key(other));
    }
    for (one, other) in [
        ("Hedione", "Hedione HC"),
        ("Ionone Alpha", "Ionone Beta"),
        ("Ethyl Acetate", "Ethyl Linalyl Acetate"),
    ] {
        assert!(names.contains(one) && names.contains(other), "{one} or {other} is not there");
        assert_ne!(name_key(one), name_key(other));
    }
}
