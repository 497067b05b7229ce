//! Snapshots on a simulated disk: what is written reads back; what is damaged, torn or cut short
//! is noticed and never answers wrongly.

use std::collections::BTreeMap;
use std::sync::Arc;

use sillage::ids::{Epoch, Lsn};
use sillage::log::{
    Chain, Disk, Looked, Patience, ReadError, SimDisk, SimFault, Snapshot, SnapshotError,
    SnapshotHead, SnapshotRef, SnapshotWriter, StoreId, TableName, snapshot_path,
};

const STORE: StoreId = StoreId(*b"sillage-test-snp");

/// What a snapshot should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    lsn: u64,
    records: BTreeMap<u64, Vec<u8>>,
    tables: [BTreeMap<[u8; 32], Vec<u8>>; 2],
    state: Vec<u8>,
}

impl Model {
    fn random(seed: u64, records: u64, bytes_max: usize) -> Model {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut model = Model { state: b"the state".to_vec(), ..Model::default() };
        for _ in 0..records {
            model.lsn += rng.u64(1..4);
            let letters = rng.u8(1..=255);
            let len = rng.usize(0..=bytes_max);
            let record = (0..len).map(|_| rng.u8(0..letters)).collect();
            model.records.insert(model.lsn, record);
            for (name, table) in TableName::ALL.into_iter().zip(&mut model.tables) {
                let entry: Vec<u8> = (0..name.entry_bytes()).map(|_| rng.u8(..)).collect();
                table.insert(*entry.first_chunk().expect("a key"), entry);
            }
        }
        model.lsn += 1;
        model
    }

    fn head(&self) -> SnapshotHead {
        SnapshotHead { store: STORE, lsn: Lsn(self.lsn), epoch: Epoch(3), chain: Chain([9; 32]) }
    }

    fn path(&self) -> String {
        snapshot_path(Lsn(self.lsn))
    }

    fn write(&self, disk: &SimDisk) -> Result<SnapshotRef, SnapshotError> {
        let mut writer = SnapshotWriter::begin(Arc::new(disk.handle()), self.head())?;
        for (lsn, record) in &self.records {
            writer.record(Lsn(*lsn), record)?;
        }
        for (name, table) in TableName::ALL.into_iter().zip(&self.tables) {
            writer.table(name, table.len() as u64)?;
            for entry in table.values() {
                writer.entry(name, entry)?;
            }
        }
        writer.finish(&self.state)
    }

    /// Asks for everything. Returns whether all was answered; a wrong answer panics.
    fn agrees(&self, snapshot: &Snapshot) -> bool {
        let mut all = true;
        let mut answered = |result: Result<bool, ReadError>| match result {
            Ok(right) => assert!(right, "a wrong answer"),
            Err(_) => all = false,
        };
        assert_eq!(*snapshot.head(), self.head());
        assert_eq!(snapshot.records(), self.records.len() as u64);
        answered(snapshot.state().map(|state| state == self.state));
        let mut out = Vec::new();
        for lsn in 0..=self.lsn + 1 {
            let looked = snapshot.record(Lsn(lsn), Patience::Wait, &mut out);
            let right = self.records.get(&lsn);
            answered(looked.map(|looked| match looked {
                Looked::Found(()) => right == Some(&out),
                Looked::Absent => right.is_none(),
                Looked::NotCached => false,
            }));
        }
        for (name, table) in TableName::ALL.into_iter().zip(&self.tables) {
            assert_eq!(snapshot.entries_in(name), table.len() as u64);
            for (key, entry) in table {
                let found = snapshot.find(name, key, Patience::Wait);
                answered(found.map(|found| found == Looked::Found(entry.clone())));
                let mut other = *key;
                other[31] ^= 1;
                let absent = snapshot.find(name, &other, Patience::Wait);
                answered(absent.map(|absent| absent == Looked::Absent));
            }
            answered(self.streams_entries(snapshot, name));
        }
        for after in [0, self.lsn / 2, self.lsn] {
            answered(self.streams_records(snapshot, after));
        }
        all
    }

    fn streams_records(&self, snapshot: &Snapshot, after: u64) -> Result<bool, ReadError> {
        let mut stream = snapshot.records_after(Lsn(after));
        let mut expected = self.records.range(after + 1..);
        while let Some((lsn, bytes)) = stream.next()? {
            let right = expected.next();
            assert_eq!(right.map(|(lsn, bytes)| (Lsn(*lsn), &bytes[..])), Some((lsn, bytes)));
        }
        Ok(expected.next().is_none())
    }

    fn streams_entries(&self, snapshot: &Snapshot, name: TableName) -> Result<bool, ReadError> {
        let mut stream = snapshot.entries(name);
        let mut expected = self.tables[usize::from(name == TableName::Keys)].values();
        while let Some(entry) = stream.next()? {
            assert_eq!(expected.next().map(|entry| &entry[..]), Some(entry));
        }
        Ok(expected.next().is_none())
    }
}

