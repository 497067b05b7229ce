//! What a snapshot keeps of a record: its bytes as they stood in the log, and the trail so far.
//!
//! The records that leased, acked and nacked a formula's message are gone once a snapshot covers
//! them, so the steps that they tell of are kept with the formula itself. Bytes: a version, the
//! length of the record's payload (u32, little endian), the payload, the steps in bincode. Golden
//! bytes stand in `data/golden/`.

use bincode::{Decode, Encode};

use crate::ids::{Lsn, QueueName};
use crate::limits::{ARCHIVED_BYTES_MAX, TRAIL_STEPS_MAX};
use crate::record::codec::{CodecError, Sink};
use crate::record::hooks::Event;
use crate::record::releases::{Action, End, NodeEnd};
use crate::time::Timestamp;

/// The latest version that this program writes and reads. A record is written in the first
/// version that knows all its steps, so that an older program can read what it understands.
pub const VERSION: u8 = 3;

/// Bytes before the payload: version and length.
const HEAD_BYTES: usize = 5;

/// One dated step of a formula's trail after its acceptance.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// The record that said so.
    pub lsn: Lsn,
    /// What happened.
    pub kind: StepKind,
}

/// What happened to a formula. Stored by number: new ones go at the end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StepKind {
    /// Leased by a consumer of a queue.
    Leased(QueueName),
    /// Done.
    Acked(QueueName),
    /// Given back, with the consumer's reason.
    Nacked(QueueName, Box<str>),
    /// Given back for a reason that is not the message's own.
    Deferred(QueueName),
    /// Made a dead letter, with the reason.
    Condemned(QueueName, Box<str>),
    /// Sealed by the authority.
    Sealed,
    /// A hook was told of an event.
    Told {
        /// Of what.
        event: Event,
        /// The hook's id.
        hook: Lsn,
    },
    /// A transaction that was made for the formula came to an end.
    ReleaseEnded(Box<EndedRelease>),
}

/// The end of a formula's release, or of its withdrawal from the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EndedRelease {
    /// Which transaction.
    pub transaction: Lsn,
    /// What was to be done: create for a release, delete for a withdrawal.
    pub action: Action,
    /// How it ended.
    pub end: End,
    /// Why, unless it succeeded; at most `REASON_BYTES_MAX` bytes.
    pub reason: Box<str>,
    /// How each node stands, 1 to `NODES_MAX`.
    pub nodes: Vec<NodeEnd>,
}

impl StepKind {
    /// The first version that knows it.
    fn version(&self) -> u8 {
        match self {
            StepKind::Leased(_) | StepKind::Acked(_) | StepKind::Nacked(..) => 1,
            StepKind::Deferred(_)
            | StepKind::Condemned(..)
            | StepKind::Sealed
            | StepKind::Told { .. } => 2,
            StepKind::ReleaseEnded(_) => 3,
        }
    }
}

/// A record as a snapshot keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Archived<'a> {
    version: u8,
    /// The record as [`super::codec`] encoded it.
    pub payload: &'a [u8],
    steps: &'a [u8],
}

