//! Which names are the same.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;

use super::*;
use crate::tests::random;

/// One round of step 2 to the letter.
fn round(text: &str) -> String {
    let normal: String = text.chars().filter(is_visible).nfkc().collect();
    UniCase::unicode(normal).to_folded_case().nfkc().collect()
}

/// Step 2 to the letter, with the rounds that changed something.
fn settle_to_the_letter(text: &str) -> (String, usize) {
    let (mut text, mut rounds) = (text.to_owned(), 0);
    loop {
        let next = round(&text);
        if next == text {
            return (text, rounds);
        }
        (text, rounds) = (next, rounds + 1);
    }
}

/// The key to the letter, without any short path.
fn long_key(name: &str) -> String {
    let marked: String = name.chars().filter_map(mark).collect();
    let (settled, _) = settle_to_the_letter(&marked);
    settled.chars().filter_map(mark).filter(|character| !character.is_whitespace()).collect()
}

#[test]
fn spellings_of_one_material_have_one_key() {
    let same = [
        ("Iso E Super", "iso e  super"),
        ("Iso E Super", "IsoESuper"),
        ("Iso E Super®", "Iso E Super™"),
        ("Hedione\u{ad}", "HEDIONE"),
        ("Rosé", "Rose\u{301}"),
        ("ROSÉ", "rosé"),
        ("Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("fleur d’oranger", "Fleur d'Oranger"),
        ("fleur d′oranger", "fleur dʼoranger"),
        ("α‑Pinene", "Α-pinene"),
        ("(−)-Guaiol", "(-)–guaiol"),
        ("3″", "3''"),
        ("\u{a0}terpineol", "terpineol"),
        ("ﬁg", "FIG"),
        ("Ｆｉｇ", "fig"),
        ("Å", "a\u{30a}"),
    ];
    for (one, other) in same {
        assert_eq!(name_key(one), name_key(other), "{one} {other}");
    }
}

#[test]
fn different_materials_have_different_keys() {
    let different = [
        ("alpha-Pinene", "beta-Pinene"),
        ("α-Pinene", "alpha-Pinene"),
        ("(-)-Guaiol", "Guaiol"),
        ("(-)-Guaiol", "(+)-Guaiol"),
        ("Rosé", "Rose"),
        ("Ambroxan 10%", "Ambroxan"),
        ("Ionone 100", "Ionone 10"),
        ("cis-3-Hexenol", "trans-3-Hexenol"),
        ("Hedione HC", "Hedione"),
        ("Fleur d'oranger", "Fleur doranger"),
        ("C.12", "C12"),
    ];
    for (one, other) in different {
        assert_ne!(name_key(one), name_key(other), "{one} {other}");
    }
}

#[test]
fn names_of_marks_and_blanks_have_no_key() {
    for name in ["™", "®℠", "\u{200b}", "\u{feff}\u{ad}", " \t", "\u{3164}", "\u{2003}\u{fe0f}", ""]
    {
        assert_eq!(name_key(name), "", "{name:?}");
    }
    for name in ["-", "'", ".", "0", "\u{301}", "\0"] {
        assert_ne!(name_key(name), "", "{name:?}");
    }
}

#[test]
fn short_paths_agree_with_the_long_one() {
    for byte in 0..128u8 {
        let name = format!("{0}a{0}", char::from(byte));
        assert_eq!(name_key(&name), long_key(&name), "{name:?}");
    }
    let mut random = random();
    for _ in 0..5000 {
        let marks = ['®', '’', '\u{2011}', '™'];
        let len = random.usize(0..40);
        let character = |_| match random.u8(..) {
            byte @ 0..128 => char::from(byte),
            byte => marks[usize::from(byte) % marks.len()],
        };
        let name: String = (0..len).map(character).collect();
        assert_eq!(name_key(&name), long_key(&name), "{name:?}");
    }
}

#[test]
fn dashes_are_those_of_unicode_and_the_minus_sign() {
    let category = CodePointMapData::<GeneralCategory>::new();
    for character in '\0'..=char::MAX {
        let is_dash = category.get(character) == GeneralCategory::DashPunctuation;
        let becomes_dash = mark(character) == Some('-');
        assert_eq!(becomes_dash, is_dash || character == '\u{2212}', "{character:?}");
    }
}

#[test]
fn every_character_has_the_key_to_the_letter_which_is_its_own_key() {
    let mut most = 0;
    for character in '\0'..=char::MAX {
        let name = character.to_string();
        most = most.max(settle_to_the_letter(&name).1);
        let key = name_key(&name);
        assert_eq!(key, long_key(&name), "{character:?}");
        assert_eq!(name_key(&key), key, "{character:?}");
    }
    // One more round sees that nothing changes, and one more is in reserve.
    assert!(most + 2 <= ROUNDS_MAX, "a character needs {most} rounds");
}

#[test]
fn random_text_has_the_key_to_the_letter() {
    // Characters that fold, compose, reorder or vanish are rare among all, so half are drawn
    // from among them.
    let lively: Vec<char> =
        ('\0'..=char::MAX).filter(|one| round(&one.to_string()) != one.to_string()).collect();
    assert!(lively.len() > 8000, "only {} characters change", lively.len());
    let mut random = random();
    for _ in 0..50_000 {
        let len = random.usize(1..8);
        let character = |_| match random.u8(..4) {
            0 => random.char(..),
            1 => random.char('\u{300}'..'\u{370}'),
            _ => lively[random.usize(..lively.len())],
        };
        let name: String = (0..len).map(character).collect();
        assert_eq!(name_key(&name), long_key(&name), "{name:?}");
    }
}

#[test]
fn case_folding_is_full_and_knows_no_locale() {
    for (text, folded) in
        [("ß", "ss"), ("ẞ", "ss"), ("ς", "σ"), ("ŉ", "ʼn"), ("ΐ", "ΐ"), ("I", "i")]
    {
        let expected: String = folded.nfkc().collect();
        assert_eq!(settle(text), expected, "{text}");
    }
    assert_eq!(settle("İ"), "i\u{307}");
}

#[test]
fn lines_sort_by_all_of_the_key() {
    let names = ["abcdefghi", "abcdefgh", "abcdefgg z", "ab", "é", "ａb\u{1}", "z", "abcdefghh"];
    let mut makeup = Makeup::with_capacity(0);
    for (index, name) in (0..).zip(names) {
        assert_eq!(makeup.push(index, name, 1), HasKey::Yes);
    }
    makeup.sort();
    let sorted: Vec<&[u8]> = makeup.hashed_lines().map(|line| makeup.key(line)).collect();
    let mut expected: Vec<String> = names.into_iter().map(name_key).collect();
    expected.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(sorted, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
}

#[test]
fn keys_that_differ_only_by_trailing_nul_bytes_are_no_repeats() {
    let mut makeup = Makeup::with_capacity(2);
    assert_eq!(makeup.push(0, "ab\0", 1), HasKey::Yes);
    assert_eq!(makeup.push(1, "ab", 1), HasKey::Yes);
    makeup.sort();
    assert_eq!(makeup.repeats().count(), 0);
}

#[test]
fn each_repeat_names_the_first_line_with_the_key() {
    let mut makeup = Makeup::with_capacity(6);
    for (index, name) in (0..).zip(["b", "A", "a", "c", "B", " a"]) {
        assert_eq!(makeup.push(index, name, u128::from(index)), HasKey::Yes);
    }
    makeup.sort();
    let repeats: Vec<_> = makeup.repeats().map(|repeat| (repeat.first, repeat.index)).collect();
    assert_eq!(repeats, [(1, 2), (1, 5), (0, 4)]);
}
