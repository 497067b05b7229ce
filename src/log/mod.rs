//! The write-ahead log: frames in segments, and the evidence of what was acknowledged.
//!
//! ```text
//! LOCK               one process at a time
//! SUPER.a SUPER.b    what the store is and which files it must have    (superblock)
//! WATERMARK          what was durable last                             (watermark)
//! log/…0001.seg      header page, frames, seal                         (segment, frame)
//! log/…4711.seg      header page, frames, zeros: the tail
//! log/next.tmp       zeros: the segment to come                        (spare)
//! snapshots/…42.snap what is still needed of all records up to 42      (snapshot)
//! quarantine/        copies of what recovery and repair cut
//! ```
//!
//! **Writing** ([`Log`]): frames are encoded into a buffer; one positioned write and one sync
//! make the whole buffer durable. Each frame's header says up to which LSN the log was durable
//! when it was encoded, and WATERMARK says it again after each sync.
//!
//! **Opening** ([`prepare`], [`Prepared::replay`]): the newest snapshot that opens is where the
//! log begins; every frame after it is verified and handed to the caller in one pass. Where the
//! last good frame is followed by rubbish, the evidence decides: below the highest LSN that
//! any header, WATERMARK or SUPER calls durable, something acknowledged is damaged and the log
//! refuses to open, naming the place; above it, a batch was torn that nobody was promised, and
//! its remains are set aside. Zeros are not the end of the log, they are only what is expected
//! behind it.
//!
//! **Compacting**: [`Log::rotate`] gives an LSN at which a segment ends. Beside the writing,
//! another thread makes a snapshot of all up to there, from the one before and from sealed
//! segments ([`replay_sealed`], [`SnapshotWriter`]). [`Log::install`] names it in SUPER; what
//! only the one before the last needed is then removed, when nobody reads it any more
//! ([`Obsolete`], [`Backup`]).
//!
//! The log sees bytes, never records. It is blocking code; the engine's writer thread owns it.
//!
//! Reading order: [`disk`], `frame`, `segment`, `superblock`, `watermark`, `writer`, `spare`,
//! `reader`, `scan`, `replay`, `recovery`, `walk`, `tail`, `opened`; for snapshots [`snapshot`],
//! `base`, `sealed`, `install`, `retain`, `backup`; then, for damaged stores, `survey`,
//! `examine`, [`repair()`] and [`inspect`]. `docs/FORMAT.md` has every byte.

mod backup;
mod base;
pub mod disk;
mod error;
mod examine;
mod frame;
pub mod inspect;
mod install;
mod loss;
mod opened;
mod os_disk;
mod page;
mod reader;
mod recovery;
mod repair;
mod replay;
mod retain;
mod scan;
mod sealed;
mod segment;
mod sim_disk;
pub mod snapshot;
mod spare;
mod superblock;
mod survey;
mod tail;
mod walk;
mod watermark;
mod writer;

pub use backup::{Backup, BackupFile};
pub use disk::{Access, Disk, DiskError, DiskFile};
pub use error::{Damage, Error, Fault, OpenError, ReadError, Refusal};
pub use frame::{Chain, Flaw, Kind, Place, StoreId};
pub use install::SnapshotInfo;
pub use loss::Loss;
pub use opened::Opened;
pub use os_disk::OsDisk;
pub use reader::Reader;
pub use recovery::{Entry, Options, Prepared, RecoveryReport, TailPolicy, open, prepare};
pub use repair::{RepairError, RepairReport, repair};
pub use retain::{Obsolete, Retain};
pub use sealed::replay_sealed;
pub use sim_disk::{SimDisk, SimFault};
pub use snapshot::{
    EntryStream, Gap, Looked, Patience, RecordStream, Snapshot, SnapshotError, SnapshotFault,
    SnapshotHead, SnapshotWriter, TableName, snapshot_path,
};
pub use spare::Preparer;
pub use superblock::{SnapshotRef, Super, SuperCopy};
pub use watermark::Watermark;
pub use writer::{Log, Space};

/// Held while a process has the log open.
const LOCK: &str = "LOCK";
/// Where copies of what is cut are kept.
const QUARANTINE: &str = "quarantine";

const _: () = assert!(usize::BITS >= 64, "offsets in files fit usize");

/// An offset or length that fits memory.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("usize has 64 bits")
}