impl<'a> Archived<'a> {
    /// Takes an archived record apart.
    ///
    /// # Errors
    /// See [`CodecError`]; the steps are looked at by [`Archived::steps`] only.
    pub fn split(bytes: &'a [u8]) -> Result<Archived<'a>, CodecError> {
        let (&version, rest) = bytes.split_first().ok_or(CodecError::Empty)?;
        if !(1..=VERSION).contains(&version) {
            return Err(CodecError::Newer { version });
        }
        let (len, rest) = rest.split_first_chunk().ok_or(CodecError::Empty)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (payload, steps) = rest.split_at_checked(len).ok_or(CodecError::Empty)?;
        Ok(Archived { version, payload, steps })
    }

    /// The steps, oldest first; at most [`TRAIL_STEPS_MAX`].
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn steps(&self) -> Result<Vec<Step>, CodecError> {
        if self.steps.is_empty() {
            return Ok(Vec::new());
        }
        let config = bincode::config::standard().with_limit::<ARCHIVED_BYTES_MAX>();
        let (steps, used) =
            bincode::decode_from_slice(self.steps, config).map_err(CodecError::Undecodable)?;
        match self.steps.len() - used {
            0 => Ok(steps),
            bytes => Err(CodecError::LeftOver { bytes }),
        }
    }

    /// Whether there are no steps.
    #[must_use]
    pub fn is_without_steps(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Appends the archived form of the record with these codec bytes to `out`. Of too many steps
/// the latest are kept.
///
/// # Panics
/// If it is larger than [`ARCHIVED_BYTES_MAX`], which the bounds on its parts exclude.
pub fn encode(payload: &[u8], steps: &[Step], out: &mut Vec<u8>) {
    let start = out.len();
    let latest = &steps[steps.len().saturating_sub(TRAIL_STEPS_MAX)..];
    out.push(latest.iter().map(|step| step.kind.version()).max().unwrap_or(1));
    let len = u32::try_from(payload.len()).expect("a payload is far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(payload);
    if !steps.is_empty() {
        bincode::encode_into_writer(latest, &mut Sink(out), bincode::config::standard())
            .expect("writing to memory cannot fail");
    }
    let len = out.len() - start;
    assert!(len <= ARCHIVED_BYTES_MAX, "{len} bytes exceed {ARCHIVED_BYTES_MAX}");
}

/// Appends what `archived` holds, without taking its steps apart.
pub fn encode_again(archived: &Archived<'_>, out: &mut Vec<u8>) {
    let len = u32::try_from(archived.payload.len()).expect("a payload is far below 4 GiB");
    out.reserve(HEAD_BYTES + archived.payload.len() + archived.steps.len());
    out.push(archived.version);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(archived.payload);
    out.extend_from_slice(archived.steps);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(lsn: u64, kind: StepKind) -> Step {
        Step { at: Timestamp(1_795_000_000_000 + lsn), lsn: Lsn(lsn), kind }
    }

    fn queue() -> QueueName {
        "formulas".parse().expect("a queue's name")
    }

    #[test]
    fn record_and_steps_read_back() {
        let steps = vec![
            step(7, StepKind::Leased(queue())),
            step(9, StepKind::Nacked(queue(), "no glass".into())),
            step(11, StepKind::Acked(queue())),
        ];
        let mut bytes = Vec::new();
        encode(b"payload", &steps, &mut bytes);
        let archived = Archived::split(&bytes).expect("whole");
        assert_eq!(archived.payload, b"payload");
        assert_eq!(archived.steps().expect("whole"), steps);
        let mut again = Vec::new();
        encode_again(&archived, &mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn of_too_many_steps_the_latest_are_kept() {
        let last = TRAIL_STEPS_MAX as u64 + 5;
        let steps: Vec<_> = (0..=last).map(|lsn| step(lsn, StepKind::Acked(queue()))).collect();
        let mut bytes = Vec::new();
        encode(b"", &steps, &mut bytes);
        let kept = Archived::split(&bytes).expect("whole").steps().expect("whole");
        assert_eq!(kept.len(), TRAIL_STEPS_MAX);
        assert_eq!(kept.last(), steps.last());
    }

    #[test]
    fn every_cut_is_noticed() {
        let steps = [step(7, StepKind::Leased(queue()))];
        let mut bytes = Vec::new();
        encode(b"payload", &steps, &mut bytes);
        for len in 0..bytes.len() {
            let read = Archived::split(&bytes[..len]).and_then(|archived| archived.steps());
            // A cut right behind the payload leaves a record without steps; the checksum of the
            // block around it is what notices that.
            assert!(read.is_err() || len == HEAD_BYTES + b"payload".len(), "cut at {len}");
        }
    }
}
