//! Records to bytes and back: bincode behind one door.
//!
//! The payload of a frame is one version byte, then the record in bincode 2's standard
//! configuration (little endian, variable-length integers). The version is that of the first
//! program that knows the kind of fact, so an older one says clearly why it cannot read on, and
//! what it can read has the bytes that it would have written. Decoding is bounded
//! ([`PAYLOAD_BYTES_MAX`]), since a hostile length would otherwise ask for memory without end,
//! and it must use every byte: what is left over would be data that we dropped in silence.
//! Golden bytes of each version stand in `data/golden/`.

use std::fmt;

use crate::limits::PAYLOAD_BYTES_MAX;
use crate::record::hooks::{Event, Happening, OwedDelivery};
use crate::record::{Fact, FlowStep, Record};

/// The latest version that this program writes and reads.
pub const VERSION: u8 = 4;

/// Why bytes are no record of ours. The frame's CRC has already matched, so this is either a
/// newer format or our own mistake, never mere damage.
#[derive(Debug)]
pub enum CodecError {
    /// The payload is empty.
    Empty,
    /// The payload was written by a later version.
    Newer {
        /// Its version byte.
        version: u8,
    },
    /// The bytes do not decode.
    Undecodable(bincode::error::DecodeError),
    /// Bytes follow the record.
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Empty => f.write_str("record is empty"),
            CodecError::Newer { version } => {
                write!(f, "record has version {version}, this program reads up to {VERSION}")
            }
            CodecError::Undecodable(why) => write!(f, "record does not decode: {why}"),
            CodecError::LeftOver { bytes } => write!(f, "{bytes} bytes follow the record"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Appends the bytes of `record` to `out`.
///
/// # Panics
/// If the record is larger than [`PAYLOAD_BYTES_MAX`], which the bounds on bodies exclude.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(version(&record.fact));
    let mut writer = Sink(out);
    bincode::encode_into_writer(record, &mut writer, bincode::config::standard())
        .expect("writing to memory cannot fail");
    let len = out.len() - start;
    assert!(len <= PAYLOAD_BYTES_MAX, "a record of {len} bytes exceeds {PAYLOAD_BYTES_MAX}");
}

/// Reads a record back.
///
/// # Errors
/// See [`CodecError`].
pub fn decode(payload: &[u8]) -> Result<Record, CodecError> {
    let (&version, bytes) = payload.split_first().ok_or(CodecError::Empty)?;
    if !(1..=VERSION).contains(&version) {
        return Err(CodecError::Newer { version });
    }
    let config = bincode::config::standard().with_limit::<PAYLOAD_BYTES_MAX>();
    let (record, used) =
        bincode::decode_from_slice(bytes, config).map_err(CodecError::Undecodable)?;
    if used < bytes.len() {
        return Err(CodecError::LeftOver { bytes: bytes.len() - used });
    }
    Ok(record)
}

/// The first version that knows this kind of fact, and all that follows from it.
fn version(fact: &Fact) -> u8 {
    let flow = fact.acceptance().map_or(&[][..], |accepted| &accepted.flow);
    match fact {
        Fact::HookOwed(OwedDelivery {
            happening: Happening::TransactionEnded { .. } | Happening::FormulaReleased { .. },
            ..
        }) => 4,
        Fact::HookCreated(hook) if hook.events.contains(Event::FormulaReleased) => 4,
        // Programs before would not put it on the queues of its steps.
        _ if flow.contains(&FlowStep::Release) => 4,
        _ if flow.contains(&FlowStep::Seal) => 3,
        Fact::Opened { .. }
        | Fact::FormulaAccepted(_)
        | Fact::FormulaWithdrawn { .. }
        | Fact::BatchAnswered { .. }
        | Fact::Leased { .. }
        | Fact::Acked { .. }
        | Fact::Nacked { .. }
        | Fact::Extended { .. }
        | Fact::Redriven { .. }
        | Fact::Purged { .. }
        | Fact::StateHash { .. } => 1,
        Fact::Digest { .. } | Fact::FormulaImported { .. } => 2,
        Fact::SealRequested(_)
        | Fact::CallBegun { .. }
        | Fact::CallEnded { .. }
        | Fact::Sealed(_)
        | Fact::Deferred { .. }
        | Fact::Condemned { .. }
        | Fact::DeathsAnnounced { .. }
        | Fact::HookCreated(_)
        | Fact::HookDeleted { .. }
        | Fact::HookDisabled { .. }
        | Fact::HookSecretChanged { .. }
        | Fact::OwnSecretMade { .. }
        | Fact::HookOwed(_)
        | Fact::HookDelivered { .. }
        | Fact::HookRedelivered { .. } => 3,
        Fact::TransactionBegun(_)
        | Fact::NodesSeen { .. }
        | Fact::NodesCalled { .. }
        | Fact::NodeAnswered { .. }
        | Fact::TransactionDelayed { .. }
        | Fact::TransactionRetried { .. }
        | Fact::HealBegun { .. }
        | Fact::TransactionEnded(_)
        | Fact::TransactionAnswered { .. }
        | Fact::ReleaseDue { .. }
        | Fact::GroupChanged(_) => 4,
    }
}

/// A growing buffer as bincode wants it.
pub(super) struct Sink<'a>(pub(super) &'a mut Vec<u8>);

impl bincode::enc::write::Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