fn open(disk: &SimDisk, named: &SnapshotRef) -> Option<Snapshot> {
    let disk: Arc<dyn Disk> = Arc::new(disk.handle());
    Snapshot::open(&disk, named, STORE).ok()
}

#[test]
fn what_was_written_reads_back() {
    let sizes = [(0, 10), (1, 10), (50, 300), (3000, 300), (300, 9000), (2, 4 << 20)];
    for (seed, (records, bytes_max)) in (1..).zip(sizes) {
        let model = Model::random(seed, records, bytes_max);
        let disk = SimDisk::new(seed);
        let named = model.write(&disk).expect("written");
        let snapshot = open(&disk.crash(seed), &named).expect("durable and whole");
        assert!(model.agrees(&snapshot), "seed {seed}");
        snapshot.verify(|_| {}).expect("verifies");
    }
}

#[test]
fn flipped_bits_are_noticed_and_never_answer_wrongly() {
    let model = Model::random(11, 12, 60);
    let disk = SimDisk::new(11);
    let named = model.write(&disk).expect("written");
    let bits = disk.bytes(&model.path()).expect("the file").len() as u64 * 8;
    for bit in 0..bits {
        let bad = disk.fork();
        bad.flip(&model.path(), bit);
        if let Some(snapshot) = open(&bad, &named) {
            model.agrees(&snapshot);
            assert!(snapshot.verify(|_| {}).is_err(), "bit {bit} is not noticed");
        }
    }
}

#[test]
fn truncated_files_do_not_open() {
    let model = Model::random(12, 12, 60);
    let disk = SimDisk::new(12);
    let named = model.write(&disk).expect("written");
    let len = disk.bytes(&model.path()).expect("the file").len() as u64;
    for len in 0..len {
        let bad = disk.fork();
        bad.truncate(&model.path(), len);
        assert!(open(&bad, &named).is_none(), "{len} bytes");
    }
}

#[test]
fn crash_at_any_call_leaves_no_snapshot_that_does_not_verify() {
    let model = Model::random(13, 200, 300);
    let whole = SimDisk::new(13);
    let named = model.write(&whole).expect("written");
    for call in 0..whole.calls() {
        for fault in [SimFault::PowerOff, SimFault::Eio, SimFault::Enospc, SimFault::Short] {
            let disk = SimDisk::new(call);
            disk.fail_after(call, fault);
            let written = model.write(&disk);
            assert!(written.is_err() || fault == SimFault::Short, "call {call} {fault:?}");
            for left in [disk.fork(), disk.crash(call)] {
                if left.bytes(&model.path()).is_some() {
                    let snapshot = open(&left, &named).expect("a named file opens");
                    snapshot.verify(|_| {}).expect("a named file verifies");
                }
            }
        }
    }
}

#[test]
fn full_disk_is_said_and_leaves_nothing_behind() {
    let model = Model::random(14, 200, 300);
    let whole = SimDisk::new(14);
    model.write(&whole).expect("written");
    let len = whole.bytes(&model.path()).expect("the file").len() as u64;
    for capacity in (0..len).step_by(97) {
        let disk = SimDisk::new(capacity);
        disk.set_capacity(capacity);
        assert!(matches!(model.write(&disk), Err(SnapshotError::NoSpace)), "{capacity} bytes");
        assert!(disk.paths().is_empty(), "{capacity} bytes: {:?}", disk.paths());
    }
}

#[test]
fn stream_begins_at_the_block_that_holds_its_lsn() {
    let model = Model::random(15, 3000, 300);
    let disk = SimDisk::new(15);
    let named = model.write(&disk).expect("written");
    // The first block is unpacked by whoever streams from the beginning, and by nobody else.
    disk.flip(&model.path(), (4096 + 24) * 8);
    let snapshot = open(&disk, &named).expect("opens");
    assert!(snapshot.records_after(Lsn::ZERO).next().is_err());
    for after in (model.lsn / 2..=model.lsn).step_by(7) {
        assert!(model.streams_records(&snapshot, after).expect("not damaged there"));
    }
}

#[test]
fn page_that_stands_in_the_place_of_another_is_noticed() {
    let model = Model::random(16, 1500, 40);
    let disk = SimDisk::new(16);
    let named = model.write(&disk).expect("written");
    let bytes = disk.bytes(&model.path()).expect("the file");
    let pages: Vec<&[u8]> = bytes.chunks_exact(4096).collect();
    let mut unanswered = 0;
    for (at, pair) in pages.windows(2).enumerate() {
        // As a disk that mixes up two addresses would have it: each page is whole.
        let swapped = disk.fork();
        swapped.damage(&model.path(), (at * 4096) as u64, &[pair[1], pair[0]].concat());
        // Whatever is still answered is answered rightly: a key is never called absent.
        if let Some(snapshot) = open(&swapped, &named) {
            unanswered += u64::from(!model.agrees(&snapshot));
            assert!(snapshot.verify(|_| {}).is_err(), "pages {at} and {}", at + 1);
        }
    }
    assert!(unanswered > 10, "hardly any page was looked at");
}
