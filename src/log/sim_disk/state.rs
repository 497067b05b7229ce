//! What a simulated disk knows: names, files, planned faults.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;

use super::SimFault;
use super::content::Inode;
use crate::log::disk::{Call, DiskError};

#[derive(Clone)]
pub(super) struct State {
    pub(super) rng: Rng,
    /// Files by what they are now called, and by what they are durably called.
    pub(super) names: BTreeMap<Arc<str>, u64>,
    pub(super) durable_names: BTreeMap<Arc<str>, u64>,
    /// Changes of names since the last sync of their directory, in order.
    pub(super) pending_names: Vec<NameChange>,
    pub(super) inodes: BTreeMap<u64, Arc<Inode>>,
    pub(super) next_inode: u64,
    pub(super) capacity: u64,
    pub(super) locked: bool,
    /// Calls that can change the disk, so far.
    pub(super) calls: u64,
    pub(super) faults: BTreeMap<u64, SimFault>,
    pub(super) is_off: bool,
    pub(super) unreadable: Vec<(Arc<str>, Range<u64>)>,
}

#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) dir: Arc<str>,
    pub(super) unset: Option<Arc<str>>,
    pub(super) set: Option<(Arc<str>, u64)>,
}

/// What a planned fault makes of a call.
pub(super) enum Outcome {
    Go,
    Short,
    /// Fail; with the effect or without it.
    Fail(SimFault, Effect),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Done,
    None,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            rng: Rng::with_seed(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            capacity: u64::MAX,
            locked: false,
            calls: 0,
            faults: BTreeMap::new(),
            is_off: false,
            unreadable: Vec::new(),
        }
    }

    /// Counts a call that can change the disk and looks up its fate.
    pub(super) fn count(&mut self) -> Outcome {
        if self.is_off {
            return Outcome::Fail(SimFault::PowerOff, Effect::None);
        }
        let fault = self.faults.remove(&self.calls);
        self.calls += 1;
        match fault {
            None => Outcome::Go,
            Some(SimFault::Short) => Outcome::Short,
            Some(SimFault::PowerOff) => {
                self.is_off = true;
                let effect = if self.rng.bool() { Effect::Done } else { Effect::None };
                Outcome::Fail(SimFault::PowerOff, effect)
            }
            Some(fault) => Outcome::Fail(fault, Effect::None),
        }
    }

    /// Makes a change of names, or what the call's fate leaves of it.
    pub(super) fn change(
        &mut self,
        call: Call,
        path: &str,
        change: NameChange,
    ) -> Result<(), DiskError> {
        let outcome = self.count();
        if !matches!(outcome, Outcome::Fail(_, Effect::None)) {
            change.apply(&mut self.names);
            self.pending_names.push(change);
        }
        match outcome {
            Outcome::Fail(fault, _) => Err(failure(call, path, fault)),
            _ => Ok(()),
        }
    }

    pub(super) fn check_readable(&self, call: Call, path: &str) -> Result<(), DiskError> {
        if self.is_off { Err(failure(call, path, SimFault::PowerOff)) } else { Ok(()) }
    }

    pub(super) fn add_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Arc::default());
        self.next_inode
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&inode).expect("inodes are never removed while open"))
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].visible.len()).sum()
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let is_journal = rng.bool();
        let kept = rng.usize(..=self.pending_names.len());
        for (place, change) in std::mem::take(&mut self.pending_names).iter().enumerate() {
            // File systems with a journal keep a prefix of the changes; nothing says they must.
            if if is_journal { place < kept } else { rng.bool() } {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
        for inode in self.inodes.values_mut() {
            if !inode.is_settled() {
                Arc::make_mut(inode).lose_power(rng);
            }
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<Arc<str>, u64>) {
        if let Some(name) = &self.unset {
            names.remove(name);
        }
        if let Some((name, inode)) = &self.set {
            names.insert(Arc::clone(name), *inode);
        }
    }
}

pub(super) fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

pub(super) fn failure(call: Call, path: &str, fault: SimFault) -> DiskError {
    let source = match fault {
        SimFault::Enospc => io::ErrorKind::StorageFull.into(),
        SimFault::Interrupted => io::ErrorKind::Interrupted.into(),
        SimFault::PowerOff => io::Error::other("the machine is off"),
        SimFault::Eio | SimFault::Short => io::Error::other("input/output error"),
    };
    DiskError { call, path: path.into(), source }
}

pub(super) fn not_found(call: Call, path: &str) -> DiskError {
    DiskError { call, path: path.into(), source: io::ErrorKind::NotFound.into() }
}
