//! The numbers and names that must not be mixed up, each a type of its own.
//!
//! One number does most of the work: a record's LSN is also the formula's `seq` and its
//! message's id, because all three *are* the same record.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::limits::{GROUP_ID_BYTES_MAX, QUEUE_NAME_BYTES_MAX};

/// Log sequence number: the place of a record in the log.
///
/// Dense, grows by one, never reused. The first record of a store has 1; 0 stands for "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The LSN after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a reign: grows by one each time the store is opened. The first reign has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message's name: the LSN of the record that put it on its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct MessageId(pub Lsn);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.parse().map(|n| MessageId(Lsn(n))).map_err(|_| Malformed)
    }
}

/// The text is not an id of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed id")
    }
}

impl std::error::Error for Malformed {}

/// A queue's name: 1 to 64 bytes of `a-z`, `0-9`, `-`, `_`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct QueueName(Box<str>);

impl<C> Decode<C> for QueueName {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let name = <Box<str> as Decode<C>>::decode(decoder)?;
        name.parse().map_err(|_| bincode::error::DecodeError::Other("malformed queue name"))
    }
}
bincode::impl_borrow_decode!(QueueName);

impl QueueName {
    /// Where accepted and withdrawn formulas wait for outside consumers.
    pub const FORMULAS: &str = "formulas";

    /// Where texts wait for the authority's seal.
    pub const SEALS: &str = "seals";

    /// Where groups wait to be created or deleted on all nodes.
    pub const RELEASES: &str = "releases";

    /// Where calls to hooks wait.
    pub const HOOKS: &str = "hooks";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for QueueName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for QueueName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = text.as_bytes();
        let fits = !bytes.is_empty() && bytes.len() <= QUEUE_NAME_BYTES_MAX;
        let letter_first = bytes.first().is_some_and(u8::is_ascii_lowercase);
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b);
        if fits && letter_first && bytes.iter().all(plain) {
            Ok(QueueName(text.into()))
        } else {
            Err(Malformed)
        }
    }
}

/// A group's name on the nodes: 1 to `GROUP_ID_BYTES_MAX` bytes without control characters, and
/// neither `.` nor `..`, which no path can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct GroupId(Box<str>);

impl<C> Decode<C> for GroupId {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let id = <Box<str> as Decode<C>>::decode(decoder)?;
        id.parse().map_err(|_| bincode::error::DecodeError::Other("malformed group id"))
    }
}
bincode::impl_borrow_decode!(GroupId);

impl GroupId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let fits = (1..=GROUP_ID_BYTES_MAX).contains(&text.len());
        let is_named = !matches!(text, "." | "..") && !text.contains(char::is_control);
        if fits && is_named { Ok(GroupId(text.into())) } else { Err(Malformed) }
    }
}

/// Proof that a consumer holds a lease: void as soon as the lease lapses or ends.
///
/// Opaque to clients. It names the message, which attempt this is, the reign that granted it
/// and a random number from the `Leased` record, so it can be neither guessed nor used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The leased message.
    pub message: MessageId,
    /// Which delivery of the message, from 1.
    pub attempt: u32,
    /// The reign in which the lease was granted.
    pub epoch: Epoch,
    /// Random number from the `Leased` record.
    pub token: u64,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Receipt { message, attempt, epoch, token } = self;
        write!(f, "{:x}-{attempt:x}-{:x}-{token:016x}", message.0.0, epoch.0)
    }
}

impl FromStr for Receipt {
    type Err = Malformed;

    /// Accepts exactly what `Display` writes, so that one lease has one spelling.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        let mut part = || parts.next().flatten().ok_or(Malformed);
        let receipt = Receipt {
            message: MessageId(Lsn(part()?)),
            attempt: u32::try_from(part()?).map_err(|_| Malformed)?,
            epoch: Epoch(u32::try_from(part()?).map_err(|_| Malformed)?),
            token: part()?,
        };
        if receipt.to_string() == text { Ok(receipt) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_reads_back_only_its_own_spelling() {
        let receipt = Receipt {
            message: MessageId(Lsn(0xabc)),
            attempt: 3,
            epoch: Epoch(7),
            token: 0x0123_4567_89ab_cdef,
        };
        let text = receipt.to_string();
        assert_eq!(text, "abc-3-7-0123456789abcdef");
        assert_eq!(text.parse(), Ok(receipt));
        for wrong in ["", "abc", "ABC-3-7-0123456789abcdef", "abc-3-7-123456789abcdef", "-1-1-1"] {
            assert_eq!(wrong.parse::<Receipt>(), Err(Malformed), "{wrong}");
        }
        assert_eq!(format!("{text}-").parse::<Receipt>(), Err(Malformed));
    }

    #[test]
    fn queue_names_are_short_plain_words() {
        for good in ["formulas", "a", "q-1_b", &"x".repeat(64)] {
            assert!(good.parse::<QueueName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "Formulas", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }
}
