//! A log on a simulated disk with a memory of what it was promised.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sillage::ids::{Epoch, Lsn};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{
    Access, Disk, Entry, Kind, Log, OpenError, Opened, Options, Preparer, Refusal, SimDisk,
    Snapshot, SnapshotError, SnapshotRef, SnapshotWriter, StoreId, replay_sealed, snapshot_path,
};

/// The identity of every store in these tests.
pub(crate) const STORE: StoreId = StoreId(*b"sillage-test-log");

/// Smallest segments, everything in the caller's thread.
pub(crate) fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES_MIN, preparer: Preparer::Inline, ..Options::new(STORE) }
}

/// A frame that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// Opens a log and collects what it delivers.
pub(crate) fn open_with(
    disk: &Arc<dyn Disk>,
    options: Options,
) -> Result<(Opened, Vec<Delivered>), Refusal> {
    let mut delivered = Vec::new();
    let apply = |entry: Entry<'_>| -> Result<(), Infallible> {
        let Entry { lsn, epoch, kind, payload, .. } = entry;
        delivered.push(Delivered { lsn, epoch, kind, payload: payload.to_vec() });
        Ok(())
    };
    match sillage::log::open(Arc::clone(disk), options, apply) {
        Ok(opened) => Ok((opened, delivered)),
        Err(OpenError::Refused(refusal)) => Err(refusal),
        Err(OpenError::Apply(never)) => match never {},
    }
}

/// Opens the log on a simulated disk.
pub(crate) fn open(disk: &SimDisk) -> Result<(Opened, Vec<Delivered>), Refusal> {
    open_with(&as_disk(disk), options())
}

/// Another handle to the same simulated disk.
pub(crate) fn as_disk(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.handle())
}

/// Opens the log on a simulated disk and begins a reign.
pub(crate) fn begin(disk: &SimDisk) -> Log {
    let (opened, _) = open(disk).expect("the log opens");
    opened.begin(b"opened").expect("the reign begins")
}

/// The records among what was delivered.
pub(crate) fn records(delivered: &[Delivered]) -> Vec<(Lsn, Vec<u8>)> {
    let records = delivered.iter().filter(|one| one.kind == Kind::Record);
    records.map(|one| (one.lsn, one.payload.clone())).collect()
}

/// A payload that names its LSN, `len` bytes or a little more.
pub(crate) fn payload(n: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("record {n} ").into_bytes();
    let mut rng = fastrand::Rng::with_seed(n);
    while payload.len() < len {
        payload.push(rng.u8(..));
    }
    payload
}

/// What a refusal for damage names. Panics on any other refusal.
pub(crate) fn damage(refusal: &Refusal) -> (String, u64, RangeInclusive<Lsn>) {
    match refusal {
        Refusal::Damaged(damage) => (damage.file.to_string(), damage.offset, damage.lsns.clone()),
        other => panic!("refused for another reason: {other}"),
    }
}

/// A state: the records, by LSN.
pub(crate) type Records = std::collections::BTreeMap<Lsn, Vec<u8>>;

/// What a store holds: the records in the snapshot that it opens with, and those after it.
pub(crate) fn state(disk: &SimDisk) -> Result<(Opened, Records), Refusal> {
    let prepared = sillage::log::prepare(as_disk(disk), options())?;
    let mut found = Records::new();
    if let Some(snapshot) = prepared.snapshot() {
        let mut kept = snapshot.records_after(Lsn::ZERO);
        while let Some((lsn, bytes)) = kept.next().expect("a snapshot that opens is whole here") {
            found.insert(lsn, bytes.to_vec());
        }
    }
    let opened = prepared.replay(|entry| -> Result<(), Infallible> {
        if entry.kind == Kind::Record {
            found.insert(entry.lsn, entry.payload.to_vec());
        }
        Ok(())
    });
    match opened {
        Ok(opened) => Ok((opened, found)),
        Err(OpenError::Refused(refusal)) => Err(refusal),
        Err(OpenError::Apply(never)) => match never {},
    }
}

/// Writes a snapshot of everything up to `upto`, as a compactor does: from the one before and
/// the sealed segments after it.
pub(crate) fn write_snapshot(
    disk: &SimDisk,
    log: &Log,
    upto: Lsn,
) -> Result<(SnapshotRef, u64), SnapshotError> {
    let (disk, current) = (as_disk(disk), log.super_block());
    let named = current.snapshots[0];
    let from = (named.lsn > Lsn::ZERO)
        .then(|| Snapshot::open(&disk, &named, current.store).expect("the newest one opens"));
    let mut records = Records::new();
    let head = replay_sealed(&*disk, &current, from.as_ref(), upto, |entry| {
        if entry.kind == Kind::Record {
            records.insert(entry.lsn, entry.payload.to_vec());
        }
        Ok::<(), Infallible>(())
    });
    let head = match head {
        Ok(head) => head,
        Err(OpenError::Refused(Refusal::Disk(error))) => return Err(error.into()),
        Err(other) => panic!("sealed segments are whole: {other}"),
    };
    let mut writer = SnapshotWriter::begin(Arc::clone(&disk), head)?;
    if let Some(from) = &from {
        let mut kept = from.records_after(Lsn::ZERO);
        while let Some((lsn, bytes)) = kept.next().expect("read") {
            writer.record(lsn, bytes)?;
        }
    }
    for (lsn, bytes) in &records {
        writer.record(*lsn, bytes)?;
    }
    let named = writer.finish(b"state")?;
    let bytes = disk.open(&snapshot_path(named.lsn), Access::Read)?.len()?;
    Ok((named, bytes))
}

/// Seals the log, takes a snapshot, installs it and removes what it makes obsolete.
pub(crate) fn compact(disk: &SimDisk, log: &mut Log) -> Lsn {
    let upto = log.rotate().expect("rotated");
    let (named, bytes) = write_snapshot(disk, log, upto).expect("written");
    log.install(named, bytes, || ()).expect("installed").1.remove().expect("removed");
    upto
}
