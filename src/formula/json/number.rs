//! The grammar of a JSON number, RFC 8259, section 6.

/// A number in its parts. The digits are not looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formula) struct Number<'a> {
    /// All of it, as sent.
    pub(in crate::formula) text: &'a str,
    /// Whether it begins with a minus sign.
    pub(in crate::formula) is_negative: bool,
    /// Digits in front of the point; at least one, no leading zero beside others.
    pub(in crate::formula) whole: &'a [u8],
    /// Digits after the point; empty for none.
    pub(in crate::formula) fraction: &'a [u8],
    /// What follows the `e`: an optional sign and at least one digit; empty for none.
    pub(in crate::formula) exponent: &'a [u8],
}

impl<'a> Number<'a> {
    /// The text if it is a number from end to end.
    pub(in crate::formula) fn whole_text(text: &'a str) -> Option<Number<'a>> {
        Number::at_start(text).filter(|number| number.text.len() == text.len())
    }

    /// The longest number that the text begins with.
    pub(super) fn at_start(text: &'a str) -> Option<Number<'a>> {
        let bytes = text.as_bytes();
        let is_negative = bytes.first() == Some(&b'-');
        let whole_at = usize::from(is_negative);
        let whole = match bytes.get(whole_at)? {
            b'0' => &bytes[whole_at..=whole_at],
            _ => digits(&bytes[whole_at..])?,
        };
        let mut end = whole_at + whole.len();
        let (mut fraction, mut exponent): (&[u8], &[u8]) = (&[], &[]);
        if bytes.get(end) == Some(&b'.') {
            fraction = digits(&bytes[end + 1..])?;
            end += 1 + fraction.len();
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            exponent = signed_digits(&bytes[end + 1..])?;
            end += 1 + exponent.len();
        }
        Some(Number { text: &text[..end], is_negative, whole, fraction, exponent })
    }
}

/// The digits in front; at least one.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0).then(|| &bytes[..len])
}

/// The digits in front with a sign before them or not; at least one digit.
fn signed_digits(bytes: &[u8]) -> Option<&[u8]> {
    let sign_len = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let len = digits(&bytes[sign_len..])?.len();
    Some(&bytes[..sign_len + len])
}
