//! Looking past damage: which frames of a segment are good, and which LSNs the holes swallow.

use std::ops::RangeInclusive;

use super::disk::DiskError;
use super::frame::{self, Flaw, Kind, Seeds};
use super::scan::{Cursor, Window, frame_at};
use super::segment::FRAMES_AT;
use crate::ids::Lsn;
use crate::limits::FRAME_ALIGN;

/// A part of a segment that holds no good frames but should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// Where it begins.
    pub(super) at: u64,
    /// The LSNs that are lost in it.
    pub(super) lsns: RangeInclusive<Lsn>,
    /// What is wrong with its first frame.
    pub(super) flaw: Flaw,
}

/// A segment as it is.
pub(super) struct Survey {
    first: Lsn,
    /// In order.
    pub(super) holes: Vec<Hole>,
    /// The good frames: whole groups, in order, each run with the offset after it.
    pub(super) runs: Vec<(u64, u64)>,
    /// After the last good frame.
    pub(super) cursor: Cursor,
    /// Whether the last good frame is a seal.
    pub(super) sealed: bool,
    /// The last bad frame: where the walk ended, or after it the frames of an incomplete group.
    pub(super) bad: u64,
}

/// Walks a segment from `cursor` on. `last` is the LSN that must be there: frames after it may
/// be missing without being lost.
pub(super) fn survey(
    window: &mut Window<'_>,
    seeds: Seeds,
    cursor: Cursor,
    last: Lsn,
) -> Result<Survey, DiskError> {
    let (first, holes, runs) = (cursor.next, Vec::new(), Vec::new());
    let mut survey = Survey { first, holes, runs, cursor, sealed: false, bad: FRAMES_AT };
    let mut at = FRAMES_AT;
    loop {
        let (end, flaw) = survey.run(window, seeds, at)?;
        if end > at {
            survey.runs.push((at, end));
        }
        let expected = survey.cursor.next;
        if survey.sealed || expected > last {
            return Ok(survey);
        }
        let resume = next_group(window, survey.first, seeds, end, survey.cursor)?;
        let lost_to = resume.map_or(last, |(_, first)| Lsn(first.0 - 1));
        survey.holes.push(Hole { at: end, lsns: expected..=lost_to, flaw });
        survey.cursor.next = lost_to.next();
        survey.cursor.after_loss = true;
        match resume {
            Some((found, _)) => at = found,
            None => return Ok(survey),
        }
    }
}

impl Survey {
    /// Steps over whole groups from `at` on; returns where they end and why.
    fn run(
        &mut self,
        window: &mut Window<'_>,
        seeds: Seeds,
        at: u64,
    ) -> Result<(u64, Flaw), DiskError> {
        let mut end = at;
        loop {
            window.keep_from(end);
            match group_at(window, self.first, seeds, end, self.cursor)? {
                Ok(group) => {
                    self.cursor = group.after;
                    end = group.end;
                    self.sealed = group.kind == Kind::Seal;
                    if self.sealed {
                        return Ok((end, Flaw::OutOfOrder));
                    }
                }
                Err((bad, flaw)) => {
                    self.bad = bad;
                    return Ok((end, flaw));
                }
            }
        }
    }
}

struct Group {
    after: Cursor,
    end: u64,
    /// Of its last frame.
    kind: Kind,
}

/// The whole group at `at`, or its first bad frame.
fn group_at(
    window: &mut Window<'_>,
    first: Lsn,
    seeds: Seeds,
    mut at: u64,
    mut cursor: Cursor,
) -> Result<Result<Group, (u64, Flaw)>, DiskError> {
    let mut is_first = true;
    loop {
        let (header, chain) = match frame_at(window, at, seeds)? {
            Ok(found) => found,
            Err(flaw) => return Ok(Err((at, flaw))),
        };
        let bytes = window.get(at, header.frame_bytes())?;
        let stepped = cursor.step(first, &header, chain, frame::payload(bytes, &header));
        let in_place = header.stamp.place.is_first() == is_first;
        if let Err(flaw) = if in_place { stepped } else { Err(Flaw::OutOfOrder) } {
            return Ok(Err((at, flaw)));
        }
        at += header.frame_bytes() as u64;
        is_first = false;
        if header.stamp.place.is_last() {
            return Ok(Ok(Group { after: cursor, end: at, kind: header.stamp.kind }));
        }
    }
}

/// Where the next good group after `from` begins, and its first LSN. A group that lost some of
/// its frames is lost whole: half a group is what no state may ever contain.
fn next_group(
    window: &mut Window<'_>,
    first_of_segment: Lsn,
    seeds: Seeds,
    from: u64,
    cursor: Cursor,
) -> Result<Option<(u64, Lsn)>, DiskError> {
    let mut at = from;
    while let Some((found, header)) = window.next_header(at, seeds)? {
        let first = header.stamp.lsn;
        if first > cursor.next {
            let resumed = Cursor { next: first, after_loss: true, ..cursor };
            if group_at(window, first_of_segment, seeds, found, resumed)?.is_ok() {
                return Ok(Some((found, first)));
            }
        }
        at = found + FRAME_ALIGN as u64;
    }
    Ok(None)
}
