//! Which numbers are concentrations, and which are equal.

use super::*;
use crate::tests::random;
use FaultKind::{
    ConcentrationNegative, ConcentrationTooFine, ConcentrationTooHigh, ConcentrationTooLong,
};

const ONE: u128 = 10u128.pow(30);

fn value(text: &str) -> Result<u128, FaultKind> {
    scaled(&Number::whole_text(text).expect("the test gives a JSON number"), 100)
}

#[test]
fn equal_values_are_equal_however_they_are_spelt() {
    for ten in ["10", "10.0", "1e1", "10.000", "1E+1", "0.1e2", "1000e-2", "0.00001e6", "10e-0"] {
        assert_eq!(value(ten), Ok(10 * ONE), "{ten}");
    }
    for zero in ["0", "-0", "0.0", "-0.0", "0e99", "-0e-99", "0.000e999999999999999999999999999"] {
        assert_eq!(value(zero), Ok(0), "{zero}");
    }
}

#[test]
fn no_digit_is_lost_to_binary_floats() {
    assert_eq!(value("0.1").unwrap() + value("0.2").unwrap(), value("0.3").unwrap());
    assert_ne!(value("15.5"), value("15.500000000000000001"));
    assert_eq!(value("15.500000000000000001"), Ok(15_500_000_000_000_000_001 * 10u128.pow(12)));
}

#[test]
fn decimals_are_counted_by_value() {
    let thirty = "1.000000000000000000000000000001";
    assert_eq!(value(thirty), Ok(ONE + 1));
    assert_eq!(value(&format!("{thirty}00000")), Ok(ONE + 1));
    assert_eq!(value(&format!("1.1{}", "0".repeat(61))), Ok(ONE + ONE / 10));
    assert_eq!(value("1.0000000000000000000000000000001"), Err(ConcentrationTooFine));
    assert_eq!(value("1e-30"), Ok(1));
    assert_eq!(value("10e-31"), Ok(1));
    assert_eq!(value("1e-31"), Err(ConcentrationTooFine));
    assert_eq!(value("11e-31"), Err(ConcentrationTooFine));
}

#[test]
fn exponents_of_any_size_cost_nothing() {
    let high = Err(ConcentrationTooHigh { max: 100 });
    for huge in ["1e400000000", "1e+99999999999999999999999999", "0.1e400000000", "1e8"] {
        assert_eq!(value(huge), high, "{huge}");
    }
    for tiny in ["1e-400000000", "1e-99999999999999999999999999", "99e-400000000"] {
        assert_eq!(value(tiny), Err(ConcentrationTooFine), "{tiny}");
    }
    let far = format!("0.{}1e60", "0".repeat(57));
    assert_eq!(value(&far), Ok(100 * ONE));
    let back = format!("1{}e-50", "0".repeat(50));
    assert_eq!(value(&back), Ok(ONE));
}

#[test]
fn the_highest_value_is_the_last_one_accepted() {
    let high = Err(ConcentrationTooHigh { max: 100 });
    assert_eq!(value("100.000"), Ok(100 * ONE));
    assert_eq!(value("100.000000000000000000000000000001"), high);
    assert_eq!(value("100.0000000000000000000000000000001"), Err(ConcentrationTooFine));
    for above in ["101", "1000", "9999999", "10000000", "123456789012345678901234567890"] {
        assert_eq!(value(above), high, "{above}");
    }
    let highest = Number::whole_text("1000000.000000000000000000000000000000").unwrap();
    assert_eq!(scaled(&highest, CONCENTRATION_VALUE_MAX), Ok(1_000_000 * ONE));
    let above = Number::whole_text("9999999.999999999999999999999999999999").unwrap();
    let max = CONCENTRATION_VALUE_MAX;
    assert_eq!(scaled(&above, max), Err(ConcentrationTooHigh { max }));
    assert_eq!(scaled(&Number::whole_text("0").unwrap(), 0), Ok(0));
    assert_eq!(
        scaled(&Number::whole_text("1e-30").unwrap(), 0),
        Err(ConcentrationTooHigh { max: 0 })
    );
}

#[test]
fn negative_values_are_refused() {
    for below in ["-5", "-1e-30", "-1e-31", "-1e400000000", "-100000000"] {
        assert_eq!(value(below), Err(ConcentrationNegative), "{below}");
    }
}

#[test]
fn sixty_four_bytes_are_the_last_length_accepted() {
    let text = format!("1.{}", "0".repeat(62));
    assert_eq!(value(&text), Ok(ONE));
    assert_eq!(value(&format!("{text}0")), Err(ConcentrationTooLong { bytes: 65 }));
    assert_eq!(value(&format!("0{}", "e1")), Ok(0));
}

#[test]
fn plain_text_is_shortest_and_reads_back() {
    for (text, plain_text) in [
        ("0", "0"),
        ("1e1", "10"),
        ("10.500", "10.5"),
        ("1e-30", "0.000000000000000000000000000001"),
        ("99.999999999999999999999999999999", "99.999999999999999999999999999999"),
    ] {
        let value = value(text).unwrap();
        assert_eq!(plain(value), plain_text);
        assert_eq!(stored(plain_text), Some(value));
    }
}

/// A number with random digits, point and exponent.
fn random_number(random: &mut fastrand::Rng) -> String {
    let digits = |random: &mut fastrand::Rng, max: usize| -> String {
        let len = random.usize(1..=max);
        (0..len).map(|_| if random.bool() { '0' } else { random.digit(10) }).collect()
    };
    let whole: u128 = digits(random, 5).parse().unwrap();
    let mut text = whole.to_string();
    if random.bool() {
        text = format!("{text}.{}", digits(random, 28));
    }
    if random.bool() {
        text = format!("{text}e{}", random.i32(-25..=25));
    }
    text
}

/// The value as a ratio of integers, found by shifting the point in the text.
fn by_hand(text: &str) -> Option<u128> {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = exponent.parse::<i32>().unwrap() - i32::try_from(fraction.len()).unwrap() + 30;
    let mut digits = format!("{whole}{fraction}");
    for _ in shift..0 {
        if !digits.is_empty() && digits.pop() != Some('0') {
            return None;
        }
    }
    digits.push_str(&"0".repeat(usize::try_from(shift.max(0)).unwrap()));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

#[test]
fn both_paths_agree_with_arithmetic_on_text() {
    let mut random = random();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let text = random_number(&mut random);
        let number = Number::whole_text(&text).unwrap();
        let expected = by_hand(&text).filter(|value| *value <= 100 * ONE);
        assert_eq!(scaled(&number, 100).ok(), expected, "{text}");
        if let (Some(fast), Ok(slow)) = (common(&number), general(&number, u32::MAX)) {
            assert_eq!(fast, slow, "{text}");
        }
        accepted += usize::from(expected.is_some());
    }
    assert!(accepted > 2000, "only {accepted} of 20000 numbers were in range");
}
