//! The decision on which everything rests: what to make of the log's last bytes.
//!
//! `last` is the last good frame, `durable` the highest LSN that any evidence calls durable,
//! the *residue* whatever follows the last good frame and is not zero.
//!
//! | evidence | residue | verdict |
//! |---|---|---|
//! | `last < durable` | any | damaged: refuse |
//! | `last ≥ durable` | none | clean |
//! | `last ≥ durable` | such as a crash leaves, WATERMARK readable | torn: set aside, go on |
//! | `last ≥ durable` | other, or WATERMARK unreadable | undecidable: refuse |
//!
//! A crash leaves only this: of the one write that was not synced, some sectors are on the disk
//! and the others hold what they held before, zeros. So the first bad frame must have a sector
//! that is zero from some byte on. If it has none, it was once whole and was damaged later, and
//! then it may have been acknowledged, a moment before the crash, without a trace of it.

use super::disk::DiskError;
use super::frame::{self, Seeds};
use super::scan::{Window, frame_at};
use crate::ids::Lsn;
use crate::limits::{FRAME_ALIGN, FRAME_HEADER_BYTES, SECTOR_BYTES};

/// What follows the last good frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Residue {
    /// After the last byte that is not zero.
    pub(super) end: u64,
    /// Highest durable LSN that an intact header in it claims.
    pub(super) durable: Lsn,
    /// Highest LSN of an intact header in it.
    pub(super) highest: Lsn,
    /// Whether an unsynced write explains it.
    pub(super) torn: bool,
}

impl Residue {
    /// Reads what follows the frames that end at `end`, the first bad one standing at `bad`:
    /// `end <= bad`, with the frames of an incomplete group between them. `None`: only zeros.
    pub(super) fn read(
        window: &mut Window<'_>,
        seeds: Seeds,
        end: u64,
        bad: u64,
    ) -> Result<Option<Residue>, DiskError> {
        window.keep_from(end);
        if window.first_nonzero(end)?.is_none() {
            return Ok(None);
        }
        let mut again = window.restart(end);
        let (mut durable, mut highest) = (Lsn::ZERO, Lsn::ZERO);
        let mut at = end;
        while let Some((found, header)) = again.next_header(at, seeds)? {
            durable = durable.max(header.stamp.durable);
            highest = highest.max(header.stamp.lsn);
            at = found + FRAME_ALIGN as u64;
        }
        let torn = may_be_torn(&mut window.restart(bad), seeds, bad)?;
        let end = window.restart(end).last_nonzero(end)?;
        Ok(Some(Residue { end, durable, highest, torn }))
    }
}

/// Whether an unsynced write may have left the frame at `at` as it is.
fn may_be_torn(window: &mut Window<'_>, seeds: Seeds, at: u64) -> Result<bool, DiskError> {
    // A whole frame that merely does not belong here was not torn.
    if frame_at(window, at, seeds)?.is_ok() {
        return Ok(false);
    }
    let header = frame::decode_header(window.get(at, FRAME_HEADER_BYTES)?, seeds, at);
    // Padding is zero anyway and proves nothing.
    let len = FRAME_HEADER_BYTES + header.map_or(0, |header| header.payload_len);
    let bytes = window.get(at, len)?;
    // The file ends within the frame: what was to grow it was not synced.
    if bytes.len() < len {
        return Ok(true);
    }
    let sector = SECTOR_BYTES as u64;
    let to_boundary = usize::try_from(sector - at % sector).unwrap_or(SECTOR_BYTES);
    let (head, rest) = bytes.split_at(to_boundary.min(bytes.len()));
    Ok(std::iter::once(head).chain(rest.chunks(SECTOR_BYTES)).any(|part| part.ends_with(&[0])))
}

/// What to make of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It ends as it should.
    Clean,
    /// A batch was torn that nobody was promised.
    Torn,
    /// Acknowledged frames are damaged or gone.
    Damaged,
    /// The last batch may have been acknowledged or not.
    Undecidable,
}

/// What is known of the tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    /// The last good frame.
    pub(super) last: Lsn,
    /// Highest LSN that is durable for certain.
    pub(super) durable: Lsn,
    /// What follows the last good frame; `None`: zeros.
    pub(super) residue: Option<&'a Residue>,
    /// Whether at least one slot of WATERMARK could be read.
    pub(super) watermark: WatermarkState,
}

/// Whether WATERMARK bears witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatermarkState {
    /// At least one slot is whole. A crash never leaves less.
    Readable,
    /// No slot is whole.
    Lost,
}

/// Decides by the table above.
pub(super) fn judge(evidence: &Evidence<'_>) -> Verdict {
    match evidence.residue {
        _ if evidence.last < evidence.durable => Verdict::Damaged,
        None => Verdict::Clean,
        Some(residue) if residue.torn && evidence.watermark == WatermarkState::Readable => {
            Verdict::Torn
        }
        Some(_) => Verdict::Undecidable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_table() {
        let torn = Residue { end: 1, durable: Lsn(3), highest: Lsn(6), torn: true };
        let odd = Residue { torn: false, ..torn };
        let judge = |last, residue, watermark| {
            judge(&Evidence { last: Lsn(last), durable: Lsn(5), residue, watermark })
        };
        let (readable, lost) = (WatermarkState::Readable, WatermarkState::Lost);
        for residue in [None, Some(&torn), Some(&odd)] {
            assert_eq!(judge(4, residue, readable), Verdict::Damaged);
        }
        assert_eq!(judge(5, None, readable), Verdict::Clean);
        assert_eq!(judge(5, None, lost), Verdict::Clean);
        assert_eq!(judge(5, Some(&torn), readable), Verdict::Torn);
        assert_eq!(judge(6, Some(&torn), lost), Verdict::Undecidable);
        assert_eq!(judge(6, Some(&odd), readable), Verdict::Undecidable);
    }
}
