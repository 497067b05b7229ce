//! Exact decimals: from the digits of a JSON number to an integer and back, never through binary
//! floating point, in which 0.1 + 0.2 is not 0.3 and `15.500000000000000001` is `15.5`.
//!
//! A value is percent of the formula times 10^30 in a `u128`. That is exact for everything that
//! is accepted: 30 decimals, and at most seven digits in front of the point, make 37 digits of
//! the 38 that always fit. Numbers that do not fit are refused, never rounded.
//!
//! The exponent is bounded before anything is expanded: `1e400000000` costs as much as `1`.

use super::fault::FaultKind;
use super::json::Number;
use crate::limits::{CONCENTRATION_BYTES_MAX, CONCENTRATION_DECIMALS_MAX, CONCENTRATION_VALUE_MAX};

/// Digits in front of the point of the highest value that may be configured.
const WHOLE_DIGITS_MAX: usize = CONCENTRATION_VALUE_MAX.ilog10() as usize + 1;
/// The power of ten by which values are scaled.
const SCALE: usize = CONCENTRATION_DECIMALS_MAX as usize;
/// Any exponent beyond it moves the digits of the longest number out of range.
const EXPONENT_MAX: i32 = 1000;

/// `POW10[n]` is 10^n.
const POW10: [u128; SCALE + WHOLE_DIGITS_MAX + 1] = {
    let mut powers = [1; SCALE + WHOLE_DIGITS_MAX + 1];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = 10 * powers[n - 1];
        n += 1;
    }
    powers
};

const _: () = assert!(u128::MAX.ilog10() as usize >= SCALE + WHOLE_DIGITS_MAX);
const _: () = assert!(EXPONENT_MAX as usize > 2 * (CONCENTRATION_BYTES_MAX + SCALE));

/// The value of a concentration, times 10^30, if it is one of 0 to `max` percent.
pub(super) fn scaled(number: &Number<'_>, max: u32) -> Result<u128, FaultKind> {
    let bytes = number.text.len();
    if bytes > CONCENTRATION_BYTES_MAX {
        return Err(FaultKind::ConcentrationTooLong { bytes });
    }
    let value = match common(number) {
        Some(value) => value,
        None => general(number, max)?,
    };
    // Only now, because `-0` is zero.
    if number.is_negative && value > 0 {
        return Err(FaultKind::ConcentrationNegative);
    }
    if value > u128::from(max) * POW10[SCALE] {
        return Err(FaultKind::ConcentrationTooHigh { max });
    }
    Ok(value)
}

/// The value of a concentration in a stored formula; `None` if it cannot stand in one.
pub(super) fn stored(text: &str) -> Option<u128> {
    scaled(&Number::whole_text(text)?, CONCENTRATION_VALUE_MAX).ok()
}

/// The shortest plain decimal of a value: no exponent, no trailing zeros.
pub(super) fn plain(value: u128) -> String {
    let (whole, fraction) = (value / POW10[SCALE], value % POW10[SCALE]);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:0SCALE$}");
    text.trim_end_matches('0').to_owned()
}

/// The fast path: no exponent, and few enough digits for a `u64`.
fn common(number: &Number<'_>) -> Option<u128> {
    const DIGITS_MAX: usize = u64::MAX.ilog10() as usize;
    let Number { whole, fraction, exponent, .. } = *number;
    let fits = whole.len() <= WHOLE_DIGITS_MAX && whole.len() + fraction.len() <= DIGITS_MAX;
    if !fits || !exponent.is_empty() {
        return None;
    }
    let push = |value: u64, digit: &u8| 10 * value + u64::from(digit - b'0');
    let coefficient = whole.iter().chain(fraction).fold(0, push);
    Some(u128::from(coefficient) * POW10[SCALE - fraction.len()])
}

/// Any number: its significant digits, then where they stand relative to the point.
fn general(number: &Number<'_>, max: u32) -> Result<u128, FaultKind> {
    let digits = || number.whole.iter().chain(number.fraction).copied();
    let Some(first) = digits().position(|digit| digit != b'0') else {
        return Ok(0);
    };
    let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
    let len = number.whole.len() + number.fraction.len() - trailing - first;
    // The value is the integer made of `len` digits times 10 to the power of `shift`.
    let shift = signed(trailing) - signed(number.fraction.len()) + exponent(number.exponent);
    if number.is_negative {
        return Err(FaultKind::ConcentrationNegative);
    }
    if signed(len) + shift > signed(WHOLE_DIGITS_MAX) {
        return Err(FaultKind::ConcentrationTooHigh { max });
    }
    let Ok(power) = usize::try_from(shift + signed(SCALE)) else {
        return Err(FaultKind::ConcentrationTooFine);
    };
    let push = |value: u128, digit: u8| 10 * value + u128::from(digit - b'0');
    Ok(digits().skip(first).take(len).fold(0, push) * POW10[power])
}

/// The value of an exponent, cut off where it no longer matters how large it is.
fn exponent(text: &[u8]) -> i32 {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let push = |value: i32, digit: &u8| (10 * value + i32::from(digit - b'0')).min(EXPONENT_MAX);
    let value = digits.iter().fold(0, push);
    if is_negative { -value } else { value }
}

/// A count of digits as a signed number.
fn signed(digits: usize) -> i32 {
    i32::try_from(digits).expect("a concentration has at most 64 digits")
}

#[cfg(test)]
mod tests;
