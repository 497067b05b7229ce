//! What a [`Kind::Loss`](super::Kind::Loss) frame says.
//!
//! Damage may be found many reigns after the frames that it took were written. All those reigns
//! decided on a state that had them. So a loss names, besides the LSNs, the first reign that
//! knows of it: whoever replays must bear with contradictions up to there, and not beyond.

use crate::ids::{Epoch, Lsn};

/// LSNs that were lost with the operator's consent, from the frame's own on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The last of them.
    pub last: Lsn,
    /// Reigns from this one on decide on what is left.
    pub known_from: Epoch,
}

impl Loss {
    /// Bytes of the payload.
    pub const BYTES: usize = 12;

    pub(super) fn encode(&self) -> [u8; Loss::BYTES] {
        let mut bytes = [0; Loss::BYTES];
        bytes[..8].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.known_from.0.to_le_bytes());
        bytes
    }

    /// Reads the payload of the frame `first`; `None` if it is none of a loss.
    #[must_use]
    pub fn decode(first: Lsn, payload: &[u8]) -> Option<Loss> {
        let (last, known_from) = payload.split_first_chunk()?;
        let last = Lsn(u64::from_le_bytes(*last));
        let known_from = Epoch(u32::from_le_bytes(known_from.try_into().ok()?));
        (last >= first && last.0 < u64::MAX).then_some(Loss { last, known_from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_reads_back_and_ends_after_it_begins() {
        let loss = Loss { last: Lsn(9), known_from: Epoch(3) };
        for (first, found) in [(1, Some(loss)), (9, Some(loss)), (10, None)] {
            assert_eq!(Loss::decode(Lsn(first), &loss.encode()), found);
        }
        assert_eq!(Loss::decode(Lsn(1), &loss.encode()[..11]), None);
        assert_eq!(Loss::decode(Lsn(1), &[0; 13]), None);
        let endless = Loss { last: Lsn(u64::MAX), ..loss };
        assert_eq!(Loss::decode(Lsn(1), &endless.encode()), None);
    }
}
